"""Call the encoder of `native/tokens`: the ids of the `tokenizers` library, about ten times as fast
on new text.

It is used where it was built and implements the rules of the file. Otherwise `codec` asks the
library. The ids are the same either way, so manifests do not record which was used. Memory: 4 MiB
of remembered pieces for each tokenizer, and 4 bytes for each byte of the text that is being
encoded.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Sequence
from ctypes import POINTER, c_double, c_int32, c_int64, c_uint8, c_uint32, c_void_p
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import Json
from sevenfold.core.process.library import open_library
from sevenfold.tokenizer.pieces import PIECES, is_marks, protected_symbols

LIBRARY = Path(__file__).parent / "_native" / "libs7tokens.so"
ABI = 1
RULES = {PIECES["code"]: 0, PIECES["llama3"]: 1}
# Pieces that would exceed these bounds are not remembered.
_MAX_DIGITS = (1 << 64) - 1
_MAX_POWER = 308
_BLANK_BEFORE, _NO_WORD_AFTER, _NO_QUOTE_AFTER = 1, 2, 4


class File(ctypes.Structure):
    """s7_tokens_file of native/tokens/tokens.h."""

    _fields_ = [
        *((name, c_int32) for name in ("rule", "n_entries", "n_symbols", "whole")),
        ("n_merges", c_int64),
        ("ends", POINTER(c_uint32)),
        ("bytes", POINTER(c_uint8)),
        ("scores", POINTER(c_double)),
        ("merges", POINTER(c_int32)),
        ("symbol_ends", POINTER(c_uint32)),
        ("symbols", POINTER(c_uint8)),
        ("symbol_flags", POINTER(c_uint8)),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """Return the library, or None where it was not built."""
    found = open_library(LIBRARY, "s7_tokens_abi", ABI)
    if found is None:
        return None
    found.s7_tokens_open.restype = c_void_p
    found.s7_tokens_close.argtypes = [c_void_p]
    for name in ("s7_tokens_encode", "s7_tokens_cut"):
        call = getattr(found, name)
        call.restype, call.argtypes = c_int64, [c_void_p, ctypes.c_char_p, c_int64, c_void_p]
    return found


class Encoder:
    """One tokenizer file, opened by the library and closed when the object is collected. Threads
    take turns.
    """

    def __init__(self, calls: ctypes.CDLL, handle: int) -> None:
        self._calls, self._handle = calls, handle

    @classmethod
    def open(cls, value: Json, entries: Sequence[bytes]) -> Encoder | None:
        """Return the encoder of a tokenizer file; None without the library, or when it does not
        implement a rule of the file.

        Args:
            value: the file, checked by `codec`.
            entries: bytes of every id; no bytes where no text becomes the entry.
        """
        calls, file = library(), described(value, entries)
        if calls is None or file is None:
            return None
        handle = calls.s7_tokens_open(ctypes.byref(file))
        return cls(calls, handle) if handle else None

    def __del__(self) -> None:
        self._calls.s7_tokens_close(self._handle)

    def ids(self, text: bytes) -> list[int]:
        """Return the ids of UTF-8 text. Raises SevenfoldError when memory runs out or the text has
        2 GiB.
        """
        return self._numbers("s7_tokens_encode", text, c_int32, "i")

    def ends(self, text: bytes) -> list[int]:
        """Return the end of each piece of UTF-8 text, in bytes."""
        return self._numbers("s7_tokens_cut", text, c_int64, "q")

    def _numbers(self, call: str, text: bytes, kind: Any, code: Literal["i", "q"]) -> list[int]:
        found = (kind * len(text))()
        n = getattr(self._calls, call)(self._handle, text, len(text), found)
        if n < 0:
            raise SevenfoldError(
                f"no memory to encode a text of {len(text)} bytes", remedy="cut it into documents below 2 GiB"
            )
        numbers: list[int] = memoryview(found).cast("B").cast(code)[:n].tolist()
        return numbers


def described(value: Json, entries: Sequence[bytes]) -> File | None:
    """Return a tokenizer file in the form that the library takes; None when the library lacks one
    of its rules.

    The arguments are those of `Encoder.open`.
    """
    rules = split_rules(value)
    symbols = protected_symbols(rules[0]) if len(rules) > 1 else ()
    if symbols is None or rules[-1] not in RULES:
        return None
    model, encoded = value["model"], [symbol.encode() for symbol in symbols]
    is_bpe = model["type"] == "BPE"
    ids = model["vocab"] if is_bpe else {}
    merges = [ids[name] for left, right in model.get("merges", ()) for name in (left, right, left + right)]
    return File(
        RULES[rules[-1]], len(entries), len(encoded), bool(model.get("ignore_merges")), len(merges) // 3,
        _numbers(c_uint32, accumulate(map(len, entries))), _bytes(b"".join(entries)),
        None if is_bpe else _numbers(c_double, (as_read(score) for _, score in model["vocab"])),
        _numbers(c_int32, merges),
        _numbers(c_uint32, accumulate(map(len, encoded))), _bytes(b"".join(encoded)),
        _numbers(c_uint8, map(_flags, symbols)),
    )  # fmt: skip


def split_rules(value: Json) -> list[str]:
    """Return the expressions by which a tokenizer file cuts a text: that of its protected symbols,
    if any, and that of its pieces.
    """
    return [step["pattern"]["Regex"] for step in value["pre_tokenizer"]["pretokenizers"][:-1]]


def as_read(score: float) -> float:
    """Return a number of a file as the JSON reader of the `tokenizers` library reads it: digits /
    10**k, rounded twice.

    One in four results differs from the nearest float. The difference decides between two cuts of a
    piece that are equally likely.
    """
    mantissa, _, exponent = repr(abs(score)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits, power = 0, int(exponent or 0)
    for place, digit in enumerate(map(int, whole + fraction)):
        after_point = place >= len(whole)
        if digits * 10 + digit > _MAX_DIGITS:
            power += len(whole[place:])
            break
        digits, power = digits * 10 + digit, power - after_point
    read = float(digits)
    while power < -_MAX_POWER and read:
        read, power = read / float(f"1e{_MAX_POWER}"), power + _MAX_POWER
    scale = float(f"1e{abs(power)}")
    return math.copysign(read * scale if power >= 0 else read / scale, score)


def _flags(symbol: str) -> int:
    if is_marks(symbol):
        return _BLANK_BEFORE
    return _NO_WORD_AFTER | (_NO_QUOTE_AFTER if symbol.startswith("'") else 0)


def _numbers(kind: Any, values: Iterable[float]) -> Any:
    listed = list(values)
    return (kind * len(listed))(*listed)


def _bytes(data: bytes) -> Any:
    return (c_uint8 * len(data)).from_buffer_copy(data)
