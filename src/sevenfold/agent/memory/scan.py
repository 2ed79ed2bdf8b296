"""Compute the dot product of one question with every vector, in integers.

`native/memory` computes it where it is built, and NumPy elsewhere, with the same results. 10M
    tokens are about 80,000 vectors of 2 KiB. A question reads these 160 MB once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sevenfold.agent.memory.embed import Codes
from sevenfold.agent.memory.native import library

INSTRUCTION_SETS = ("scalar", "avx2", "avx512")
WIDEST = -1
_ROWS = 2048


def dots(rows: Codes, query: Codes, *, isa: int = WIDEST) -> NDArray[np.int32]:
    """Return i32 [n]: the dot product of each row with the query.

    Args:
        rows: i8 [n, width], contiguous.
        query: i8 [width].
        isa: an index into INSTRUCTION_SETS. If the machine lacks that one, its widest is used.
    """
    fast = library()
    if fast is None or not rows.flags.c_contiguous:
        return numpy_dots(rows, query)
    query = np.ascontiguousarray(query)
    out = np.empty(len(rows), np.int32)
    fast.s7_memory_dots(rows.ctypes.data, len(rows), rows.shape[1], query.ctypes.data, isa, out.ctypes.data)
    return out


def numpy_dots(rows: Codes, query: Codes) -> NDArray[np.int32]:
    """Return what `dots` returns, without the library."""
    wide = query.astype(np.int32)
    out = np.empty(len(rows), np.int32)
    for start in range(0, len(rows), _ROWS):
        out[start : start + _ROWS] = rows[start : start + _ROWS].astype(np.int32) @ wide
    return out


def engine_name() -> str:
    """Return the name of the implementation that computes the scan on this machine."""
    fast = library()
    return "numpy" if fast is None else INSTRUCTION_SETS[fast.s7_memory_isa()]
