"""The pages of specs/ and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import plain_reader
from annotated_example import BEGIN, END, SPEC, annotated, example_bytes

from sevenfold.artifact import CHECKS, errors, layout, parse_artifact
from sevenfold.core import tables
from sevenfold.core.errors import ArtifactError

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
    assert rows[1][3] == f"u16, {layout.VERSION}"
    assert rows[2][3] == f"0x{layout.ModelClass.DENSE:02x} dense, 0x{layout.ModelClass.MOE:02x} MoE"
    assert int(rows[4][0]) == layout.ROOT_OFFSET


def test_lane_tables() -> None:
    rows = table("artifact.md", "id")
    assert {row[1]: int(row[0], 16) for row in rows} == {lane.name: int(lane) for lane in layout.LaneId}
    assert {row[1]: row[2] for row in rows} == dict(layout.LANE_FOLDS)
    assert dict(table("verification.md", "lane")) == dict(layout.LANE_FOLDS)
    kinds = {row[0] for row in table("artifact.md", "kind")}
    assert kinds == {*layout.EDGE_KINDS, layout.TRACE_KIND, layout.BATCH_KIND}


def test_caps() -> None:
    rows = {row[0]: int(row[1]) for row in table("artifact.md", "constant")}
    held = {name for name in vars(layout) if name.startswith("MAX_")} - {"MAX_HEADER_BYTES", "MAX_BODY_BYTES"}
    assert rows == {name: getattr(layout, name) for name in held}


def test_error_table_names_every_cause() -> None:
    named = {row[0] for row in table("artifact.md", "class")}
    causes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ArtifactError) and value is not ArtifactError
    }
    assert named == causes - {"HeaderError", "RecordError"}  # these two only group others


def test_hashes_of_format_and_rules_are_those_on_the_pages() -> None:
    # A change here is a change of format or rules: it asks for a new version, and new hashes on the pages.
    assert layout.VERSION == 2
    assert re.findall(r"`([0-9a-f]{64})`", page("artifact.md")) == [layout.abi_hash()]
    assert re.findall(r"`([0-9a-f]{64})`", page("control.md")) == [layout.policy_hash()]


def test_identity_fields_are_on_the_page() -> None:
    text = page("artifact.md")
    for name in layout.IDENTITY_FIELDS:
        assert f"`{name}`" in text
    for name in layout.CONTROL_FIELDS:
        assert f'"{name}"' in page("verification.md")


def test_example_is_what_the_writer_makes() -> None:
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


def test_verification_table() -> None:
    rows = table("verification.md", "check")
    assert [(row[0], row[1]) for row in rows] == [(check.id, check.title) for check in CHECKS]
    for fold in layout.FOLDS:
        assert f"`{fold}`" in page("verification.md")


def test_pages_are_ascii_and_named_by_the_code() -> None:
    for name in ("artifact.md", "control.md", "verification.md"):
        assert page(name).isascii()
    sources = Path(layout.__file__).parent
    for module, name in (("layout", "artifact"), ("control", "control"), ("verify", "verification")):
        assert f"specs/{name}.md" in (sources / f"{module}.py").read_text(encoding="ascii")


def test_the_law_in_the_format_is_the_law_of_the_tables() -> None:
    assert tables.law_digest() == layout.ARITHMETIC_TABLES
