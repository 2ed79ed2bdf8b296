"""Refuse skeletons that are held out for evaluation. No generator of a corpus may use one.

The tables of the evaluation are in `sevenfold.evals.band`, which this room does not import. It has
their digests (held_out.toml), and refuses to generate anything while one of its own tables has one of
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import digest
from sevenfold.synthetic.data_files import read_data
from sevenfold.synthetic.generators import algorithms, parts, portable, stories
from sevenfold.synthetic.generators.parts import Reduction, fill
from sevenfold.synthetic.variety import code_shape

DIGESTS = frozenset(read_data("held_out.toml")["digests"])


def skeletons(
    folds: Sequence[Reduction],
    ways: Sequence[algorithms.Algorithm],
    events: Sequence[stories.Event],
    rust: Mapping[str, portable.PortableReduction],
) -> Iterator[tuple[str, str]]:
    """Yield the name and the digest of the skeleton of each row of some tables, without names and
    constants.
    """
    for fold in folds:
        yield fold.words, code_shape(fill(fold.code, 0, 0, "c").replace("{v}", "v"), "python")
    for algorithm in ways:
        for way in algorithm.ways:
            yield algorithm.name, code_shape(way.replace("{f}", "f").replace("{k}", "0"), "python")
    for event in events:
        yield event.formula, digest("sevenfold/event/1", event.formula)[:16]
    for one in rust.values():
        yield one.words, digest("sevenfold/portable-fold/1", one.update)[:16]


def refuse() -> None:
    """Refuse to generate with a skeleton that is held out. Raises SevenfoldError."""
    tables = parts.FOLDS, algorithms.ALGORITHMS, stories.EVENTS, portable.FOLDS
    for name, found in skeletons(*tables):
        if found in DIGESTS:
            raise SevenfoldError(
                f"the skeleton {name!r} is held out for evaluation",
                where="synthetic",
                remedy="take it out of the tables of the generators",
            )
