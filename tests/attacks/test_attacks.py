"""Each attack breaks exactly its check: all digests and the root are valid, every other check passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_attacks import ATTACKS, Parts, build, main, replay

from sevenfold.artifact import CHECKS, parse_artifact, verify


def test_the_parts_pack_to_a_file_that_passes_everything() -> None:
    verification = verify(parse_artifact(Parts.sample().pack()), replay)
    assert [row.status for row in verification.rows] == ["pass"] * 8


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_breaks_exactly_its_check(name: str) -> None:
    broken = ATTACKS[name][0]
    verification = verify(parse_artifact(build(name)), replay)
    assert not verification.ok
    assert {row.id: row.status for row in verification.rows} == {
        check.id: "fail" if check.id == broken else "pass" for check in CHECKS
    }, {row.id: row.detail for row in verification.rows if row.status == "fail"}


def test_every_check_has_an_attack() -> None:
    assert {check for check, _ in ATTACKS.values()} == {check.id for check in CHECKS}


def test_attacks_can_be_written_for_other_readers(tmp_path: Path) -> None:
    main(str(tmp_path))
    assert len(list(tmp_path.glob("v?_*.s7l"))) == len(ATTACKS)
