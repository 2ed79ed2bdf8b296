"""Find words about rights. A known licence must explain them.

A text that grants, forbids or reserves something in words of no known licence is under unknown terms.
The words are a table, `phrases.toml`. Each phrase has a literal, and its patterns are tried only
around the literals in a text.

    STERN  takes away what permissive licences give: "for non-commercial use only"; only a notice
           known as a whole explains it
    HARD   must be explained: "licensed under", "may not be redistributed"
    SOFT   says little by itself, and is explained by any licence that the file names:
           "all rights reserved"
    NEAR   means something only within a licence or beside one: "shall be used",
           "following conditions"
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold.corpus.native import PatternSearch

TABLE = Path(__file__).with_name("phrases.toml")
_LEVELS = STERN, HARD, SOFT, NEAR = "stern", "hard", "soft", "near"
# Bytes on both sides of a literal in which its phrase is searched.
_REACH = 160
# The bit of a pattern that needs no word, and of every text.
_ANY = 1 << 4096

_PHRASES = tomllib.loads(TABLE.read_text())
# Words that refer the reader to the licence file of the package, and so add nothing.
REFERENCES = re.compile("|".join(_PHRASES["references"]["patterns"]).encode())
# "It is not under the GPL", "unlike the GPL", "GPL-compatible": such words state no licence.
DENIALS = re.compile(
    rb"(?:\bnot|never|unlike|without|n t|rather than|instead of|neither|nor|no|compatible with|compatibility"
    rb" with"
    rb"|incompatible with|previously|formerly|used to be|was once) (?:[a-z]+ ){0,5}$"
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """Bytes `start` to `end` of the words of a text, and the level of their phrase."""

    start: int
    end: int
    level: str


@dataclass(frozen=True, eq=False)
class PhraseTable:
    """Phrases by their literals. `patterns`: (level, mask of `needs`, pattern) of each literal; a
    pattern is tried only in a text with one of the needs that its mask has.
    """

    patterns: Mapping[bytes, tuple[tuple[str, int, re.Pattern[bytes]], ...]]
    literals: PatternSearch
    needs: PatternSearch

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]]) -> PhraseTable:
        """Return the table of rows with `level`, `literals`, `patterns`, and `needs` or none."""
        rows = list(rows)
        needs = PatternSearch(dict.fromkeys(word.encode() for row in rows for word in row.get("needs", ())))
        found: dict[bytes, list[tuple[str, int, re.Pattern[bytes]]]] = {}
        for row in rows:
            pattern = re.compile("|".join(row["patterns"]).encode())
            mask = needs.mask(word.encode() for word in row.get("needs", ())) or _ANY
            for literal in row["literals"]:
                found.setdefault(literal.encode(), []).append((row["level"], mask, pattern))
        return PhraseTable(
            {literal: tuple(rows) for literal, rows in found.items()}, PatternSearch(found), needs
        )

    def find(self, words: bytes, is_explained: Callable[[int], bool]) -> list[Phrase]:
        """Return the phrases about rights in a text, in their order.

        Args:
            words: the words in lower case, separated by one space.
            is_explained: whether the words around a position are already explained. Only stern words
                are searched there.
        """
        found: dict[tuple[int, int], str] = {}
        places = self.literals.places(words)
        had = self.needs.bits(words) | _ANY if places else 0
        for number, place in places:
            literal = self.literals.all[number]
            patterns = [(level, pattern) for level, mask, pattern in self.patterns[literal] if mask & had]
            if patterns and is_explained(place):
                patterns = [row for row in patterns if row[0] == STERN]
            if not patterns:
                continue
            low, high = max(0, place - _REACH), place + len(literal) + _REACH
            low = words.rfind(b" ", 0, low) + 1
            for level, pattern in patterns:
                for match in pattern.finditer(words, low, high):
                    if match.start() <= place + len(literal) and place <= match.end():
                        found[match.span()] = min(level, found.get(match.span(), level), key=_LEVELS.index)
        return [Phrase(start, end, level) for (start, end), level in sorted(found.items())]


_TABLE = PhraseTable.of(_PHRASES["phrase"])
find_phrases = _TABLE.find


class Spans:
    """Stretches of words.

    Args:
        spans: the (first, last) word of each, inclusive, in any order.
    """

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self._spans = sorted(spans)
        self._firsts = [first for first, _ in self._spans]
        self._lasts = sorted(last for _, last in self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def hold(self, first: int, last: int) -> bool:
        """Return whether one of the stretches holds words `first` to `last`."""
        behind = bisect_right(self._firsts, first)
        return any(end >= last for _, end in self._spans[:behind])

    def are_near(self, first: int, last: int, reach: int) -> bool:
        """Return whether a stretch lies within `reach` words of words `first` to `last`."""
        n_begun = bisect_right(self._firsts, last + reach)
        n_over = bisect_left(self._lasts, first - reach)
        return n_begun > n_over
