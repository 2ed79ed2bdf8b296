"""The pages of specs/ and the code say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import cast

import plain_reader
import pytest
from annotated_example import BEGIN, END, SPEC, annotated, example_bytes
from build_attacks import ATTACKS, Parts, build, replay

from sevenfold.artifact import CHECKS, Artifact, errors, layout, parse_artifact, run_check, verify
from sevenfold.artifact.frames import parse_header
from sevenfold.artifact.verify import VerificationRule
from sevenfold.core.errors import ArtifactError
from sevenfold.core.numbers import tables

SPECS = SPEC.parent


def page(name: str) -> str:
    return (SPECS / name).read_text(encoding="ascii")


def table(name: str, first: str) -> list[list[str]]:
    """Rows of the table whose header starts with the cell `first`."""
    lines = page(name).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def test_header_table() -> None:
    rows = table("artifact.md", "offset")
    offset = 0
    for row in rows:
        assert int(row[0]) == offset
        offset += int(row[1])
    assert offset == layout.HEADER_BYTES == layout.HEADER.size
    assert [row[2] for row in rows] == ["magic", "version", "class", "flags", "root"]
    assert rows[0][3] == layout.MAGIC.decode()
    assert (
        rows[1][3]
        == f"u16, {layout.VERSION}; {layout.VERSIONS_READ[0]} and {layout.VERSIONS_READ[1]} are read"
    )
    assert rows[2][3] == f"0x{layout.ModelClass.DENSE:02x} dense, 0x{layout.ModelClass.MOE:02x} MoE"
    assert int(rows[4][0]) == layout.ROOT_OFFSET


def test_flag_table() -> None:
    rows = {row[1]: row for row in table("artifact.md", "bit")}
    assert {name: 1 << int(row[0]) for name, row in rows.items()} == {
        flag.name: int(flag) for flag in layout.Flag
    }
    published = {name for name, row in rows.items() if row[2] == "1, 2, 3"}
    assert published == {flag.name for flag in layout.PUBLISHED_FLAGS}
    for class_ in layout.ModelClass:
        for padded in (False, True):
            flags = layout.header_flags(class_, padded)
            assert parse_header(b"S7LM" + bytes([0, 3, class_, flags]) + bytes(32)).padded is padded


def test_lane_tables() -> None:
    rows = table("artifact.md", "id")
    assert {row[1]: int(row[0], 16) for row in rows} == {lane.name: int(lane) for lane in layout.LaneId}
    assert {row[1]: row[2] for row in rows} == dict(layout.LANE_FOLDS)
    assert dict(table("verification.md", "lane")) == dict(layout.LANE_FOLDS)
    kinds = {row[0] for row in table("artifact.md", "kind")}
    assert kinds == {*layout.EDGE_KINDS, layout.TRACE_KIND, layout.BATCH_KIND}


def test_caps() -> None:
    rows = {row[0]: row[1] for row in table("artifact.md", "constant")}
    formulas = {name: rows.pop(name) for name in list(rows) if name.islower()}
    held = {name for name in vars(layout) if name.startswith("MAX_")}
    held -= {"MAX_HEADER_BYTES", "MAX_BODY_BYTES", "MAX_JSON_VALUES", "MAX_TENSORS"}
    assert {name: int(value) for name, value in rows.items()} == {
        name: getattr(layout, name) for name in held
    }
    assert formulas.keys() == {name for name in vars(layout) if name.startswith("max_")}
    for name, formula in formulas.items():
        found = re.fullmatch(r"(\d+) \+ n / (\d+)(?:, (\d+) at most)?", formula)
        assert found, formula
        free, share, most = (int(number or 1 << 62) for number in found.groups())
        for n_bytes in (0, 40, 1_900_191, 1 << 28, 1 << 40):
            assert getattr(layout, name)(n_bytes) == min(free + n_bytes // share, most)


def test_error_table_names_every_cause() -> None:
    named = {row[0] for row in table("artifact.md", "class")}
    causes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ArtifactError) and value is not ArtifactError
    }
    assert named == causes - {"HeaderError", "RecordError"}  # these two only group others


def test_hashes_of_format_and_rules_are_those_on_the_pages() -> None:
    # A change here is a change of format or rules: it asks for a new version,
    # and new hashes on the pages.
    assert layout.VERSION == 3
    assert re.findall(r"`([0-9a-f]{64})`", page("artifact.md")) == [layout.abi_hash()]
    assert re.findall(r"`([0-9a-f]{64})`", page("control.md")) == [layout.policy_hash()]


def test_identity_fields_are_on_the_page() -> None:
    text = page("artifact.md")
    for name in layout.IDENTITY_FIELDS:
        assert f"`{name}`" in text
    for name in layout.CONTROL_FIELDS:
        assert f'"{name}"' in page("verification.md")


def test_example_is_what_both_readers_read() -> None:
    shown = page("artifact.md").split(BEGIN)[1].split(END)[0]
    assert shown == annotated()
    raw = b"".join(bytes.fromhex(line[6:53]) for line in shown.splitlines())
    assert raw == example_bytes()
    assert f"{len(raw)} bytes" in page("artifact.md").split("## Example")[1]
    assert parse_artifact(raw).tensors["lm_head.weight"].data.tolist() == [[127, -127]]
    assert plain_reader.read(raw)["tensors"]["embedding.weight"]["data"] == [1, -1]
    assert raw[0x50:0x54] == (124).to_bytes(4, "big")


def test_limits_of_the_gate() -> None:
    text = " ".join(page("control.md").split())
    assert f"at most {layout.MAX_HEADER_BYTES} bytes" in text
    assert f"at most {layout.MAX_BODY_BYTES} bytes" in text
    assert f"nested at most {layout.SHIFT_DEPTH} deep" in text


# What a word of the column "read" is of an opened file.
READ = {
    "FIELD": {"records"},
    "JSON payloads": {"json", "payload"},
    "EDGE graph": {"graph"},
    "EDGE control": {"control"},
    "EDGE provenance": {"provenance"},
    "EDGE seal": {"seal"},
    "LANE": {"trace"},
    "DICT": {"dictionary"},
    "list of lanes": {"lanes"},
    "all bytes": {"raw"},
    "mode of the file": {"path"},
}
HEADER_PARTS = {"root", "header_head"}


class Watched:
    """An opened file that remembers what was read of it."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.seen = artifact, set[str]()

    def __getattr__(self, name: str) -> object:
        self.seen.add("lanes" if name == "sealed_lanes" else name)
        return getattr(self.artifact, name)


