"""The release table: what a model that ships has, and every way in which it can lack something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import refusal, s7, said
from sevenfold.artifact import read_artifact
from sevenfold.core.errors import ArtifactError, QualityError
from sevenfold.core.shipped_models import DIRECTORY
from sevenfold.evals.run import sealed
from sevenfold.evals.tasks.cards import cards
from sevenfold.programme.figures import WINDOW, collect, largest_jump
from sevenfold.programme.release import CHECKS, ReleaseSubject, release_table, require_release
from sevenfold.programme.risks import RiskFile, load_risks, risk_states, triggered
from sevenfold.release.signature import make_key_pair, sign, signature_path
from sevenfold.runs.job import Job


def table(file: Path, **options: Any) -> dict[str, Any]:
    subject = ReleaseSubject(artifact=read_artifact(file), gates="small-code", risks="models", **options)
    return {row.name: row for row in release_table(subject)}


def evaluated(file: Path, card: str, metric: str, value: float) -> None:
    """Put a sealed run of one score beside a model."""
    score = {"metric": metric, "value": value, "low": value, "high": value, "n": 10}
    body = {
        "eval": 1,
        "name": card,
        "card": cards()[card].facts(),
        "task": {"root": "0" * 64, "n_items": 10, "n_in_set": 10},
        "model": {"root": read_artifact(file).root},
        "leaks": {"checked": False, "against": "", "dropped": {}},
        "scores": [score],
    }
    (file.parent / "eval").mkdir(exist_ok=True)
    sealed(body, {}, file.parent / "eval" / f"{card}.eval.json")


def test_what_a_run_makes_passes(shipped: Path) -> None:
    rows = table(shipped)
    assert list(rows) == [name for name, *_ in CHECKS]
    passed = {name for name, row in rows.items() if row.state == "pass"}
    assert passed == {"verify", "self-test", "documents", "licences", "quality", "provenance"}
    assert {row.state for name, row in rows.items() if name not in passed} == {"open"}
    require_release(list(rows.values()), "x")
    with pytest.raises(QualityError, match="rows are open"):
        require_release(list(rows.values()), "x", is_strict=True)


@pytest.mark.parametrize("ending", ["card.md", "cdx.json", "notice.txt"])
def test_one_bit_of_a_document_is_found(shipped: Path, ending: str) -> None:
    path = shipped.with_name(f"model.{ending}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    rows = table(shipped)
    assert rows["documents"].state == "fail"
    assert path.name in rows["documents"].detail
    with pytest.raises(ArtifactError, match="documents"):
        require_release(list(rows.values()), "x")


def test_a_missing_document_is_named(shipped: Path) -> None:
    shipped.with_name("model.cdx.json").unlink()
    assert "model.cdx.json" in table(shipped)["documents"].detail


def test_a_gate_that_is_not_met_fails(shipped: Path) -> None:
    evaluated(shipped, "humaneval", "pass@1", 0.0)
    row = table(shipped)["gates"]
    assert (row.state, row.exit_code) == ("fail", 6)
    assert "humaneval is 0.0000, wanted at least 0.01" in row.detail
    evaluated(shipped, "humaneval", "pass@1", 0.5)
    assert table(shipped)["gates"].state == "open"


def test_a_triggered_risk_names_its_mitigation_and_fails(shipped: Path) -> None:
    evaluated(shipped, "band-functions", "pass@1 new-values", 0.0)
    row = table(shipped)["risks"]
    assert (row.state, row.exit_code) == ("fail", 6)
    assert "teacher-noise" in row.detail
    assert "Keep programmatically verified samples alone" in row.detail
    with pytest.raises(QualityError, match="teacher-noise"):
        require_release(list(table(shipped).values()), "x")


def test_a_signature_counts_when_its_key_is_given(shipped: Path, tmp_path: Path) -> None:
    make_key_pair(tmp_path / "key")
    make_key_pair(tmp_path / "other")
    assert table(shipped, key=tmp_path / "key.pub")["signature"].state == "fail"
    sign(shipped, signature_path(shipped), tmp_path / "key")
    assert table(shipped)["signature"].state == "open"
    assert table(shipped, key=tmp_path / "key.pub")["signature"].state == "pass"
    row = table(shipped, key=tmp_path / "other.pub")["signature"]
    assert (row.state, row.exit_code) == ("fail", 3)


def test_the_index_is_compared(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = read_artifact(shipped)
    row = {"name": "model", "file": shipped.name, "root": artifact.root, "n_bytes": artifact.n_bytes}
    row |= {"licence": "Apache-2.0", "summary": "a test", "figures": {}}
    monkeypatch.setenv(DIRECTORY, str(shipped.parent))
    for change, state in (({}, "pass"), ({"root": "0" * 64}, "fail"), ({"licence": ""}, "fail")):
        (shipped.parent / "index.json").write_text(json.dumps({"index": 1, "models": [row | change]}))
        assert table(shipped)["index"].state == state


def test_figures_come_from_records_alone(shipped: Path, dense_run: Job) -> None:
    artifact = read_artifact(shipped)
    found = collect(artifact, shipped.parent / "eval", dense_run.out)
    assert found["data.unlicensed"].value == 0
    assert found["train.stopped"].value == 0
    assert found["quality.bpb_increase"].record == f"seal {artifact.root[:16]}"
    assert "train.largest_jump" not in collect(artifact, shipped.parent / "eval")
    assert largest_jump([1.0] * WINDOW + [4.0]) == 3.0
    assert largest_jump([1.0] * WINDOW) == 0.0


def test_every_trigger_of_the_register_can_be_recorded() -> None:
    prefixes = ("quality.", "training.", "data.", "train.")
    for risk in load_risks("models").rows:
        if risk.figure.startswith("eval."):
            assert risk.figure.split(".")[1] in cards(), risk.id
        elif not risk.figure.startswith("bench."):
            assert risk.figure.startswith(prefixes), risk.id


def test_a_risk_has_one_bound_and_the_bound_itself_is_quiet(shipped: Path) -> None:
    row = {"id": "a", "requirement": "C19", "text": "t", "figure": "data.unlicensed", "measure": "m"}
    row |= {"mitigation": "do"}
    with pytest.raises(ValueError, match="above or below"):
        RiskFile.model_validate({"risks": 1, "name": "n", "summary": "s", "rows": [row]})
    figures = collect(read_artifact(shipped), shipped.parent / "eval")
    for bound, n in (({"above": 0.0}, 0), ({"above": -1.0}, 1), ({"below": 0.0}, 0), ({"below": 1.0}, 1)):
        file = RiskFile.model_validate({"risks": 1, "name": "n", "summary": "s", "rows": [row | bound]})
        assert len(triggered(risk_states(file, figures))) == n


@pytest.mark.subprocess
def test_the_models_that_ship_pass() -> None:
    value = said("release", "demo-1m", "--check")
    states = {row["name"]: row["state"] for row in value["rows"]}
    assert states["documents"] == states["index"] == states["self-test"] == "pass"
    assert "fail" not in states.values()


@pytest.mark.subprocess
def test_exit_codes(shipped: Path, tmp_path: Path) -> None:
    shipped.with_name("model.card.md").write_text("# other\n")
    assert "documents" in refusal(3, "release", shipped, "--check")
    assert s7("release", shipped).returncode == 0
    assert "--check" in refusal(2, "release", shipped, "--strict")
    assert "no gates" in refusal(2, "release", shipped, "--gates", "nothing")
    data = bytearray(shipped.read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged.s7l").write_bytes(data)
    refusal(3, "release", tmp_path / "damaged.s7l", "--check")
    rule = {"id": "always", "requirement": "C19", "text": "t", "figure": "data.sources", "above": -1.0}
    rule |= {"measure": "m", "mitigation": "stop shipping"}
    register = tmp_path / "risks.yaml"
    register.write_text(yaml.safe_dump({"risks": 1, "name": "n", "summary": "s", "rows": [rule]}))
    assert "stop shipping" in refusal(6, "risks", shipped, "--risks", register, "--require")
    register.write_text("risks: 2\n")
    assert "no file of risks" in refusal(2, "risks", shipped, "--risks", register)
