"""`s7 verify` on parts, ranges, streams, roots and bundles; `s7 inspect` and `s7 run` on
files that are no sealed model.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import refusal, said
from command_line import s7_of_bytes as s7
from sevenfold.artifact import header_only, read_artifact
from sevenfold.artifact.bundle import write_bundle
from sevenfold.runs.job import Job

pytestmark = pytest.mark.subprocess


@pytest.fixture
def sealed(finished_run: Job) -> Path:
    return finished_run.out / "model.s7l"


def test_parts_ranges_streams_and_bundles(sealed: Path, tmp_path: Path) -> None:
    artifact = read_artifact(sealed)
    data, root = sealed.read_bytes(), artifact.root
    assert said("verify", sealed, "--part", "trunk")["n_bytes"] > 1000
    assert said("verify", sealed, "--part", "lm_head.weight", "--root", root.upper())["root"] == root
    assert said("verify", sealed, "--range", "0..5000")["what"] == "0..5000"
    assert said("verify", "-", "--root", root, data=data) == {
        "path": "-",
        "root": root,
        "ok": True,
        "n_bytes": len(data),
    }
    write_bundle(sealed, tmp_path / "bundle")
    assert said("verify", tmp_path / "bundle")["root"] == root
    notes = said("inspect", sealed)
    assert notes["notes"] == []
    assert "trunk" in notes["parts"]


def test_what_is_changed_is_refused(sealed: Path, tmp_path: Path) -> None:
    artifact = read_artifact(sealed)
    data = bytearray(sealed.read_bytes())
    data[artifact.records["lm_head.weight"].offset] ^= 1
    path = tmp_path / "bad.s7l"
    path.write_bytes(data)
    assert "lm_head.weight" in refusal(3, "verify", path, "--part", "lm_head.weight")
    assert "lm_head.weight" in refusal(3, "verify", path, "--range", f"0..{len(data)}")
    assert "lm_head.weight" in refusal(3, "verify", "-", data=bytes(data))
    assert said("verify", path, "--part", "embedding.weight")["ok"]
    assert "ends" in refusal(3, "verify", "-", data=bytes(data[:100]))
    assert "another model" in refusal(3, "verify", sealed, "--root", "00" * 32)
    assert "another model" in refusal(3, "verify", "-", "--root", "00" * 32, data=bytes(data))


@pytest.mark.parametrize(
    "flags",
    [
        ("--part", "expert.99"),
        ("--range", "5"),
        ("--range", "9..3"),
        ("--range", "a..b"),
        ("--part", "trunk", "--range", "0..1"),
        ("--part", "trunk", "--replay"),
    ],
)
def test_wrong_flags_are_usage_errors(sealed: Path, flags: tuple[str, ...]) -> None:
    refusal(2, "verify", sealed, *flags)


def test_header_only_and_anonymous_files_say_so(sealed: Path, tmp_path: Path) -> None:
    header = tmp_path / "header.s7l"
    header.write_bytes(header_only(1))
    assert "header-only" in said("inspect", header)["notes"][0]
    assert b"header-only" in s7("verify", header).stdout
    assert "never to be run or served" in refusal(3, "run", header, "x", "--allow-anonymous")
    write_bundle(sealed, tmp_path / "bundle")
    for name in ("metadata.json", "SHA256SUMS"):
        (tmp_path / "bundle" / name).unlink()
    assert "--allow-anonymous" in refusal(3, "run", tmp_path / "bundle", "x")
    done = s7("run", tmp_path / "bundle", "def ", "--max-tokens", "2", "--allow-anonymous")
    assert done.returncode == 0
    assert b"anonymous" in done.stderr
