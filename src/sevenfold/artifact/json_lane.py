"""Payloads of the EDGE, LANE and BATCH lanes: JSON objects with a `kind`, read without trust.

The reader takes any JSON object inside the caps; that its bytes are the canonical ones is rule V0's to say.
"""

from __future__ import annotations

import json

from sevenfold.artifact import layout
from sevenfold.artifact.errors import ContentsError, DuplicateKeyError, JsonError, LaneKindError, LimitError
from sevenfold.core.hashing import Json, canonical_json


class _RepeatedKeyError(ValueError):
    """A key that an object holds twice; leaves `parse_json` as DuplicateKeyError."""


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for key, item in pairs:
        if key in value:
            raise _RepeatedKeyError(key)
        value[key] = item
    return value


def _no_constant(text: str) -> Json:
    raise ValueError(f"{text} is not JSON")


def parse_json(payload: bytes, where: str) -> dict[str, Json]:
    """A payload as an object; {} for an empty one.

    Raises:
        JsonError: not UTF-8, not JSON, not an object, or (DuplicateKeyError) a key twice.
        LimitError: deeper than the cap.
    """
    if not payload:
        return {}
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except _RepeatedKeyError as error:
        raise DuplicateKeyError(f"key {str(error)!r} is there twice", where=where) from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise JsonError(f"the payload is not JSON: {error}", where=where) from error
    except RecursionError as error:
        raise LimitError(f"JSON nested deeper than {layout.MAX_JSON_DEPTH}", where=where) from error
    if not isinstance(value, dict):
        raise JsonError(f"the payload is a JSON {type(value).__name__}, not an object", where=where)
    _check_depth(value, where)
    return value


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
    """The `kind` of a payload. Raises LaneKindError when it has none, or one that its lane does not have."""
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in allowed:
        raise LaneKindError(f"kind {kind!r}, allowed are {', '.join(allowed)}", where=where)
    return kind


def encode_json(value: Json, where: str) -> bytes:
    """Canonical bytes of a payload. Raises ContentsError when it has none, or is past the caps."""
    try:
        payload = canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContentsError(f"no canonical JSON form: {error}", where=where) from error
    if len(payload) > layout.MAX_JSON_BYTES:
        raise ContentsError(f"{len(payload)} bytes of JSON, the cap is {layout.MAX_JSON_BYTES}", where=where)
    parse_json(payload, where)
    return payload
