"""Call native/corpus through ctypes: syntax trees five times as fast as tree-sitter, and measures
of a text in one pass.

The library changes only the speed. Where it is not built, or cannot be sure, NumPy and tree-sitter
compute the same. Tests compare the answers.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.process.library import open_library

LIBRARY = Path(__file__).parent / "_native" / "libs7corpus.so"
ABI = 4
_NO_MEMORY = -1


class _Parts(ctypes.Structure):
    """s7_parts of native/corpus/s7corpus.h."""

    _fields_ = [
        ("n", c_int32),
        ("bytes", POINTER(c_uint8)),
        ("ends", POINTER(c_uint32)),
        ("n_bytes", c_uint64),
    ]


_MEASURES = ("n_letters", "n_digits", "n_controls", "longest_word", "n_lines", "longest_line")


class Measures(ctypes.Structure):
    """s7_measures of native/corpus/s7corpus.h."""

    n_letters: int
    n_digits: int
    n_controls: int
    longest_word: int
    n_lines: int
    longest_line: int
    _fields_ = [(name, c_uint64) for name in _MEASURES]


_CALLS: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "s7_reader_new": (c_void_p, (c_void_p, c_int32)),
    "s7_reader_delete": (None, (c_void_p,)),
    "s7_read": (c_int32, (c_void_p, c_char_p, c_uint32)),
    "s7_n_nodes": (c_uint32, (c_void_p,)),
    "s7_find_functions": (_Parts, (c_void_p, c_char_p, c_uint32)),
    "s7_write_function": (_Parts, (c_void_p, c_uint32)),
    "s7_as_functions": (_Parts, (c_void_p, c_char_p, c_uint64, c_uint32)),
    "s7_words": (c_uint64, (c_char_p, c_uint64, c_uint64, c_void_p)),
    "s7_runs": (None, (c_void_p, c_uint64, c_uint64, c_void_p)),
    "s7_likely_runs": (c_uint64, (c_void_p, c_uint64, c_uint64, c_char_p, c_uint32, c_void_p)),
    "s7_measure": (Measures, (c_char_p, c_uint64)),
    "s7_distinct_lines": (c_int64, (c_char_p, c_uint64)),
    "s7_hints": (c_uint32, (c_char_p, c_uint64)),
    "s7_needles_new": (c_void_p, (c_char_p, c_void_p, c_uint32)),
    "s7_needles_delete": (None, (c_void_p,)),
    "s7_needles_in": (None, (c_void_p, c_char_p, c_uint64, c_void_p)),
    "s7_visits": (c_int64, (c_void_p, c_char_p, c_uint64, c_void_p, c_void_p)),
    "s7_plain_text": (c_uint64, (c_char_p, c_uint64, c_void_p)),
    "s7_plain_words": (c_uint64, (c_char_p, c_uint64, c_void_p)),
    "s7_needles_places": (c_uint64, (c_void_p, c_char_p, c_uint64, c_uint64, c_void_p)),
    "s7_n_different": (c_int64, (c_void_p, c_uint64)),
    "s7_find_sorted": (
        c_uint64,
        (c_void_p, c_uint64, c_char_p, c_uint32, c_void_p, c_uint64, c_void_p, c_void_p),
    ),
    "s7_needles_windows": (c_uint64, (c_void_p, c_char_p, c_uint64, c_uint64, c_void_p)),
}


@cache
def library() -> ctypes.CDLL | None:
    """Return the library, or None where it was not built or has another version."""
    found = open_library(LIBRARY, "s7_corpus_abi", ABI)
    if found is None:
        return None
    for name, (result, arguments) in _CALLS.items():
        call = getattr(found, name)
        call.restype, call.argtypes = result, arguments
    return found


class SyntaxReader:
    """Parses texts with one grammar. It keeps the last text and its tree, so two steps on one text
    parse it once.

    Args:
        capsule: the result of `language()` of the package of a grammar.
        with_tables: False asks the lexers of the grammar for every token, which is slower.

    Raises:
        SevenfoldError: there is no memory.
    """

    def __init__(self, found: ctypes.CDLL, capsule: object, *, with_tables: bool = True) -> None:
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]
        self._library, self._capsule = found, capsule
        self._handle = found.s7_reader_new(pointer(capsule, b"tree_sitter.Language"), with_tables)
        self._text: bytes | None = None
        self._is_clean = False

    def __del__(self) -> None:
        self._library.s7_reader_delete(self._handle)

    def is_clean(self, text: bytes) -> bool:
        """Return whether tree-sitter certainly finds no error in a text (UTF-8). False means that
        tree-sitter has to decide.
        """
        if text is not self._text and self._handle:
            self._is_clean = bool(checked(self._library.s7_read(self._handle, text, len(text))))
            self._text = text
        return self._is_clean

    def n_nodes(self) -> int:
        """Return the number of nodes of the last text, as tree-sitter counts them."""
        n: int = self._library.s7_n_nodes(self._handle)
        return n

    def find_functions(self, roles: bytes, min_nodes: int) -> list[bytes]:
        """Return the shape of each function in the last text, as an argument of `hashed`. `roles`
        has a byte for each symbol.
        """
        found = self._library.s7_find_functions(self._handle, roles, min_nodes)
        return _pieces(found)

    def write_function(self, i: int) -> tuple[int, bytes]:
        """Return how many parts function `i` of the last text has, and the parts as an argument of
        `hashed`.
        """
        found = self._library.s7_write_function(self._handle, i)
        return checked(found.n), ctypes.string_at(found.bytes, found.n_bytes)

    def as_functions(self, parts: bytes, min_parts: int) -> list[bytes]:
        """Return the variants of a function with at least `min_parts` parts: without an unused
        first parameter, and without plain defaults. Parts are arguments of `hashed`.
        """
        return _pieces(self._library.s7_as_functions(self._handle, parts, len(parts), min_parts))


def _pieces(found: _Parts) -> list[bytes]:
    n = checked(found.n)
    if not n:
        return []
    starts, data = [0, *found.ends[:n]], ctypes.string_at(found.bytes, found.n_bytes)
    return [data[start:end] for start, end in pairwise(starts)]


def checked(n: int) -> int:
    """Return a number of the library. Raises SevenfoldError: it says that there is no memory."""
    if n == _NO_MEMORY:
        raise SevenfoldError(
            "no memory for the tree of a document", where="corpus.steps", remedy="use fewer workers"
        )
    return n


def hashed(tag: str, parts: bytes) -> str:
    """Return `core.hashing.digest` of a tag and of parts that already have their lengths in front."""
    head = tag.encode()
    return hashlib.sha256(len(head).to_bytes(8, "big") + head + parts).hexdigest()


ALL_HINTS = CARD, ACCOUNT, ASSIGNED_KEY, ADDRESS, PLUS_DIGIT = 1, 2, 4, 8, 16


def hints(text: bytes) -> int:
    """Return bits of ALL_HINTS for what a text may contain, in one pass; all bits where the library
    is not built.

    - CARD: four groups of four digits, the first 4 or 5, with the same space or hyphen between all,
      or none.
    - ACCOUNT: two capitals, two digits, three groups of four of both, with a space before each or
      none.
    - ASSIGNED_KEY: in quotes, after a colon or an equals sign, 20 letters, digits or `_/+=-`.
    - ADDRESS: an @ after one of these or a %.
    - PLUS_DIGIT: a digit after a +.
    """
    fast = library()
    return sum(ALL_HINTS) if fast is None else int(fast.s7_hints(text, len(text)))


def distinct_lines(text: bytes) -> int:
    """Return the total bytes of the distinct lines of a text, without their ends."""
    fast = library()
    if fast is None:
        return sum(map(len, set(text.split(b"\n"))))
    return checked(fast.s7_distinct_lines(text, len(text)))


class Automaton:
    """Tables of a state machine that reads a text byte by byte.

    Args:
        next_: row * 256 + byte -> state.
        rows: state -> row.
        features: state -> the feature seen there, or less than 0.

    Raises:
        SevenfoldError: a row or a state does not exist.
    """

    def __init__(self, next_: ArrayLike, rows: ArrayLike, features: ArrayLike) -> None:
        tables = np.asarray(next_, np.uint32), np.asarray(rows, np.uint32), np.asarray(features, np.int32)
        n_states = min(len(tables[1]), len(tables[2]))
        if tables[0].max() >= n_states or tables[1].max() * np.uint64(256) >= len(tables[0]) - 255:
            raise SevenfoldError("a table that leads out of itself", where="automaton")
        # The arrays are contiguous, and kept while the library points to them.
        self._tables = tables
        self._struct = (c_void_p * 3)(*(table.ctypes.data for table in tables))

    def visits(self, fast: ctypes.CDLL, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Return int64[F], u32[F]: the features of a text in the order of first occurrence, and
        their counts.
        """
        features, counts = np.empty(len(text), np.int64), np.empty(len(text), np.uint32)
        n = checked(fast.s7_visits(self._struct, text, len(text), features.ctypes.data, counts.ctypes.data))
        return features[:n], counts[:n]


