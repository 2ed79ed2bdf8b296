"""Steps done again: the same from a checkpoint and from the seed; each canary
found at its file and its step.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold import pipeline
from sevenfold.audit.records import METRIC_FIELDS, RecordSource
from sevenfold.audit.replay import audit_steps, parse_steps
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.manifest import hash_outputs, output_root, read_manifest, write_manifest
from sevenfold.core.process.log import Silent
from sevenfold.model.kernels.operators import LAW
from sevenfold.recipe.schema import Recipe
from sevenfold.report.audit import audit_lines
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
    save_checkpoint,
)
from sevenfold.train.recording.records import TRACE_EVERY

Copied = Callable[[Job], Path]


def audit(path: Path, first: int, last: int, given: Recipe | None = None) -> dict[str, Json]:
    return audit_steps(path, first, last, given, Silent())


def only(value: dict[str, Json]) -> dict[str, Json]:
    """The one difference of an audit that found one."""
    assert value["same"] is False
    assert len(value["differences"]) == 1, value["differences"]
    return value["differences"][0]


def reseal_manifest(out: Path, stage: str, **changes: Any) -> None:
    """Make a stage's manifest agree with what now lies there, as a forger would."""
    manifest = read_manifest(out / stage)
    outputs = hash_outputs(out / stage, [o.path for o in manifest.outputs])
    write_manifest(out / stage, replace(manifest, outputs=outputs, root=output_root(outputs), **changes))


def edit_row(path: Path, step: int, field: str, value: Json) -> None:
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    next(row for row in rows if row["step"] == step)[field] = value
    path.write_bytes(b"".join(canonical_json(row) + b"\n" for row in rows))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint under the names of its file."""
    checkpoint = read_checkpoint(path)
    return {f"model.{n}": t for n, t in checkpoint.model.items()} | {
        f"optimizer.{n}": t for n, t in checkpoint.optimizer.items()
    }


def forge(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a checkpoint with other tensors under a digest that is right, as
    somebody would who wants to deceive.
    """
    parts = {
        kind: {n.removeprefix(f"{kind}."): t for n, t in tensors.items() if n.startswith(f"{kind}.")}
        for kind in ("model", "optimizer")
    }
    save_checkpoint(path.parent, replace(read_checkpoint(path), **parts))


