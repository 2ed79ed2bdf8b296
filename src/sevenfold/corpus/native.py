"""What the corpus stage has in C++ (native/corpus), through ctypes: texts through grammars five times as fast as tree-sitter.

Nothing depends on it but time. Where the library is not built or not sure, the same is asked of NumPy and of tree-sitter itself;
tests hold both to the same answers.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from ctypes import POINTER, c_char_p, c_int32, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.library import open_library

LIBRARY = Path(__file__).parent / "_native" / "libs7corpus.so"
ABI = 2
_NO_MEMORY = -1


class _Parts(ctypes.Structure):
    """s7_parts of native/corpus/s7corpus.h."""

    _fields_ = [
        ("n", c_int32),
        ("bytes", POINTER(c_uint8)),
        ("ends", POINTER(c_uint32)),
        ("n_bytes", c_uint64),
    ]


class Measures(ctypes.Structure):
    """s7_measures of native/corpus/s7corpus.h."""

    _fields_ = [
        (name, c_uint64) for name in ("n_letters", "n_digits", "longest_word", "n_lines", "longest_line")
    ]


_CALLS: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "s7_reader_new": (c_void_p, (c_void_p, c_int32)),
    "s7_reader_delete": (None, (c_void_p,)),
    "s7_read": (c_int32, (c_void_p, c_char_p, c_uint32)),
    "s7_n_nodes": (c_uint32, (c_void_p,)),
    "s7_find_functions": (_Parts, (c_void_p, c_char_p, c_uint32)),
    "s7_write_function": (_Parts, (c_void_p, c_uint32)),
    "s7_words": (c_uint64, (c_char_p, c_uint64, c_uint64, c_void_p)),
    "s7_runs": (None, (c_void_p, c_uint64, c_uint64, c_void_p)),
    "s7_likely_runs": (c_uint64, (c_void_p, c_uint64, c_uint64, c_char_p, c_uint32, c_void_p)),
    "s7_measure": (Measures, (c_char_p, c_uint64)),
    "s7_hints": (c_uint32, (c_char_p, c_uint64)),
}


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built or is of another version."""
    found = open_library(LIBRARY, "s7_corpus_abi", ABI)
    if found is None:
        return None
    for name, (result, arguments) in _CALLS.items():
        call = getattr(found, name)
        call.restype, call.argtypes = result, arguments
    return found


class Reader:
    """Texts through one grammar. It keeps the last text and its tree, so two steps that ask about one text read it once.

    Args:
        capsule: what `language()` of a grammar's package gives.
        with_tables: False: the grammar's own lexers are asked for every token, which takes longer.

    Raises:
        SevenfoldError: no memory.
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
        """Whether tree-sitter finds no error in a text (UTF-8) for sure; if not, it has to be asked."""
        if text is not self._text and self._handle:
            self._is_clean = bool(_checked(self._library.s7_read(self._handle, text, len(text))))
            self._text = text
        return self._is_clean

    def n_nodes(self) -> int:
        """Nodes of the last text, as tree-sitter counts them."""
        n: int = self._library.s7_n_nodes(self._handle)
        return n

    def find_functions(self, roles: bytes, min_nodes: int) -> list[bytes]:
        """Shape of each function in the last text, as `hashed` takes it. `roles`: a byte for each symbol."""
        found = self._library.s7_find_functions(self._handle, roles, min_nodes)
        n = _checked(found.n)
        starts, data = [0, *found.ends[:n]], ctypes.string_at(found.bytes, found.n_bytes)
        return [data[start:end] for start, end in pairwise(starts)]

    def write_function(self, i: int) -> tuple[int, bytes]:
        """How many parts function `i` of those found has, and the parts as `hashed` takes them."""
        found = self._library.s7_write_function(self._handle, i)
        return _checked(found.n), ctypes.string_at(found.bytes, found.n_bytes)


def _checked(n: int) -> int:
    if n == _NO_MEMORY:
        raise SevenfoldError(
            "no memory for the tree of a document", where="corpus.steps", remedy="use fewer workers"
        )
    return n


def hashed(tag: str, parts: bytes) -> str:
    """`core.hashing.digest` of a tag and parts that stand behind their lengths already."""
    head = tag.encode()
    return hashlib.sha256(len(head).to_bytes(8, "big") + head + parts).hexdigest()


ALL_HINTS = SIXTEEN_DIGITS, CAPITALS_AND_DIGIT, QUOTED_KEY = 1, 2, 4


def hints(text: bytes) -> int:
    """Bits of ALL_HINTS: what a text has, in one pass; all of them where the library is not built.

    SIXTEEN_DIGITS: 16 digits with nothing but spaces and hyphens among them. CAPITALS_AND_DIGIT: two capitals before a digit.
    QUOTED_KEY: 20 letters, digits or `_/+=-` in quotes.
    """
    fast = library()
    return sum(ALL_HINTS) if fast is None else int(fast.s7_hints(text, len(text)))
