"""In = kept + every named drop: and a ledger in which one figure is off is refused."""

from __future__ import annotations

from collections import defaultdict

import pytest

from sevenfold.core.errors import SevenfoldError
from sevenfold.corpus.ledger import LEDGER_COLUMNS, Count, LedgerRow, condense, reconcile, summarise

KEPT = LedgerRow(
    source="stdlib",
    version="1",
    path="a.py",
    licence="MIT",
    licence_evidence="declared",
    language="python",
    n_bytes=10,
    sha256="aa",
    domain="code",
    split="train",
    status="kept",
    reason="",
)
HELD = KEPT._replace(path="b.py", split="heldout", n_bytes=7)
DROPPED = KEPT._replace(path="c.py", split="", status="dropped", reason="duplicate", n_bytes=3)
ROWS = [KEPT, HELD, DROPPED]


def counts(**figures: tuple[int, int]) -> dict[str, Count]:
    return {name: Count(*figure) for name, figure in figures.items()}


def test_what_reconciles_passes() -> None:
    reconcile({("stdlib", "MIT"): Count(3, 20)}, condense(ROWS), counts(train=(1, 10), heldout=(1, 7)))


@pytest.mark.parametrize(
    ("seen", "written"),
    [
        ({("stdlib", "MIT"): Count(4, 20)}, counts(train=(1, 10), heldout=(1, 7))),
        ({("stdlib", "MIT"): Count(3, 21)}, counts(train=(1, 10), heldout=(1, 7))),
        ({("stdlib", "GPL"): Count(3, 20)}, counts(train=(1, 10), heldout=(1, 7))),
        (
            {("stdlib", "MIT"): Count(3, 20), ("other", "MIT"): Count(1, 1)},
            counts(train=(1, 10), heldout=(1, 7)),
        ),
        ({("stdlib", "MIT"): Count(3, 20)}, counts(train=(2, 17))),
        ({("stdlib", "MIT"): Count(3, 20)}, counts(train=(1, 10))),
        ({("stdlib", "MIT"): Count(3, 20)}, counts(train=(1, 10), heldout=(1, 8))),
    ],
)
def test_a_document_that_vanished_is_noticed(seen: dict, written: dict) -> None:
    with pytest.raises(SevenfoldError, match="in the ledger"):
        reconcile(defaultdict(Count, seen), condense(ROWS), written)


@pytest.mark.parametrize(
    "row",
    [
        DROPPED._replace(reason=""),
        DROPPED._replace(reason="because"),
        DROPPED._replace(split="train"),
        KEPT._replace(reason="empty"),
        KEPT._replace(split=""),
    ],
)
def test_a_row_that_contradicts_itself_is_noticed(row: LedgerRow) -> None:
    with pytest.raises(SevenfoldError, match="contradict"):
        reconcile({("stdlib", "MIT"): Count(1, row.n_bytes)}, condense([row]), {})


def test_summary_counts_by_source_licence_split_and_reason() -> None:
    other = DROPPED._replace(licence="GPL-3.0-only", reason="licence_not_allowed")
    first, second = summarise(condense([*ROWS, other]))
    assert (first["licence"], second["licence"]) == ("GPL-3.0-only", "MIT")
    assert second["seen"] == {"n_documents": 3, "n_bytes": 20}
    assert second["train"] == {"n_documents": 1, "n_bytes": 10}
    assert second["heldout"] == {"n_documents": 1, "n_bytes": 7}
    assert second["dropped"] == {"duplicate": {"n_documents": 1, "n_bytes": 3}}
    assert first["dropped"] == {"licence_not_allowed": {"n_documents": 1, "n_bytes": 3}}


def test_rows_that_differ_in_what_is_counted_alone_are_one() -> None:
    twin = KEPT._replace(path="d.py", n_bytes=5, sha256="bb")
    assert condense([KEPT, DROPPED, twin]) == [(KEPT, Count(2, 15)), (DROPPED, Count(1, 3))]
    for name in set(LEDGER_COLUMNS) - {"path", "n_bytes", "sha256"}:
        assert len(condense([KEPT, KEPT._replace(**{name: "other"})])) == 2, name


def test_rows_follow_the_columns() -> None:
    assert KEPT._fields == tuple(LEDGER_COLUMNS)
