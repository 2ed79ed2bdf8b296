"""Read payloads of the EDGE, LANE and BATCH lanes without trust: JSON objects with a `kind`.

The reader accepts any JSON object within the caps. Rule V0 checks that its bytes are canonical.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from sevenfold.artifact import layout
from sevenfold.artifact.errors import ContentsError, DuplicateKeyError, JsonError, LaneKindError, LimitError
from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json, canonical_json


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for key, item in pairs:
        if key in value:
            raise DuplicateKeyError(f"key {shown(repr(key))} is there twice")
        value[key] = item
    return value


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Characters of a value from a file that a message quotes.
SHOWN = 120


def shown(text: str, limit: int = SHOWN) -> str:
    """Return text from a file in a form that is safe to print: one line, no control characters, at
    most `limit` characters.
    """
    cut = text[:limit] + ("..." if len(text) > limit else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def _no_constant(text: str) -> Json:
    raise ValueError(f"{text} is not JSON")


@dataclass
class JsonBudget:
    """The amount of JSON that one file may still hold. It bounds the memory that reading takes."""

    n_bytes: int = layout.MAX_JSON_BYTES
    n_wide_bytes: int = layout.MAX_JSON_BYTES
    n_values: int = layout.MAX_JSON_VALUES

    @classmethod
    def of_file(cls, n_bytes: int) -> JsonBudget:
        """Return the budget of a file of `n_bytes`."""
        return cls(
            layout.max_json_bytes(n_bytes), layout.max_wide_bytes(n_bytes), layout.max_json_values(n_bytes)
        )

    def decode(self, payload: bytes | memoryview, where: str) -> str:
        """Return the text of a payload and subtract it from the budget.

        Raises UnicodeDecodeError or LimitError.
        """
        self.n_bytes -= len(payload)
        self._check(self.n_bytes, "JSON", where)
        try:
            text = str(payload, "ascii")
            # One escaped character can make Python store its whole string in wide characters.
            wide = "\\u" in text
        except UnicodeDecodeError:
            text, wide = "", True
        if wide:
            self.n_wide_bytes -= len(payload)
            self._check(self.n_wide_bytes, "JSON with characters past ASCII", where)
            text = text or str(payload, "utf-8")
        self.n_values -= sum(text.count(mark) for mark in "[{,")
        self._check(self.n_values, "JSON values", where)
        return text

    def _check(self, left: int, what: str, where: str) -> None:
        if left < 0:
            raise LimitError(f"more {what} than a file of this size may hold", where=where)


def parse_json(payload: bytes | memoryview, where: str, budget: JsonBudget | None = None) -> dict[str, Json]:
    """Return a payload as an object; {} for an empty payload.

    Args:
        budget: what the file may still hold; None applies only the caps of one payload.

    Raises:
        JsonError: the payload is not Unicode, not JSON, or not an object.
        DuplicateKeyError: a key is given twice.
        LimitError: the payload exceeds a cap on values or depth.
    """
    if not payload:
        return {}
    try:
        text = (budget or JsonBudget()).decode(payload, where)
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except DuplicateKeyError as error:
        error.where = where
        raise
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise JsonError(f"the payload is not JSON: {error}", where=where) from error
    except RecursionError as error:
        raise LimitError(f"JSON nested deeper than {layout.MAX_JSON_DEPTH}", where=where) from error
    if not isinstance(value, dict):
        raise JsonError(f"the payload is a JSON {type(value).__name__}, not an object", where=where)
    _check_depth(value, where)
    if _SURROGATE.search(text):
        _check_characters(value, where)
    return value


def _check_characters(value: Json, where: str) -> None:
    # Half a surrogate pair, written as an escape, becomes a str that UTF-8 cannot encode, so it could
    # not be hashed or printed.
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise JsonError("a string holds half a surrogate pair", where=where) from error


def _check_depth(value: Json, where: str) -> None:
    level: list[Json] = [value]
    for _ in range(layout.MAX_JSON_DEPTH):
        deeper: list[Json] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            deeper.extend(child for child in children if isinstance(child, dict | list))
        if not deeper:
            return
        level = deeper
    raise LimitError(f"JSON nested deeper than {layout.MAX_JSON_DEPTH}", where=where)


def kind_of(value: dict[str, Json], allowed: tuple[str, ...], where: str) -> str:
    """Return the `kind` of a payload. Raises LaneKindError when it is missing or not allowed in its
    lane.
    """
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in allowed:
        raise LaneKindError(f"kind {shown(repr(kind))}, allowed are {', '.join(allowed)}", where=where)
    return kind


def encode_json(value: Json, where: str) -> bytes:
    """Return the canonical bytes of a payload.

    Raises ContentsError when the payload has no canonical form or exceeds the caps.
    """
    try:
        payload = canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContentsError(f"no canonical JSON form: {error}", where=where) from error
    if len(payload) > layout.MAX_JSON_BYTES:
        raise ContentsError(f"{len(payload)} bytes of JSON, the cap is {layout.MAX_JSON_BYTES}", where=where)
    try:
        # The writer obeys the limits of the reader.
        parse_json(payload, where)
    except ArtifactError as error:
        raise ContentsError(error.what, where=where) from error
    return payload