def test_the_same_from_a_checkpoint_and_from_the_seed(
    finished_run: Job, listing: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = listing(finished_run.out)
    tail = audit(finished_run.out, 25, 30)
    assert (tail["same"], tail["differences"], tail["warnings"]) == (True, [], [])
    assert tail["started_from"] == "train/checkpoint-00000020.safetensors"
    assert tail["executed"] == [21, 30]
    assert tail["compared"] == {"steps": 10, "trace_points": 1}
    head = audit(finished_run.out, 2, 4)
    assert (head["same"], head["started_from"], head["executed"]) == (True, "seed", [1, 4])
    assert listing(finished_run.out) == before, "an audit writes nothing into the audited run"
    assert list(tmp_path.iterdir()) == [], "the scratch directory is gone"


def test_a_step_after_a_checkpoint_does_not_use_a_later_one(dense_run: Job) -> None:
    assert audit(dense_run.out, 20, 20)["started_from"] == "seed"
    assert audit(dense_run.out, 21, 21)["executed"] == [21, 21]


def test_one_weight_of_a_checkpoint(dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    path = checkpoint_path(out / "train", 20)
    tensors = tensors_of(path)
    name = next(n for n in sorted(tensors) if n.startswith("model.") and "down_proj" in n)
    tensors[name].view(-1)[3] += 0.01
    forge(path, tensors)
    found = only(audit(out, 25, 30))
    assert (found["step"], found["where"], found["field"]) == (21, "train/metrics.jsonl", "loss")
    recorded = json.loads((out / "train" / "metrics.jsonl").read_bytes().splitlines()[20])
    assert found["expected"] == recorded["loss"] != found["actual"]


def test_a_checkpoint_with_a_weight_that_is_not_a_number(dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    path = checkpoint_path(out / "train", 20)
    tensors = tensors_of(path)
    tensors["model.final_norm.weight"][0] = torch.nan
    forge(path, tensors)
    found = only(audit(out, 21, 30))
    assert (found["step"], found["field"]) == (21, "loss")
    assert "nan" in found["actual"]


def test_a_damaged_or_foreign_checkpoint_is_passed_over(dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    path = checkpoint_path(out / "train", 20)
    path.write_bytes(path.read_bytes()[:1000])
    value = audit(out, 21, 22)
    assert (value["same"], value["started_from"]) == (True, "seed")
    assert "damaged" in value["warnings"][0]
    path.write_bytes(checkpoint_path(out / "train", 30).read_bytes())
    assert "it is of step 30" in audit(out, 21, 22)["warnings"][0]


def test_one_byte_of_the_token_file(dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    path = out / "tokenizer" / "train.tokens"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    value = audit(out, 1, 2)
    found = only(value)
    assert (found["where"], found["field"], found["step"]) == ("tokenizer/train.tokens", "sha256", None)
    assert value["executed"] is None
    # With the manifest forged too, the sealed root tells.
    reseal_manifest(out, "tokenizer")
    assert "tokenizer/manifest.json" in {d["where"] for d in audit(out, 1, 2)["differences"]}


@pytest.mark.parametrize("field", ["gradient", "weights", "chain"])
def test_one_hash_of_the_trace(dense_run: Job, copied: Copied, field: str) -> None:
    out = copied(dense_run)
    edit_row(out / "train" / "trace.jsonl", 30, field, "ab" * 32)
    value = audit(out, 29, 30)
    assert value["first_step"] == 30
    file, step = value["differences"]
    assert (file["where"], file["field"], file["step"]) == ("train/trace.jsonl", "sha256", None)
    assert (step["where"], step["field"], step["expected"]) == ("train/trace.jsonl", field, "ab" * 32)


def test_one_row_of_the_metrics(dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    edit_row(out / "train" / "metrics.jsonl", 24, "grad_norm", 1.5)
    value = audit(out, 21, 30)
    assert value["first_step"] == 24
    assert [d["where"] for d in value["differences"]] == ["train/metrics.jsonl"] * 2
    assert value["differences"][1]["field"] == "grad_norm"
    # Before the forged step all is well, but the file is not what its manifest says.
    early = only(audit(out, 21, 23))
    assert (early["where"], early["step"]) == ("train/metrics.jsonl", None)


def test_a_row_that_is_gone(dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    path = out / "train" / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:27]))
    value = audit(out, 21, 30)
    assert (value["first_step"], value["differences"][1]["field"]) == (28, "row")


def test_forged_files_with_a_forged_manifest_differ_from_the_sealed_lanes(
    dense_run: Job, copied: Copied
) -> None:
    out = copied(dense_run)
    edit_row(out / "train" / "metrics.jsonl", 24, "loss", 1.5)
    reseal_manifest(out, "train")
    value = audit(out, 21, 30)
    assert value["first_step"] == 24
    assert value["differences"][0]["where"] == "train/manifest.json"


def test_another_seed(dense_run: Job, copied: Copied, make_job: Callable[..., Job]) -> None:
    other = make_job(dense_run.out, train={"seed": 4}).recipe
    value = audit(dense_run.out, 1, 3, other)
    found = only(value)
    assert (found["where"], found["field"]) == ("recipe", "train.seed")
    assert (found["expected"], found["actual"]) == (3, 4)
    # A forger who also changes the manifests of a run without a seal is found by the first step.
    out = copied(dense_run)
    (out / "model.s7l").unlink()
    for stage in ("tokenizer", "train"):
        reseal_manifest(out, stage, recipe_digest=other.digest)
    found = only(audit(out, 1, 3, other))
    assert (found["where"], found["field"], found["step"]) == ("train/metrics.jsonl", "loss", 1)


@pytest.mark.parametrize("law", ["", "another"])
def test_another_tool_is_a_warning_where_it_may_decide_bits(law: str, dense_run: Job, copied: Copied) -> None:
    out = copied(dense_run)
    manifest = read_manifest(out / "train")
    tools = asdict(manifest)["tools"]
    here = tools["arithmetic"]
    write_manifest(
        out / "train", replace(manifest, tools=tools | {"torch": "2.11.0", "arithmetic": law or here})
    )
    value = audit(out, 1, 1)
    assert value["same"] is True
    lines = [f"train: arithmetic is {here} here, was another"] if law else []
    if law or here != LAW:
        lines.append(f"train: torch is {torch.__version__} here, was 2.11.0")
    assert value["warnings"] == lines


def test_a_run_that_has_not_finished(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job(tmp_path / "run")
    pipeline.make(job, until="train")
    with pytest.raises(UsageError, match="--recipe"):
        audit(job.out, 1, 2)
    (job.out / "train" / "manifest.json").unlink()
    path = job.out / "train" / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:22])[:-5])
    assert audit(job.out, 20, 21, job.recipe)["same"] is True
    with pytest.raises(UsageError, match=r"recorded 21 of 30 steps.*1\.\.21"):
        audit(job.out, 20, 22, job.recipe)


def test_what_cannot_be_audited(dense_run: Job, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        audit(tmp_path / "none", 1, 2)
    with pytest.raises(UsageError, match="is a file"):
        audit(dense_run.out / "model.s7l", 1, 2)
    with pytest.raises(UsageError, match=r"30 steps.*1\.\.30"):
        audit(dense_run.out, 30, 31)
    with pytest.raises(StorageError):
        audit(tmp_path, 1, 2, dense_run.recipe)


def test_keep_every_keeps_checkpoints_and_changes_no_weight(
    dense_run: Job, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job(tmp_path / "run", train={"keep_every": 7, "checkpoint_every": 4})
    pipeline.make(job, until="train")
    assert checkpoint_steps(job.out / "train") == [7, 14, 21, 28, 30]
    for name in ("model.safetensors", "metrics.jsonl", "trace.jsonl"):
        assert (job.out / "train" / name).read_bytes() == (dense_run.out / "train" / name).read_bytes()
    value = audit(job.out, 15, 16, job.recipe)
    assert (value["same"], value["executed"]) == (True, [15, 16])


def test_checkpoints_of_an_older_run_do_not_push_out_new_ones(
    dense_run: Job, make_job: Callable[..., Job], copied: Copied
) -> None:
    out = copied(dense_run)
    job = replace(make_job(out, train={"tokens": 20 * 4 * 64}), out=out)
    pipeline.make(job, until="train")
    assert checkpoint_steps(out / "train") == [10, 20]


def test_the_trace_point_at_a_checkpoint_is_checked(make_job: Callable[..., Job], tmp_path: Path) -> None:
    steps = TRACE_EVERY + 2
    job = make_job(
        tmp_path / "run", train={"tokens": steps * 2 * 16, "batch_sequences": 2, "sequence": 16,
                                 "checkpoint_every": TRACE_EVERY},
    )  # fmt: skip
    pipeline.make(job, until="train")
    assert audit(job.out, steps, steps, job.recipe)["compared"] == {"steps": 2, "trace_points": 1}
    path = checkpoint_path(job.out / "train", TRACE_EVERY)
    tensors = tensors_of(path)
    tensors["model.final_norm.weight"][0] += 1e-6
    forge(path, tensors)
    found = only(audit(job.out, steps, steps, job.recipe))
    assert (found["where"], found["field"], found["step"]) == (f"train/{path.name}", "weights", TRACE_EVERY)


def test_a_change_of_the_optimiser_shows_at_the_next_trace_point_at_the_latest(
    dense_run: Job, copied: Copied
) -> None:
    out = copied(dense_run)
    path = checkpoint_path(out / "train", 20)
    tensors = tensors_of(path)
    moment = tensors[next(name for name in sorted(tensors) if name.endswith(".exp_avg"))].view(-1)
    moment[moment.abs().argmax()] *= 1.01
    forge(path, tensors)
    # A smaller change may be lost in the rounding of a loss, so figures alone are
    # not called the same bytes.
    figures = audit_lines(audit(dense_run.out, 21, 22))[-1]
    assert figures.startswith("same figures: steps 21..22; no trace point")
    found = only(audit(out, 21, 30))
    assert 21 <= found["step"] <= 30
    assert audit_lines(audit(dense_run.out, 21, 30))[-1] == "same bytes: steps 21..30"


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_ranges_are_read_as_written(first: int, more: int) -> None:
    assert parse_steps(f"{first}..{first + more}") == (first, first + more)


@given(st.text(max_size=12).filter(lambda text: ".." not in text))
def test_anything_else_is_refused_and_names_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"A\.\.B"):
        parse_steps(text)


@pytest.mark.parametrize(
    "text", ["5", "9..3", "0..3", "1..", "..3", "1..2..3", "1...2", "-1..2", "1..2 ", "\u0661..2"]
)
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"A\.\.B"):
        parse_steps(text)


ROW = st.fixed_dictionaries(
    {name: st.floats(allow_nan=False, allow_infinity=False) for name in METRIC_FIELDS}
)


@settings(max_examples=50)
@given(ROW, st.sampled_from(METRIC_FIELDS))
def test_a_row_equals_itself_and_no_other(row: dict[str, float], field: str) -> None:
    source = RecordSource(
        name="x", rows={1: json.loads(canonical_json(row))}, fields=METRIC_FIELDS, complete=True
    )
    assert source.check(row | {"step": 1}) is None
    other = 1.0 if row[field] != 1.0 else 2.0
    found = source.check(row | {"step": 1, field: other})
    assert found is not None
    assert (found.field, found.step) == (field, 1)
