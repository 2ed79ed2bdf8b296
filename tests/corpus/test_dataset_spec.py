"""specs/dataset.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from splits import split_of

from sevenfold.core import documents
from sevenfold.corpus.ledger import LEDGER_COLUMNS, REASONS
from sevenfold.corpus.sources import READERS, records, stdlib
from sevenfold.corpus.text import measures
from sevenfold.tokenizer import router, token_file

PAGE = (Path(__file__).parents[2] / "specs" / "dataset.md").read_text()


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("title", "columns"), [("Documents", documents.DOCUMENT_COLUMNS), ("Ledger", LEDGER_COLUMNS)]
)
def test_columns_and_their_order(title: str, columns: documents.Columns) -> None:
    assert [(row[0], row[1]) for row in table(title)] == list(columns.items())


def test_reasons_and_their_order() -> None:
    assert [(row[0], row[1]) for row in table("Drops")] == list(REASONS.items())


def test_parquet_settings() -> None:
    text = section("Parquet")
    assert f"Row groups of {documents.ROWS_PER_GROUP} rows" in text
    assert f"{documents.CODEC} level {documents.CODEC_LEVEL}" in text


def test_stdlib_selection() -> None:
    text = section("Sources")
    listed = re.search(r"directories named (.*?), and without", text, re.DOTALL).group(1)
    names = set(re.findall(r"`([^`]+)`", listed))
    assert names == stdlib.STDLIB_EXCLUDED_DIRECTORIES
    assert f"`{stdlib.STDLIB_EXCLUDED_FILES}`" in text
    assert f"`{stdlib.STDLIB_LICENCE}`" in text


def test_every_kind_of_source_is_on_the_page() -> None:
    assert [row[0] for row in table("Sources")][: len(READERS)] == list(READERS)
    rows = {row[0]: row[1:] for row in table("Sources")}
    for name, keys in records.LAYOUTS.items():
        if name != "plain":
            assert [cell.strip("`") for cell in rows[name]] == keys.columns(), name


def test_split_rule_as_written() -> None:
    assert "(first 8 hexadecimal digits of the id, as a number) mod corpus.holdout = 0" in section("Split")
    assert split_of("00000010" + "f" * 56, 16) == "heldout"
    assert split_of("00000011" + "0" * 56, 16) == "train"


def test_allowed_controls() -> None:
    named = {"TAB": "\t", "LF": "\n", "FF": "\f", "CR": "\r"}
    assert all(name in REASONS["forbidden_control"] for name in named)
    assert set(named.values()) == set(measures.ALLOWED_CONTROLS)


def test_token_file_header() -> None:
    rows = {row[2]: (row[0], row[1], row[3]) for row in table("Token files")}
    assert rows["magic"] == ("0", "4 bytes", token_file.MAGIC.decode())
    assert rows["version"] == ("4", "u16", str(token_file.VERSION))
    assert rows["digest"][0] == str(token_file.DIGEST_OFFSET)
    assert rows["tokens"][0] == str(token_file.HEADER_BYTES)
    sizes = {"4 bytes": 4, "u16": 2, "u8": 1, "u32": 4, "u64": 8, "32 bytes": 32}
    fixed = [row for row in table("Token files") if row[1] in sizes]
    ends = [int(row[0]) + sizes[row[1]] for row in fixed]
    assert [int(row[0]) for row in fixed] == [0, *ends[:-1]]
    assert ends[-1] == token_file.HEADER_BYTES
    assert [sizes[row[1]] for row in fixed[:-1]] == [4, 2, 1, 1, 4, 4, 8, 8]
    assert token_file._HEADER.size == token_file.DIGEST_OFFSET
    assert token_file.token_width(65536) == 2
    assert token_file.token_width(65537) == 4


def test_router_numbers() -> None:
    assert "It is 0 when the bytes of the token contain" in " ".join(section("Tokenizer").split())
    assert (router.CODE_EXPERT, router.GENERAL_EXPERT) == (0, 1)
