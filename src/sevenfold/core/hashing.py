"""Compute digests that cannot be confused, and the canonical JSON that they are taken of.

All digests are SHA-256. `digest` puts its length before every part, so ("ab", "c") and ("a", "bc")
differ. It starts with a tag, so a digest for one purpose never equals one for another.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from sevenfold.core.errors import storage

# Values made of dict[str, Json], list[Json], str, int, float, bool and None.
Json = Any

_LOWER_HEX = re.compile("([0-9a-f]{2})*")


def sha256(data: bytes | memoryview) -> bytes:
    """Return the SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in one-megabyte blocks. Raises StorageError."""
    hasher = hashlib.sha256()
    with storage(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def hex_bytes(text: str) -> bytes:
    """Return the bytes that a text spells in lower-case hex digits, two each.

    `bytes.fromhex` also takes capitals and blanks, so one digest would have many spellings.

    Raises:
        ValueError: any other character, or an odd number of digits.
    """
    if not _LOWER_HEX.fullmatch(text):
        raise ValueError("hex digits are 0 to 9 and a to f, two for a byte")
    return bytes.fromhex(text)


def digest(tag: str, *parts: bytes | str) -> str:
    """Return the hex SHA-256 over a tag and parts, each preceded by its length as u64 big-endian."""
    return digest_of(tag, parts)


def digest_of(tag: str, parts: Iterable[bytes | memoryview | str]) -> str:
    """Return `digest` of parts from an iterable."""
    hasher = hashlib.sha256()
    for part in chain((tag,), parts):
        raw = part.encode() if isinstance(part, str) else part
        hasher.update(len(raw).to_bytes(8, "big"))
        hasher.update(raw)
    return hasher.hexdigest()


def _refuse_non_finite(value: Json, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path or 'value'}: {value} has no canonical form (rule V0)")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{path}: key {key!r} is not a string")
            _refuse_non_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{path}[{index}]")


def canonical_json(value: Json) -> bytes:
    """Return the one byte form of a JSON value: keys sorted, no spaces, ASCII,
    finite numbers only (rule V0).

    Raises:
        ValueError: a NaN, an infinity or a key that is not a string.
    """
    _refuse_non_finite(value, "")
    return _dumped(value)


def _dumped(value: Json) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def is_canonical(parsed: Json, payload: bytes | memoryview) -> bool:
    """Return whether a payload is the canonical form of what was parsed from it.

    Keys of parsed objects are texts, so they are not looked at once more.
    """
    try:
        return payload == _dumped(parsed)
    except ValueError:
        return False


def finite(value: float) -> float | str:
    """Return a float in a form that JSON can hold: itself, or "inf", "-inf" or "nan" as a string."""
    return value if math.isfinite(value) else str(value)
