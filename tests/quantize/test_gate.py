"""The quality gate: what it refuses, what may be accepted, and that the seal says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.audit.full import audit_full
from sevenfold.cli import app
from sevenfold.core.errors import QualityError
from sevenfold.core.files import read_json
from sevenfold.core.manifest import read_manifest
from sevenfold.core.process.log import Silent
from sevenfold.quantize import stage
from sevenfold.quantize.gate import ACCEPTED, MET, gate_rows, pass_gate
from sevenfold.runs.job import Job

LIMITS = {"max_bpb_increase": 0.002, "min_top1_agreement": 0.98}


def quality(increase: float, agreement: float) -> dict[str, Any]:
    return {
        "bpb_fp32": 1.5,
        "bpb_int": 1.5 * (1 + increase),
        "bpb_increase": increase,
        "top1_agreement": agreement,
        "gate": LIMITS,
    }


def test_what_meets_the_gate_passes_and_is_never_called_accepted() -> None:
    for accept in (False, True):
        assert pass_gate(quality(0.002, 0.98), accept=accept) == MET
        assert pass_gate(quality(-0.01, 1.0), accept=accept) == MET


@pytest.mark.parametrize(
    ("increase", "agreement", "where"),
    [
        (0.0021, 0.99, "max_bpb_increase"),
        (0.001, 0.9799, "min_top1_agreement"),
        (0.001, float("nan"), "min_top1_agreement"),
    ],
)
def test_what_misses_it_is_refused_unless_accepted(increase: float, agreement: float, where: str) -> None:
    with pytest.raises(QualityError, match=where) as caught:
        pass_gate(quality(increase, agreement), accept=False)
    assert caught.value.exit_code == 6
    assert "--accept-quality" in str(caught.value)
    assert pass_gate(quality(increase, agreement), accept=True) == ACCEPTED


@pytest.mark.parametrize("increase", [0.0201, 5.0, float("nan"), float("inf")])
def test_the_ceiling_holds_for_every_recipe(increase: float) -> None:
    for accept in (False, True):
        with pytest.raises(QualityError, match="no recipe may cost more than 2%"):
            pass_gate(quality(increase, 1.0), accept=accept)


def test_the_table_has_a_row_for_each_gate() -> None:
    rows = gate_rows(quality(0.0021, 0.991))
    assert rows[0] == ["held-out bits per byte", "1.50000", "1.50315", "+0.210%", "at most +0.200%", "fail"]
    assert rows[1] == ["top-1 agreement", "", "99.10%", "", "at least 98.00%", "pass"]


@pytest.fixture
def strict(dense_run: Job, tmp_path: Path) -> Job:
    """The finished run, copied, with a recipe that asks for what no integers reach."""
    shutil.copytree(dense_run.out, tmp_path / "out")
    (tmp_path / "out" / "model.s7l").chmod(0o644)
    quantize = dense_run.recipe.quantize.model_copy(update={"max_bpb_increase": -0.5})
    return replace(
        dense_run,
        recipe=dense_run.recipe.model_copy(update={"quantize": quantize}),
        out=tmp_path / "out",
        replace=True,
    )


def test_a_refused_model_is_measured_but_not_sealed(strict: Job) -> None:
    before = read_artifact(strict.out / "model.s7l").root
    with pytest.raises(QualityError, match="the recipe allows -50"):
        pipeline.make(strict)
    assert [row[-1] for row in gate_rows(read_json(strict.directory("quantize") / "quality.json"))] == [
        "fail",
        "pass",
    ]
    assert read_manifest(strict.directory("quantize")) is None
    assert read_artifact(strict.out / "model.s7l").root == before


def test_an_accepted_model_says_so_and_can_be_made_again(strict: Job) -> None:
    pipeline.make(replace(strict, accept_quality=True))
    assert strict.manifest("quantize").facts["outcome"] == ACCEPTED
    sealed = read_artifact(strict.out / "model.s7l")
    assert sealed.provenance["identity"]["facts"]["quantize"]["outcome"] == ACCEPTED
    assert pipeline.make(strict) == [], "what was accepted stays so"
    audit = audit_full(strict.out, strict.recipe, strict.recipe_dir, Silent())
    assert audit["same"], audit["differences"]


def test_the_verb_shows_the_table_and_refuses(strict: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    path = strict.recipe_dir / "verb.yaml"
    path.write_text(yaml.safe_dump(strict.recipe.resolved() | {"quantize": {"eval_windows": 8}}))
    command = ["quantize", str(path), "--out", str(strict.out), "--force"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert done.stdout.count("pass") == 2
    monkeypatch.setattr(stage, "limits_of", lambda _spec: LIMITS | {"max_bpb_increase": -0.5})
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 6
    assert "at most -50.000% fail" in " ".join(refused.stdout.split())
    accepted = CliRunner().invoke(app, [*command, "--accept-quality"])
    assert accepted.exit_code == 0
    assert strict.manifest("quantize").facts["outcome"] == ACCEPTED


def test_a_run_within_its_gate_is_sealed_as_such(dense_run: Job) -> None:
    assert dense_run.manifest("quantize").facts["outcome"] == MET
