"""Verification as a whole: statuses, replay, JSON form. Each check broken alone: tests/attacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from build_attacks import Parts, replay, sample_input

from sevenfold.artifact import (
    CHECKS,
    Artifact,
    ReplayRow,
    build_contents,
    parse_artifact,
    run_check,
    verify,
    verify_file,
    write_artifact,
)
from sevenfold.core.errors import ArtifactError, StorageError


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    write_artifact(tmp_path / "model.s7l", build_contents(sample_input()))
    return tmp_path / "model.s7l"


def test_without_replay_v6_says_skipped(sealed: Path) -> None:
    verification = verify_file(sealed)
    assert verification.ok
    assert [row.status for row in verification.rows] == ["pass"] * 6 + ["skipped", "pass"]
    assert "not replayed" in verification.rows[6].detail


def test_with_replay_everything_passes(sealed: Path) -> None:
    verification = verify_file(sealed, replay)
    assert [(row.id, row.status) for row in verification.rows] == [(f"V{i}", "pass") for i in range(8)]
    value = verification.as_json()
    assert json.loads(json.dumps(value)) == value
    assert value["ok"] is True
    assert [check["id"] for check in value["rows"]] == [f"V{i}" for i in range(8)]


def test_a_replay_that_differs_fails_and_says_both(sealed: Path) -> None:
    row = verify_file(sealed, lambda _: [ReplayRow("backend x", "aa", "bb")]).rows[6]
    assert row.status == "fail"
    assert "backend x: sealed aa, replayed bb" in row.detail


def test_a_replay_of_fewer_prompts_fails(sealed: Path) -> None:
    assert "0 of 1 golden prompts" in verify_file(sealed, lambda _: []).rows[6].detail


def test_an_engine_that_refuses_fails_the_check(sealed: Path) -> None:
    def refuse(_: Artifact) -> list[ReplayRow]:
        raise ArtifactError("no such operation")

    row = verify_file(sealed, refuse).rows[6]
    assert (row.status, "no such operation" in row.detail) == ("fail", True)


def test_a_defect_of_the_engine_is_not_hidden(sealed: Path) -> None:
    def broken(_: Artifact) -> list[ReplayRow]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        verify_file(sealed, broken)


def test_a_writable_file_is_noted_not_failed(sealed: Path) -> None:
    assert "writable" not in verify_file(sealed).rows[4].detail
    sealed.chmod(0o644)
    row = verify_file(sealed).rows[4]
    assert (row.status, "writable" in row.detail) == ("pass", True)


def test_checks_run_alone() -> None:
    artifact = parse_artifact(Parts.sample().pack())
    for check in CHECKS:
        assert run_check(check, artifact, replay).status == "pass"


def test_structural_damage_is_an_error_not_a_row(tmp_path: Path) -> None:
    (tmp_path / "x.s7l").write_bytes(Parts.sample().pack()[:-1])
    with pytest.raises(ArtifactError):
        verify_file(tmp_path / "x.s7l")
    with pytest.raises(StorageError):
        verify_file(tmp_path / "y.s7l")


def test_a_file_without_any_json_fails_without_an_exception() -> None:
    from packing import pack_file, two_tensors

    rows = {row.id: row.status for row in verify(parse_artifact(pack_file([(2, two_tensors())]))).rows}
    assert rows == {check.id: "pass" if check.id == "V0" else "fail" for check in CHECKS}
