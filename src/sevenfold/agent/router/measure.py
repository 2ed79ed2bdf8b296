"""Precision and recall of the router: when, which, stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.agent.router.head import RouterHead
from sevenfold.agent.router.suite import ANSWER, RouterExample, examples
from sevenfold.core.hashing import Json

# Per mille.
GATE = 900
TEST_FILLINGS = 4


@dataclass(frozen=True, kw_only=True)
class RouterRow:
    """One decision: how many examples ask for it, precision and recall per mille, rounded down."""

    name: str
    n: int
    precision: int
    recall: int

    def value(self) -> dict[str, Json]:
        """Return the row as JSON."""
        return {"decision": self.name, "n": self.n, "precision": self.precision, "recall": self.recall}


def _row(name: str, pairs: Sequence[tuple[bool, bool]]) -> RouterRow:
    """Return the row of a decision, from pairs of what is right and what was said."""
    both = sum(right and said for right, said in pairs)
    n_right, n_said = sum(right for right, _ in pairs), sum(said for _, said in pairs)
    return RouterRow(
        name=name,
        n=n_right,
        precision=both * 1000 // n_said if n_said else 0,
        recall=both * 1000 // n_right if n_right else 0,
    )


def measured(head: RouterHead, rows: Sequence[RouterExample] | None = None) -> list[RouterRow]:
    """Return the table: `when` over first decisions (a call is right), `stop` over later ones (an
    answer is right), and each tool over all.

    Args:
        rows: without them, the test third of the suite.
    """
    rows = examples(held_out=True, n=TEST_FILLINGS) if rows is None else rows
    said = [head.choose(row.question, row.steps) or ANSWER for row in rows]
    both = list(zip(rows, said, strict=True))
    first = [(row.action != ANSWER, one != ANSWER) for row, one in both if not row.steps]
    later = [(row.action == ANSWER, one == ANSWER) for row, one in both if row.steps]
    tools = [
        _row(name, [(row.action == name, one == name) for row, one in both])
        for name in head.actions
        if name != ANSWER
    ]
    return [_row("when", first), *tools, _row("stop", later)]
