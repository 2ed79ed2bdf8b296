"""The reader of web/ says of every file what Python says: the class of the refusal, or each rule."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from embed_mutations import mutations
from test_verdicts import HOSTILE, SAMPLE, payload_files, python_verdict

from sevenfold.artifact import header_only, layout
from sevenfold.core.numbers import tables

ROOT = Path(__file__).resolve().parents[2]
# Of a byte of the header: versions, classes, flags, and what is none.
VALUES = (0, 1, 2, 3, 4, 5, 8, 0x40, 0x80, 0x81, 0x85, 0xFF)
Verdicts = Callable[[Iterable[bytes]], list[str]]


def expected(data: bytes) -> str:
    verdict = python_verdict(data)
    return verdict.refused or " ".join(verdict.rules)


@pytest.fixture
def verdicts(node: Callable[..., str], tmp_path: Path) -> Verdicts:
    """verdicts(files) -> a line of the reader in Node.js for each."""

    def run(files: Iterable[bytes]) -> list[str]:
        packed = tmp_path / "files"
        packed.write_bytes(b"".join(struct.pack(">I", len(data)) + data for data in files))
        node("tools/verdicts", packed, tmp_path / "lines")
        return (tmp_path / "lines").read_text().splitlines()

    return run


def differences(verdicts: Verdicts, files: list[bytes]) -> list[tuple[int, str, str]]:
    found = zip(verdicts(files), map(expected, files), strict=True)
    return [(i, ours, theirs) for i, (ours, theirs) in enumerate(found) if ours != theirs]


def test_of_every_attack_file(verdicts: Verdicts) -> None:
    files = [make() for make in HOSTILE.values()]
    assert differences(verdicts, files) == []
    # Forged logits show only where the golden prompts are run.
    taken = [
        name
        for name, line in zip(HOSTILE, verdicts(files), strict=True)
        if "pass" in line and "fail" not in line
    ]
    assert taken == ["golden_logits_forged"]


def test_of_files_about_one_payload_each(verdicts: Verdicts) -> None:
    assert differences(verdicts, list(payload_files().values())) == []


def test_what_is_right_is_taken(verdicts: Verdicts) -> None:
    assert verdicts([SAMPLE, header_only(1)]) == ["pass " * 6 + "skipped pass", " ".join(["fail"] * 8)]


def test_of_changed_headers_and_cuts(verdicts: Verdicts) -> None:
    files = [SAMPLE[:at] + bytes([value]) + SAMPLE[at + 1 :] for at in range(8) for value in VALUES]
    files += [SAMPLE[:length] for length in (*range(0, 90, 3), *range(90, len(SAMPLE), 397))]
    assert differences(verdicts, files) == []


def test_of_changed_files(verdicts: Verdicts) -> None:
    assert differences(verdicts, list(mutations(21, 200))) == []


@pytest.mark.slow
def test_of_many_changed_files(verdicts: Verdicts) -> None:
    for seed in range(30):
        assert differences(verdicts, list(mutations(1000 + seed, 2000))) == []


def test_capitals_and_blanks_in_a_seal_are_refused(verdicts: Verdicts) -> None:
    import json

    from packing import pack_file

    from sevenfold.artifact import parse_artifact

    artifact = parse_artifact(SAMPLE)
    lanes = [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.sealed_lanes]
    files = []
    for change in (str.upper, lambda t: f" {t[:2]}\t{t[2:]}\n", lambda t: t[:2] + " " + t[2:], lambda t: t):
        seal = json.loads(bytes(artifact.payload(artifact.lanes[0])))
        seal["parts"] = {name: change(text) for name, text in seal["parts"].items()}
        payload = json.dumps(seal, sort_keys=True, separators=(",", ":")).encode()
        files.append(pack_file([(4, payload), *lanes], version=3))
    assert verdicts(files) == ["SealError"] * 3 + ["pass " * 6 + "skipped pass"]


def test_constants_are_those_of_python() -> None:
    text = (ROOT / "web" / "src" / "artifact" / "layout.ts").read_text(encoding="utf-8")
    said = dict(re.findall(r'export const (\w+) = "([0-9a-f]{64})"', text))
    assert said == {
        "ABI_HASH": layout.abi_hash(),
        "POLICY_HASH": layout.policy_hash(),
        "TABLES_DIGEST": tables.law_digest(),
    }
    numbers = dict(re.findall(r"export const (MAX_\w+|MIN_\w+) = ([0-9a-fx* ]+);", text))
    values = {name: eval(value, {}) for name, value in numbers.items()}
    assert values == {name: getattr(layout, name) for name in values}
    assert len(values) >= 9
