"""A step in one file: every kind of step gives what its bundle says, and every bundle
that was touched is refused.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import CASES, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.audit.steps.bundle import (
    DIGEST,
    FACTS,
    TAG,
    BundleOrigin,
    StepBundle,
    StepBundleError,
    is_step_bundle,
    read_bundle,
    write_bundle,
)
from sevenfold.audit.steps.check import check_step
from sevenfold.audit.steps.export import export_step, standing, take_step
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.process.log import Silent
from sevenfold.model import native
from sevenfold.model.kernels import operators
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints.tensor_digest import tensors_digest
from sevenfold.train.recording.records import Unrecorded

pytestmark = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
ABOUT = {"recipe_name": "golden", "recipe_digest": "0" * 64, "tokens_root": "1" * 64, "sealed_root": None}


@cache
def bundle_of(name: str, step: int, directory: Path) -> StepBundle:
    """Step `step` of a golden run."""
    rerun = standing(run_of(CASES[name], directory), None, BundleOrigin(**ABOUT), Unrecorded())
    rerun.go_to(step - 1)
    return take_step(rerun)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that holds."""
    path = tmp_path_factory.mktemp("bundle") / "step.s7step"
    write_bundle(path, bundle_of("objectives", 2, path.parent))
    return path


def parts(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The facts and tensors of a bundle, for somebody who changes them."""
    from safetensors.torch import load

    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"][FACTS]), load(data)


def forged(path: Path, facts: Json, tensors: dict[str, torch.Tensor]) -> Path:
    """The bundle of these, under a digest that is right."""
    from safetensors.torch import save_file

    text = facts if isinstance(facts, bytes) else canonical_json(facts)
    save_file(tensors, path, {FACTS: text.decode(), DIGEST: tensors_digest(TAG, tensors, text)})
    return path


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_kind_of_step_gives_what_its_bundle_says(name: str, step: int, tmp_path: Path) -> None:
    path = tmp_path / "step.s7step"
    n_bytes = write_bundle(path, bundle_of(name, step, tmp_path.parent))
    assert n_bytes == path.stat().st_size
    assert is_step_bundle(path)
    value = check_step(path, Silent())
    assert (value["same"], value["differences"]) == (True, [])
    assert read_bundle(path).facts == bundle_of(name, step, tmp_path.parent).facts


def test_a_processor_that_computes_something_else_says_no(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = native.call

    def other(device: Any, name: str, *arguments: Any) -> None:
        original(device, name, *arguments)
        if name == "s7_gate":
            word = (native.ctypes.c_uint32).from_address(arguments[2].value)
            word.value ^= 1

    monkeypatch.setattr(native, "call", other)
    value = check_step(plain, Silent())
    assert value["same"] is False
    fields = [row["field"] for row in value["differences"]]
    assert {"gradient", "weights", "chain", "state_after"} <= set(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loss", 1.5), ("learning_rate", 0.25), ("grad_norm", 1.0), ("gradient", "a" * 64),
        ("weights", "b" * 64), ("chain", "c" * 64), ("state_after", "d" * 64),
    ],
)  # fmt: skip
def test_each_claim_is_held_against_what_comes_out(
    field: str, value: Json, plain: Path, tmp_path: Path
) -> None:
    facts, tensors = parts(plain)
    facts["claims"][field] = value
    found = check_step(forged(tmp_path / "forged", facts, tensors), Silent())
    assert [row["field"] for row in found["differences"]] == [field]
    assert found["differences"][0]["expected"] == value


def test_a_batch_that_was_changed_gives_another_step(plain: Path, tmp_path: Path) -> None:
    facts, tensors = parts(plain)
    tensors["batch.0.ids"][0, 0] ^= 1
    value = check_step(forged(tmp_path / "forged", facts, tensors), Silent())
    assert not value["same"]


def test_a_weight_that_is_not_a_number_is_a_no(plain: Path, tmp_path: Path) -> None:
    bundle = bundle_of("dense", 1, plain.parent)
    model = {name: tensor.clone() for name, tensor in bundle.model.items()}
    model["final_norm.weight"][0] = torch.nan
    other = replace(bundle, model=model)
    claims = other.facts.claims.model_copy(update={"states": (other.state,)})
    other = replace(other, facts=other.facts.model_copy(update={"claims": claims}))
    write_bundle(tmp_path / "nan", other)
    value = check_step(tmp_path / "nan", Silent())
    assert "nan" in value["differences"][0]["actual"]


def _facts_changed(path: tuple[str, ...], value: Json) -> Callable[[Any, Any], None]:
    def change(facts: Any, _tensors: Any) -> None:
        for key in path[:-1]:
            facts = facts[key]
        facts[path[-1]] = value

    return change


def _tensors_changed(name: str, value: torch.Tensor | None) -> Callable[[Any, Any], None]:
    def change(_facts: Any, tensors: Any) -> None:
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


REFUSED: dict[str, tuple[Callable[[Any, Any], None], str]] = {
    "version": (_facts_changed(("step_bundle",), 2), "its version is 2"),
    "law": (_facts_changed(("arithmetic",), "aten"), "it is of 'aten'"),
    "bf16": (_facts_changed(("train", "precision"), "bf16"), "its precision is bf16"),
    "unknown key": (_facts_changed(("more",), 1), "more"),
    "no step": (_facts_changed(("step",), 0), "step"),
    "a step without end": (_facts_changed(("step",), 1 << 50), "step"),
    "infinity": (_facts_changed(("claims", "loss"), "inf"), "claims.loss"),
    "no root": (_facts_changed(("claims", "chain"), "xyz"), "claims.chain"),
    "another state": (_facts_changed(("claims", "states"), ["e" * 64]), "whose root it names"),
    "another step": (_facts_changed(("step",), 3), "whose root it names"),
    "another width": (_facts_changed(("model", "d_model"), 44), "model."),
    "a giant": (_facts_changed(("model", "vocab_size"), 1 << 20), "of the"),
    "a stack for all": (_facts_changed(("stack",), 1), "trains all with"),
    "another stack": (lambda f, _t: f.update(stack=1, trains="expert"), "no expert stack"),
    "no tensor": (_tensors_changed("model.final_norm.weight", None), "is missing"),
    "one more": (_tensors_changed("model.more", torch.zeros(1)), "none of its tensors"),
    "another group": (_tensors_changed("more.x", torch.zeros(1)), "which no step has"),
    "another type": (_tensors_changed("model.final_norm.weight", torch.zeros(40).double()), "float64"),
    "no moment": (_tensors_changed("optimizer.final_norm.weight.exp_avg", None), "is missing"),
    "no batch": (_tensors_changed("batch.1.ids", None), "batch.1.ids"),
    "too many batches": (_tensors_changed("batch.3.ids", torch.zeros(1, 2).long()), "none of its tensors"),
    "a token outside": (_tensors_changed("batch.0.ids", torch.full((4, 41), 400)), "has not"),
    "a token below": (_tensors_changed("batch.0.ids", torch.full((4, 41), -1)), "has not"),
    "rows that are none": (_tensors_changed("batch.0.ids", torch.zeros(4).long()), "rows of token ids"),
    "a mask of halves": (_tensors_changed("batch.1.counted", torch.full((4, 40), 0.5)), "counted"),
    "a mask of nothing": (_tensors_changed("batch.1.counted", torch.zeros(4, 40)), "counted"),
    "a router": (_tensors_changed("router", torch.zeros(261).long()), "has none"),
    "a transcript": (_tensors_changed("transcript", torch.zeros(3)), "transcript"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_does_not_fit_is_refused_by_name(name: str, plain: Path, tmp_path: Path) -> None:
    facts, tensors = parts(plain)
    change, words = REFUSED[name]
    change(facts, tensors)
    with pytest.raises(StepBundleError, match=r"step bundle|root it names") as caught:
        read_bundle(forged(tmp_path / "forged", facts, tensors))
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["no router", "another router", "a router outside"])
def test_the_router_of_experts(name: str, tmp_path: Path) -> None:
    write_bundle(tmp_path / "plain", bundle_of("routed", 1, tmp_path.parent))
    facts, tensors = parts(tmp_path / "plain")
    if name == "no router":
        del tensors["router"]
    elif name == "a router outside":
        tensors["router"][7] = 3
    else:
        seen = int(tensors["batch.0.ids"][0, 0])
        tensors["router"][seen] = (tensors["router"][seen] + 1) % 3
        assert not check_step(forged(tmp_path / "forged", facts, tensors), Silent())["same"]
        return
    with pytest.raises(StepBundleError, match="router"):
        read_bundle(forged(tmp_path / "forged", facts, tensors))


def test_a_key_twice_is_refused(plain: Path, tmp_path: Path) -> None:
    facts, tensors = parts(plain)
    text = canonical_json(facts).replace(b'"step":2', b'"step":2,"step":2')
    with pytest.raises(StepBundleError, match="twice"):
        read_bundle(forged(tmp_path / "forged", text, tensors))


@settings(max_examples=60)
@given(data=st.data())
def test_no_changed_or_cut_byte_passes(data: st.DataObject, plain: Path, tmp_path_factory: Any) -> None:
    good = plain.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1) | st.integers(0, 4000))
    bad = bytearray(good)
    if data.draw(st.booleans()):
        bad[at] ^= data.draw(st.integers(1, 255))
    else:
        bad = bad[:at]
    path = tmp_path_factory.getbasetemp() / "changed.s7step"
    path.write_bytes(bad)
    with pytest.raises(StepBundleError):
        read_bundle(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_bundle(tmp_path / "none")
    with pytest.raises(StorageError):
        read_bundle(tmp_path)


def test_a_run_exports_a_step_of_itself(finished_run: Job, tmp_path: Path) -> None:
    out = tmp_path / "step.s7step"
    value = export_step(finished_run.out, 30, out, None, Silent())
    assert value["same"]
    assert value["n_bytes"] == out.stat().st_size
    assert value["started_from"] == "train/checkpoint-00000020.safetensors"
    facts = read_bundle(out).facts
    assert len(facts.claims.states) == 10, "the state after step 20 and after each of the nine that followed"
    trace = [json.loads(x) for x in (finished_run.out / "train/trace.jsonl").read_bytes().splitlines()]
    last = trace[-1]
    assert last["step"] == 30
    claims = facts.claims
    assert [claims.gradient, claims.weights, claims.chain] == [
        last[n] for n in ("gradient", "weights", "chain")
    ]
    assert facts.origin.sealed_root == finished_run.manifest("seal").facts["root"]
    checked = check_step(out, Silent())
    assert checked["same"]
    assert checked["origin"]["recipe_digest"] == finished_run.recipe.digest


def test_a_run_that_is_not_what_it_recorded_exports_nothing(
    dense_run: Job, copied: Callable[[Job], Path], tmp_path: Path
) -> None:
    copy, out = copied(dense_run), tmp_path / "step.s7step"
    path = copy / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[21] = lines[21].replace('"loss":', '"loss":1')
    path.write_text("".join(lines))
    value = export_step(copy, 25, out, None, Silent())
    assert not value["same"]
    assert not out.exists()
    assert any("metrics.jsonl" in row["where"] for row in value["differences"])


def test_a_run_outside_the_law_exports_nothing(dense_run: Job, tmp_path: Path) -> None:
    train = dense_run.recipe.train.model_copy(update={"precision": "bf16"})
    other = dense_run.recipe.model_copy(update={"train": train})
    with pytest.raises(UsageError, match="its precision is bf16"):
        export_step(dense_run.out, 3, tmp_path / "out", other, Silent())
    with pytest.raises(UsageError, match="beyond the end"):
        export_step(dense_run.out, 31, tmp_path / "out", None, Silent())


def test_an_operator_that_the_step_has_not_is_refused(dense_run: Job, tmp_path: Path) -> None:
    out = tmp_path / "step.s7step"
    with pytest.raises(UsageError, match="--operator 999999") as refused:
        export_step(dense_run.out, 1, out, dense_run.recipe, Silent(), keep=999999)
    assert "operators 0 to" in str(refused.value)
    assert not out.exists()
