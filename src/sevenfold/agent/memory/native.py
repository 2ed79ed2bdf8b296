"""Call native/memory through ctypes; without the library, NumPy computes the same numbers."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from sevenfold.core.process.library import open_library

LIBRARY = Path(__file__).parent / "_native" / "libs7memory.so"
ABI = 1


@cache
def library() -> ctypes.CDLL | None:
    """Return the library, or None where it was not built or has another version."""
    found = open_library(LIBRARY, "s7_memory_abi", ABI)
    if found is not None:
        found.s7_memory_dots.restype = None
        found.s7_memory_dots.argtypes = (c_void_p, c_uint64, c_uint32, c_void_p, c_int32, c_void_p)
    return found
