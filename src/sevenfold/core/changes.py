"""Differences between two JSON values, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator

from sevenfold.core.hashing import Json

ABSENT = {"absent": True}


def flatten(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every leaf with its dotted path. An empty object or list is a leaf."""
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from flatten(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from flatten(item, f"{path}[{index}]")
    else:
        yield path, value


def changes(a: Json, b: Json) -> list[dict[str, Json]]:
    """Return the leaves that differ, by path. A leaf that one side lacks is {"absent": true}."""
    left, right = dict(flatten(a)), dict(flatten(b))
    rows = []
    for key in sorted(left.keys() | right.keys()):
        before, after = left.get(key, ABSENT), right.get(key, ABSENT)
        # 1, 1.0 and true are equal in Python and differ in the file.
        if repr(before) != repr(after):
            rows.append({"key": key, "a": before, "b": after})
    return rows
