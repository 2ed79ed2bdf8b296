"""libsevenfold is the fourth reader: of every hostile file it says what Python says.

That is the class of the refusal, or the verdict of each rule.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from build_attacks import ATTACKS, Parts, build
from build_refused import REFUSED
from embed_library import CXX, HEADER, NATIVE, ROOT, STATUSES, Library, Verdict, error_class
from embed_library import build as build_library
from embed_mutations import mutations
from packing import pack_file, pack_record, pack_sealed, two_tensors

from sevenfold.artifact import errors, header_only, layout, parse_artifact, verify
from sevenfold.core.errors import ArtifactError
from sevenfold.core.numbers import tables

SAMPLE = Parts.sample().pack()
HOSTILE = {name: lambda name=name: build(name) for name in ATTACKS} | {
    name: builder for name, (_, builder) in REFUSED.items()
}


def python_verdict(data: bytes) -> Verdict:
    try:
        artifact = parse_artifact(data)
    except ArtifactError as error:
        return Verdict(type(error).__name__)
    return Verdict("", tuple(row.status for row in verify(artifact).rows))


def same(found: Verdict, expected: Verdict) -> bool:
    return (found.refused, found.rules) == (expected.refused, expected.rules)


def differences(library: Library, files: Iterator[bytes]) -> list[tuple[Verdict, Verdict]]:
    pairs = ((library.verdict(data), python_verdict(data)) for data in files)
    return [(found, expected) for found, expected in pairs if not same(found, expected)]


@pytest.mark.parametrize("name", HOSTILE)
def test_of_every_attack_file_the_library_says_what_python_says(name: str, library: Library) -> None:
    data = HOSTILE[name]()
    found = library.verdict(data)
    assert same(found, python_verdict(data)), found
    # Forged logits show only where the golden prompts are run (test_run.py).
    assert found.ok is (name == "golden_logits_forged")


def test_what_is_right_is_taken(library: Library) -> None:
    assert library.verdict(SAMPLE).rules == ("pass",) * 6 + ("skipped", "pass")
    assert not library.verdict(header_only(1)).ok
    published = library.verdict(pack_file([(2, two_tensors())], version=1))
    assert published.rules == ("pass",) + ("fail",) * 7


def test_changed_files(library: Library) -> None:
    assert differences(library, mutations(1, 700)) == []


@pytest.mark.slow
def test_many_changed_files(library: Library) -> None:
    assert differences(library, mutations(2, 60_000)) == []


def test_every_value_of_every_header_byte_and_every_cut(library: Library) -> None:
    def files() -> Iterator[bytes]:
        for position in range(8):
            for value in range(256):
                yield SAMPLE[:position] + bytes([value]) + SAMPLE[position + 1 :]
        for length in (*range(90), *range(90, len(SAMPLE), 37)):
            yield SAMPLE[:length]

    assert differences(library, files()) == []


# Values of a key, right and wrong.
NUMBERS = (
    b"1",
    b"-1",
    b"01",
    b"-",
    b"+1",
    b"1.",
    b".5",
    b"1e",
    b"1e+",
    b"1e5",
    b"1.50",
    b"1e400",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-0",
    b"-0.0",
    b"9" * 4300,
    b"9" * 4301,
    b"0.1",
    b"0.10",
    b"1e22",
    b"1e+22",
    b"5.684341886080802e-14",
    b"2.2250738585072014e-308",
    b"1.7976931348623157e+308",
    b"123456789012345680.0",
    b"1e-05",
    b"0.0001",
    b'"\\u0000"',
    b'"\\ud83d"',
    b'"\\ud83d\\ude00"',
    b'"\\ude00\\ud83d"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xc0\x80"',
    b'"\x01"',
    b'"\\x"',
    b'"\\u12g4"',
    b"[" * 31 + b"]" * 31,
    b"[" * 32 + b"]" * 32,
    b"[" * 5000 + b"]" * 5000,
    b'{"a":1,"a":1}',
    b'{"b":1,"a":1}',
    b"[1,]",
    b"tru",
    b"\xef\xbb\xbf1",
    b'"\x7f"',
    b'"\\u007f"',
    b'"\\/"',
    b"[1 ]",
)


def payload_files() -> dict[str, bytes]:
    """Files about one payload or record each."""
    graph = b'{"kind":"graph","operations":[]}'
    found = {
        f"number {i} {number[:20]!r}": pack_sealed([(4, b'{"kind":"graph","x":' + number + b"}")])
        for i, number in enumerate(NUMBERS)
    }
    names = (b"", b".", b"..", b"a/b", b"a\\b", b"a b", b"a\x7f", b"x" * 255, b"experts.1.w", b"training.w")
    for name in names:
        fields = pack_record(name, [1], 1.0, b"\1") + two_tensors()
        found[f"name {name[:9]!r}"] = pack_sealed([(2, fields), (4, graph)])
    for at, dims in enumerate(([], [0], [1] * 8, [1] * 9, [2**32 - 1] * 8, [2**31, 2, 2**31], [3])):
        record = pack_record(b"x", dims, 1.0, b"\1")
        found[f"dims {at}"] = pack_sealed([(2, two_tensors() + record), (4, graph)])
    for scale in (float("nan"), float("inf"), 0.0):
        record = pack_record(b"x", [1], scale, b"\1")
        found[f"scale {scale}"] = pack_sealed([(2, two_tensors() + record), (4, graph)])
    for length in (1, 3, 9, 22, 30):
        found[f"cut record {length}"] = pack_sealed([(2, two_tensors()[:-length]), (4, graph)])
    twice = two_tensors() + pack_record(b"x", [1], 1.0, b"\1") * 2
    found["twice, then cut"] = pack_sealed([(2, twice + b"\0"), (4, graph)])
    found["many lanes"] = pack_file([(1, b"")] + [(2, b"")] * 1030, version=1)
    found["many values"] = pack_sealed([(4, b'{"kind":"graph","x":[' + b"0," * 20000 + b"0]}")])
    found["much JSON"] = pack_sealed([(4, b'{"kind":"graph","x":"' + b"a" * 800_000 + b'"}')])
    found["wide JSON"] = pack_sealed([(4, b'{"kind":"graph","x":"' + b"a" * 200_000 + '\u00e9"}'.encode())])
    found["another root"] = SAMPLE[:20] + bytes([SAMPLE[20] ^ 1]) + SAMPLE[21:]
    found["long DICT"] = b"S7LM" + struct.pack(">HBB", 1, 1, 1) + bytes(32) + b"\1\xff\xff\xff\xff"
    return found


def test_payloads_at_every_edge(library: Library) -> None:
    for name, data in payload_files().items():
        found, expected = library.verdict(data), python_verdict(data)
        assert same(found, expected), (name, found, expected)


def test_a_seal_with_hex_in_other_spellings(library: Library) -> None:
    artifact = parse_artifact(SAMPLE)
    lanes = [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.sealed_lanes]
    changes: tuple[Callable[[str], str], ...] = (
        str.upper,
        lambda t: f" {t[:2]}\t{t[2:]}\n",
        lambda t: t[:1] + " " + t[1:],
        lambda t: t + "\n",
        lambda t: t[:-1] + "\u0661",
    )
    for change in changes:
        seal = json.loads(bytes(artifact.payload(artifact.lanes[0])))
        for lane in seal["lanes"]:
            lane["sha256"] = change(lane["sha256"])
        seal["parts"] = {name: change(text) for name, text in seal["parts"].items()}
        payload = json.dumps(seal, sort_keys=True, separators=(",", ":")).encode()
        data = pack_file([(4, payload), *lanes], version=3)
        assert library.verdict(data).refused == python_verdict(data).refused == "SealError"


def test_constants_are_those_of_python() -> None:
    rules = (NATIVE / "embed" / "rules.h").read_text(encoding="utf-8")
    said = dict(re.findall(r'(k\w+)\s*=\s*"([0-9a-f]{64})"', rules))
    assert said == {
        "kAbiHash": layout.abi_hash(),
        "kPolicyHash": layout.policy_hash(),
        "kTablesDigest": tables.law_digest(),
    }
    text = (NATIVE / "embed" / "law_tables.h").read_text(encoding="utf-8")
    rows = [[int(n) for n in re.findall(r"\d+", row)] for row in re.findall(r"\{([\d,\s]+)\}", text)]
    assert rows == [table.tolist() for table in (tables.exp2(), tables.sigmoid(), tables.rsqrt())]


def test_every_cause_has_a_code() -> None:
    ours = {error_class(status) for status in STATUSES if status >= 32}
    others = {"UnverifiedError", "GraphError", "TokenizerError", "SelfTestError"}
    not_of_a_file = {"HeaderError", "RecordError", "BundleError", "ContentsError", "ExistingArtifactError"}
    causes = {name for name in vars(errors) if name.endswith("Error")} - {"ArtifactError", "StorageError"}
    assert ours - others == causes - not_of_a_file


def test_every_status_has_words(library: Library) -> None:
    said = [library.calls.s7f_status_text(status) for status in STATUSES]
    assert len(set(said)) == len(STATUSES)
    assert b"an unknown status" not in said
    assert library.calls.s7f_status_text(-1) == library.calls.s7f_status_text(9999) == b"an unknown status"
    declared = set(re.findall(r"\b(s7f_\w+)\(", HEADER.read_text(encoding="utf-8")))
    assert {name for name in declared if not hasattr(library.calls, name)} == set()


def test_the_page_of_the_interface_is_whole() -> None:
    page = (ROOT / "docs" / "reference" / "c-interface.md").read_text(encoding="utf-8")
    declared = set(re.findall(r"\b(s7f_\w+)\(", HEADER.read_text(encoding="utf-8")))
    assert {name for name in declared if f"`{name}`" not in page} == set()
    own = {name for status, name in STATUSES.items() if status < 32}
    own |= {"S7F_UNVERIFIED", "S7F_GRAPH", "S7F_TOKENIZER", "S7F_SELF_TEST"}
    assert set(re.findall(r"^\| `(S7F_\w+)` \|", page, re.MULTILINE)) == own


# Copies of the library with one check left out: file, what is there once, what replaces it.
WRONG = {
    "the root": ("binding.cpp", "if (!(paired_fold(level.data(), n) == file.root)) {", "if (false) {"),
    "a chunk": ("replay.cpp", "found == seal.chunks[piece.first_chunk + i]", "true"),
    "canonical bytes": ("rules.cpp", "rule.need(is_canonical(value, file.payload(lane)),", "rule.need(true,"),
    "a key twice": ("json.cpp", "values[order[i - 1]].key == values[order[i]].key", "false"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_a_check_that_is_left_out_is_found(what: str, tmp_path: Path) -> None:
    if shutil.which(CXX[0]) is None:
        pytest.skip(f"no {CXX[0]}")
    copy = tmp_path / "native"
    shutil.copytree(NATIVE, copy)
    shutil.copy(NATIVE.parent / "pyproject.toml", tmp_path)
    name, text, instead = WRONG[what]
    source = copy / "embed" / name
    before = source.read_text(encoding="utf-8")
    assert before.count(text) == 1
    source.write_text(before.replace(text, instead), encoding="utf-8")
    out = build_library(tmp_path / "out", "-O0", script=copy / "embed" / "build.sh")
    wrong = Library(out / "lib" / "libsevenfold.so")
    files = [*(make() for make in HOSTILE.values()), *payload_files().values()]
    assert differences(wrong, iter(files)) != []
