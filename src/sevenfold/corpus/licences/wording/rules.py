"""Find licence notices, tags and texts that are known word for word.

`rules.npz` holds the licence rules of scancode-toolkit (CC-BY-4.0) as hashes of their words, made
by `scripts/licence_rules.py` from one commit, which the file names. A rule is found where all of its
words follow one another. Of overlapping rules the longer one counts, so "MIT or GPL" is a choice and
not the GPL.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sevenfold.corpus.text.ngrams import RunHashes, Sorted, ngram_hashes

DATA = Path(__file__).with_name("rules.npz")
KINDS = ("text", "notice", "tag", "reference", "false")
# Numbers of leading words that are looked up. The largest that a rule has is used.
HEADS = (3, 4, 8)
# The least and the most words of a rule.
LEAST, MOST = 3, 20_000


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """A rule at words `first` to `last` (inclusive).

    An `expression` of "" states no licence.
    """

    first: int
    last: int
    expression: str
    kind: str


@dataclass(frozen=True, slots=True)
class _Rules:
    """Legend: N rules, ascending by `n_head` and `head`."""

    # i64[N].
    n_words: np.ndarray
    # u32[N]: the highest bits of the hash of all words.
    whole: np.ndarray
    # u16[N].
    expression: np.ndarray
    # u8[N].
    kind: np.ndarray
    # i64[N]: the end of the run of rules with the same head, counted from the first of its range.
    stops: np.ndarray
    # (number of words of the head, first rule, heads of all its rules)
    ranges: tuple[tuple[int, int, Sorted], ...]
    expressions: tuple[str, ...]


@cache
def _rules() -> _Rules:
    with np.load(DATA, allow_pickle=False) as arrays:
        starts = np.searchsorted(arrays["n_head"], HEADS).tolist()
        pieces = np.split(arrays["head"], starts[1:])
        return _Rules(
            arrays["n_words"].astype(np.int64), arrays["whole"], arrays["expression"], arrays["kind"],
            np.concatenate([np.searchsorted(piece, piece, "right") for piece in pieces]),
            tuple(zip(HEADS, starts, map(Sorted, pieces), strict=True)),
            tuple(arrays["expressions"].tobytes().decode().split("\n")),
        )  # fmt: skip


def find_rules(words: np.ndarray) -> list[RuleMatch]:
    """Return the rules in a text in order. None lies within another.

    `words` is u64[W], the hashes of its words.
    """
    table, whole = _rules(), None
    # (first word, word after the last, rule)
    found: list[tuple[int, int, int]] = []
    for n, low, heads in table.ranges:
        places, starts = heads.find(ngram_hashes(words, n))
        if not len(places):
            continue
        whole = whole or RunHashes(words)
        starts = starts + low
        # Rules with the same head are adjacent. Each of them is tried at each position, in order.
        n_alike = low + table.stops[starts] - starts
        owners = np.repeat(np.arange(len(places)), n_alike)
        rules = np.arange(len(owners)) + (starts - np.cumsum(n_alike) + n_alike)[owners]
        firsts = places[owners]
        ends = firsts + table.n_words[rules]
        held = ends <= len(words)
        firsts, ends, rules = firsts[held], ends[held], rules[held]
        same = whole.hashes(firsts, ends) >> np.uint64(32) == table.whole[rules]
        found += zip(firsts[same].tolist(), ends[same].tolist(), rules[same].tolist(), strict=True)
    return [
        RuleMatch(first, end - 1, table.expressions[table.expression[rule]], KINDS[table.kind[rule]])
        for first, end, rule in _outermost(found)
    ]


def _outermost(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    kept: list[tuple[int, int, int]] = []
    behind = -1
    for match in sorted(found, key=lambda m: (m[0], -m[1])):
        if match[1] > behind:
            kept.append(match)
            behind = match[1]
    return kept