def test_verification_table() -> None:
    rows = table("verification.md", "check")
    assert [(row[0], row[1]) for row in rows] == [(check.id, check.title) for check in CHECKS]
    for fold in layout.FOLDS:
        assert f"`{fold}`" in page("verification.md")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_reads_what_the_table_says_and_nothing_else(check: VerificationRule) -> None:
    row = next(row for row in table("verification.md", "check") if row[0] == check.id)
    words = row[2].split(", ")
    watched = Watched(parse_artifact(Parts.sample().pack()))
    assert run_check(check, cast(Artifact, watched)).status in ("pass", "skipped")
    seen = watched.seen - {"header_only", "published"}
    assert bool(seen & HEADER_PARTS) is ("header" in words)
    assert seen - HEADER_PARTS == set[str]().union(*(READ[word] for word in words if word != "header"))


def test_what_a_failing_check_says_is_on_the_page() -> None:
    said = {row[0]: re.findall(r"`([^`]+)`", f"`{row[1]}`") for row in table("verification.md", "failing")}
    assert list(said) == ["any", *(check.id for check in CHECKS)]
    for name, (check, _) in ATTACKS.items():
        rows = verify(parse_artifact(build(name)), replay).rows
        detail = next(row.detail for row in rows if row.id == check)
        assert any(text in detail for text in said[check]), (name, detail)


def messages(file: str, *calls: str) -> list[str]:
    """The texts that a file hands to the calls named."""
    said = []
    for node in ast.walk(ast.parse((Path(layout.__file__).parent / file).read_text(encoding="ascii"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in calls:
            said += [
                ast.unparse(text) for text in node.args[-1:] if isinstance(text, ast.Constant | ast.JoinedStr)
            ]
    return said


def test_no_check_says_what_is_not_on_the_page() -> None:
    texts = re.findall(r"`([^`]+)`", "".join(f"`{row[1]}`" for row in table("verification.md", "failing")))
    said, below = (
        messages("verify.py", "_need", "_Failed"),
        messages("pieces/partial.py", "ChunkError", "SealError"),
    )
    assert len(said) > 40
    for message in said:
        assert any(text in message for text in texts) or message.endswith("{error}'"), message
    for text in texts:
        assert any(text in message for message in said + below) or text == "has no canonical form", text


def test_pages_are_ascii_and_named_by_the_code() -> None:
    for name in ("artifact.md", "control.md", "verification.md"):
        assert page(name).isascii()
    sources = Path(layout.__file__).parent
    for module, name in (("layout", "artifact"), ("control", "control"), ("verify", "verification")):
        assert f"specs/{name}.md" in (sources / f"{module}.py").read_text(encoding="ascii")


def test_the_law_in_the_format_is_the_law_of_the_tables() -> None:
    assert tables.law_digest() == layout.ARITHMETIC_TABLES
