"""Measure a text for the rules about lines and quality, in one pass where the library is built."""

from __future__ import annotations

import numpy as np

from sevenfold.corpus.native import Measures, library

_LETTERS = (
    bytes(range(ord("A"), ord("Z") + 1)) + bytes(range(ord("a"), ord("z") + 1)) + bytes(range(128, 256))
)
# A text file may hold these. Any other C0 control marks binary data, or moves the cursor of a
# terminal (CM-1).
ALLOWED_CONTROLS = "\t\n\f\r"
_CONTROLS = bytes(code for code in range(32) if chr(code) not in ALLOWED_CONTROLS)


def measure(data: bytes) -> Measures:
    """Return the letters (ASCII, and all bytes of others), digits, forbidden controls; the longest
    run without space, tab or line end; lines, the longest.

    Lines are without their ends; a last line without an end counts.
    """
    fast = library()
    found: Measures = measure_in_numpy(data) if fast is None else fast.s7_measure(data, len(data))
    return found


def measure_in_numpy(data: bytes) -> Measures:
    """Return the result of `measure`, where the library is not built."""
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == ord("\n"))
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(codes))
    words = np.diff(np.flatnonzero(codes <= ord(" ")), prepend=-1, append=len(codes)) - 1
    return Measures(
        n_letters=len(data) - len(data.translate(None, _LETTERS)),
        n_digits=len(data) - len(data.translate(None, b"0123456789")),
        n_controls=len(data) - len(data.translate(None, _CONTROLS)),
        longest_word=int(words.max()),
        n_lines=len(ends),
        longest_line=int(np.diff(ends, prepend=-1).max()) - 1,
    )
