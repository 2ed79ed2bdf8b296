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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold.corpus.native import PatternSearch

TABLE = Path(__file__).with_name("phrases.toml")
_LEVELS = STERN, HARD, SOFT, NEAR = "stern", "hard", "soft", "near"
# Bytes on both sides of a literal in which its phrase is searched.
_REACH = 160
# Number of literals that are searched in one pass.
_A_SET = 60

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
    """Phrases by their literals. `patterns` holds the (level, pattern) pairs of each literal."""

    patterns: Mapping[bytes, tuple[tuple[str, re.Pattern[bytes]], ...]]
    literals: tuple[bytes, ...]
    # Sets of literals that are searched together.
    sets: tuple[PatternSearch, ...]

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]]) -> PhraseTable:
        """Build the table from rows with `level`, `literals` and `patterns`."""
        found: dict[bytes, list[tuple[str, re.Pattern[bytes]]]] = {}
        for row in rows:
            pattern = re.compile("|".join(row["patterns"]).encode())
            for literal in row["literals"]:
                found.setdefault(literal.encode(), []).append((row["level"], pattern))
        literals = tuple(found)
        sets = tuple(PatternSearch(literals[i : i + _A_SET]) for i in range(0, len(literals), _A_SET))
        return PhraseTable({literal: tuple(rows) for literal, rows in found.items()}, literals, sets)

    def _places(self, words: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (place, literal) of every literal in a text."""
        for number, needles in enumerate(self.sets):
            bits = needles.bits(words)
            while bits:
                literal = self.literals[_A_SET * number + (bits & -bits).bit_length() - 1]
                bits &= bits - 1
                place = words.find(literal)
                while place >= 0:
                    yield place, literal
                    place = words.find(literal, place + len(literal))

    def find(self, words: bytes, is_explained: Callable[[int], bool]) -> list[Phrase]:
        """Return the phrases about rights in a text, in their order.

        Args:
            words: the words in lower case, separated by one space.
            is_explained: whether the words around a position are already explained. Only stern words
                are searched there.
        """
        found: dict[tuple[int, int], str] = {}
        for place, literal in self._places(words):
            patterns = self.patterns[literal]
            if is_explained(place):
                patterns = tuple(pattern for pattern in patterns if pattern[0] == STERN)
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