def plain_text(text: str) -> str | None:
    """Return `licences.wording.notices.normalise` of an ASCII text; None for another text, or where
    the library is not built.
    """
    fast = library()
    if fast is None or not text.isascii():
        return None
    out = np.empty(len(text), np.uint8)
    n = fast.s7_plain_text(text.encode(), len(text), out.ctypes.data)
    return out[:n].tobytes().decode()


def plain_words(text: bytes) -> bytes | None:
    """Return the words of a text with one space between each two; None where the library is not
    built.
    """
    fast = library()
    if fast is None:
        return None
    out = np.empty(len(text), np.uint8)
    return out[: fast.s7_plain_words(text, len(text), out.ctypes.data)].tobytes()


class PatternSearch:
    """Searches for many strings at once, with ASCII letters of either case.

    It takes at most 4,096 strings, in lower case, of three bytes or more.

    Raises:
        SevenfoldError: there is no memory, or a string is invalid, which is a defect of the caller.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self.all = self._needles = tuple(needles)
        self._regex = re.compile(b"|".join(map(re.escape, self._needles)))

    @cached_property
    def _handle(self) -> int:
        fast, lengths = library(), (c_uint32 * len(self._needles))(*map(len, self._needles))
        handle = fast and fast.s7_needles_new(b"".join(self._needles), lengths, len(lengths))
        if not fast or not handle:
            raise SevenfoldError("no memory, or strings of another kind", where=repr(self._needles))
        weakref.finalize(self, fast.s7_needles_delete, handle)
        return int(handle)

    def mask(self, needles: Iterable[bytes]) -> int:
        """Return the bits of some of the strings."""
        return sum(1 << self._needles.index(needle) for needle in needles)

    def bits(self, text: bytes) -> int:
        """Return which strings a text contains, as bits: bit i for string i."""
        fast = library()
        if fast is None:
            lowered = text.lower()
            return sum(1 << i for i, needle in enumerate(self._needles) if needle in lowered)
        found = (c_uint64 * (len(self._needles) // 64 + 1))()
        fast.s7_needles_in(self._handle, text, len(text), found)
        return int.from_bytes(found, "little")

    def places(self, text: bytes) -> list[tuple[int, int]]:
        """Return (number of the string, place) of each occurrence of each string, also within
        another, by ascending places.
        """
        fast = library()
        if fast is None:
            return sorted(self._places_in_python(text.lower()), key=lambda found: found[1])
        room = 64
        while True:
            found = np.empty((room, 2), np.uint64)
            n = fast.s7_needles_places(self._handle, text, len(text), room, found.ctypes.data)
            if n <= room:
                return [(number, place) for number, place in found[:n].tolist()]
            room = n

    def _places_in_python(self, lowered: bytes) -> Iterator[tuple[int, int]]:
        for number, needle in enumerate(self._needles):
            place = lowered.find(needle)
            while place >= 0:
                yield number, place
                place = lowered.find(needle, place + 1)

    def windows(self, text: bytes, reach: int) -> list[tuple[int, int]]:
        """Return (start, end) around each occurrence, `reach` bytes before and after, in order.
        Overlapping ranges are joined.

        The last range may end after the text. The search continues after an occurrence, so
        occurrences do not overlap.
        """
        fast = library()
        if fast is None:
            return self._windows_by_regex(text.lower(), reach)
        found = np.empty((len(text) // reach + 2, 2), np.uint64)
        n = fast.s7_needles_windows(self._handle, text, len(text), reach, found.ctypes.data)
        return [(start, end) for start, end in found[:n].tolist()]

    def _windows_by_regex(self, lowered: bytes, reach: int) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for match in self._regex.finditer(lowered):
            start, end = max(0, match.start() - reach), match.end() + reach
            if spans and start <= spans[-1][1]:
                start = spans.pop()[0]
            spans.append((start, end))
        return spans
