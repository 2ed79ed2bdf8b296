"""`s7 verify`, `s7 inspect` and `s7 run` on files of the published contract, and on sealed
files that pretend to be one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from packing import pack_file, pack_record

from command_line import refusal, said
from command_line import s7_of_bytes as s7
from sevenfold.runs.job import Job

pytestmark = pytest.mark.subprocess


@pytest.fixture
def sealed(finished_run: Job) -> Path:
    return finished_run.out / "model.s7l"


MINI = b"S7LM\0\1\1\1" + bytes(32)


def published(version: int) -> bytes:
    """A file of the published contract with three lanes, of which the
    last node is paired with itself.
    """
    tensors = b"".join(
        pack_record(name, [2, 2], 0.5, b"\1\2\3\4", padded=version == 2)
        for name in (b"embedding.weight", b"lm_head.weight")
    )
    lanes = [(1, b"v"), (2, tensors), (4, b"\0topology")]
    return pack_file(lanes, version=version, class_=version, flags=5 if version == 2 else 1)


@pytest.mark.parametrize("data", [MINI, published(1), published(2)], ids=["mini", "version 1", "version 2"])
def test_a_published_file_is_shown_verified_by_its_rule_and_not_run(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "theirs.s7l"
    path.write_bytes(data)
    shown = said("inspect", path)
    assert (shown["version"], shown["root"]) == (data[5], data[8:40].hex())
    assert any(note.startswith("not bound: the header") for note in shown["notes"])
    assert not any("--allow-anonymous" in note for note in shown["notes"])
    done = s7("verify", path)
    assert done.returncode == 3  # no rule was held for it, and it says so
    assert b"not bound: of each lane its id" in done.stdout
    by_rule = said("verify", path, "--published", "--root", data[8:40].hex())
    assert (by_rule["ok"], by_rule["published"], by_rule["root"]) == (True, data[5], data[8:40].hex())
    assert b"not bound: the header" in s7("verify", path, "--published").stdout
    for root in ((), ("--root", data[8:40].hex())):
        assert "--published" in refusal(3, "verify", "-", *root, data=data)
        assert b"not bound" in s7("verify", "-", "--published", *root, data=data).stdout
    assert "--published" in refusal(3, "verify", path, "--root", data[8:40].hex())
    assert "another model" in refusal(3, "verify", path, "--published", "--root", "11" * 32)
    for flag in (("--part", "trunk"), ("--replay",), ("--range", "0..9")):
        refusal(2, "verify", path, "--published", *flag)
    for leave in ((), ("--allow-anonymous",)):
        refusal(3, "run", path, "x", *leave)


def test_a_sealed_file_is_no_published_one_whatever_its_version_byte_says(
    sealed: Path, tmp_path: Path
) -> None:
    assert "leave out --published" in refusal(2, "verify", sealed, "--published")
    data = bytearray(sealed.read_bytes())
    root = data[8:40].hex()
    data[5] = 1
    path = tmp_path / "down.s7l"
    path.write_bytes(data)
    for flags in ((), ("--published",), ("--root", root), ("--published", "--root", root), ("--replay",)):
        refusal(3, "verify", path, *flags)
    for flags in ((), ("--published",), ("--published", "--root", root)):
        refusal(3, "verify", "-", *flags, data=bytes(data))
    refusal(3, "inspect", path)
    refusal(3, "run", path, "x", "--allow-anonymous")


def test_a_file_of_the_earlier_form_says_seal_again(sealed: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.s7l"
    old.write_bytes(b"S7LM\0\2\1\0" + sealed.read_bytes()[8:])
    for verb in (("verify", old), ("inspect", old), ("run", old, "x")):
        assert "seal again" in refusal(3, *verb)
