"""Read the JSON of a request strictly: bounded depth, no duplicate key, no NaN, no lone surrogate.

The depth is checked first, in one pass over the bytes, so untrusted input cannot make a parser
recurse deeply.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sevenfold.serve.errors import RequestError

# A string or one bracket. They alone decide the depth. A string without an end matches the rest,
# and there is no backtracking, so the time is linear in the length.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _check_depth(data: bytes, most: int) -> None:
    depth = 0
    for match in _TOKEN.finditer(data):
        first = match.group()[:1]
        if first in b"[{":
            depth += 1
            if depth > most:
                raise RequestError(f"the JSON is nested deeper than {most}", remedy="send flat JSON")
        elif first in b"]}":
            depth -= 1


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise RequestError(f"the key {twice!r} appears twice", remedy="send each key once")
    return value


def _no_constant(name: str) -> Any:
    raise RequestError(f"{name} is not a JSON number", remedy="leave it out")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RequestError(f"the number {text[:40]} does not fit binary64", remedy="send a smaller number")
    return value


def _check_surrogates(data: bytes, value: Any) -> None:
    # Only an escape can make half of a pair, and few bodies contain such an escape. Without this
    # check, an answer that quotes one could not be encoded.
    if not _SURROGATE_ESCAPE.search(data):
        return
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"U+{ord(text[error.start]):04X} is half of a surrogate pair and has no UTF-8 form",
            remedy="send whole characters",
        ) from error


def read_object(data: bytes, most_depth: int) -> dict[str, Any]:
    """Return the object that a body holds.

    Raises:
        RequestError: the body is not one JSON object in UTF-8, or it breaks a rule above.
    """
    _check_depth(data, most_depth)
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: byte {error.start}", remedy="send UTF-8") from error
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}", remedy="send one JSON object") from error
    _check_surrogates(data, value)
    if not isinstance(value, dict):
        raise RequestError(f"the body is a {type(value).__name__}", remedy="send one JSON object")
    return value
