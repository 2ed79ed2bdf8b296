"""Exchange frames and values between the judge and the sample of a graded Python task.

Both load this file by itself, so it imports nothing of the project. A frame is a length of four bytes
and JSON. A value is a list that begins with the letter of its kind. A value without a kind stays
where it was made, and only its number is sent (`OpaqueReference`).
"""

from __future__ import annotations

import json
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 4 << 20
MAX_DEPTH = 60
MAX_ITEMS = 100_000
_ITERATORS = (
    "map", "filter", "zip", "generator", "range_iterator", "list_iterator", "reversed", "enumerate", "chain",
    "islice",
    "dict_keyiterator", "tuple_iterator", "set_iterator", "str_iterator", "list_reverseiterator",
)  # fmt: skip


class OpaqueReference:
    """A value that cannot be sent: an object of a class that the sample defines."""

    def __init__(self, number: int, kind: str) -> None:
        self.number, self.kind = number, kind


class Unsendable(Exception):
    """A value or a frame that the other side does not accept."""


def write_frame(descriptor: int, value: object) -> None:
    """Write one frame. Raises Unsendable when it is too large."""
    data = json.dumps(value).encode()
    if len(data) > MAX_FRAME_BYTES:
        raise Unsendable("too large")
    view = memoryview(LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_frame(descriptor: int) -> Any:
    """Return the value of the next frame, or None at the end. Raises ValueError or RecursionError."""
    head = _read(descriptor, LENGTH.size)
    return None if head is None else json.loads(_read(descriptor, LENGTH.unpack(head)[0]) or b"null")


def _read(descriptor: int, n_bytes: int) -> bytes | None:
    data = bytearray()
    while len(data) < n_bytes:
        block = os.read(descriptor, n_bytes - len(data))
        if not block:
            return None
        data += block
    return bytes(data)


_Items = Callable[[Any], list[Any]]
# Kinds of values, the narrower before the wider, because a bool is an int.
_KINDS: tuple[tuple[Any, Callable[[Any, _Items], list[Any]]], ...] = (
    (type(None), lambda _v, _items: ["n"]),
    (bool, lambda v, _items: ["b", v]),
    (int, lambda v, _items: ["i", hex(int.__index__(v))]),
    (float, lambda v, _items: ["f", float.hex(v)]),
    (complex, lambda v, _items: ["c", float.hex(v.real), float.hex(v.imag)]),
    (str, lambda v, _items: ["s", str.encode(v, "utf-8", "surrogatepass").hex()]),
    (bytes, lambda v, _items: ["y", bytes(v).hex()]),
    (bytearray, lambda v, _items: ["Y", bytes(v).hex()]),
    (list, lambda v, items: ["l", items(list.__iter__(v))]),
    (tuple, lambda v, items: ["t", items(tuple.__iter__(v))]),
    (set, lambda v, items: ["S", items(set.__iter__(v))]),
    (frozenset, lambda v, items: ["F", items(frozenset.__iter__(v))]),
    (dict, lambda v, items: ["d", items(dict.items(v))]),
    (range, lambda v, _items: ["r", hex(v.start), hex(v.stop), hex(v.step)]),
    (deque, lambda v, items: ["q", items(deque.__iter__(v))]),
    ((type({}.keys()), type({}.values()), type({}.items())), lambda v, items: ["v", items(v)]),
)


def pack(value: object, keep: Callable[[object], int], depth: int = 0) -> list[Any]:
    """Return a value as JSON. `keep` numbers the values that cannot be sent.

    A subclass of a container is sent as the container, so an `__eq__` of the sample decides nothing.

    Raises:
        Unsendable: the value is nested too deeply, or has too many items.
    """
    if depth > MAX_DEPTH:
        raise Unsendable("too deep")

    def items(values: Any) -> list[Any]:
        packed = []
        for item in values:
            packed.append(pack(item, keep, depth + 1))
            if len(packed) > MAX_ITEMS:
                raise Unsendable("too many items")
        return packed

    for kind, make in _KINDS:
        if isinstance(value, kind):
            return make(value, items)
    if type(value).__name__ in _ITERATORS and isinstance(value, Iterator):
        return ["I", items(value)]
    return ["R", keep(value), type(value).__name__[:100]]


def unpack(value: list[Any], found: Callable[[int, str], object]) -> object:
    """Return the value that was packed. `found` returns the object of a number.

    Raises any error of a malformed value.
    """
    letter, *rest = value

    def items() -> list[object]:
        return [unpack(item, found) for item in rest[0]]

    simple: dict[str, Callable[[], object]] = {
        "n": lambda: None,
        "b": lambda: bool(rest[0]),
        "i": lambda: int(rest[0], 16),
        "f": lambda: float.fromhex(rest[0]),
        "c": lambda: complex(float.fromhex(rest[0]), float.fromhex(rest[1])),
        "s": lambda: bytes.fromhex(rest[0]).decode("utf-8", "surrogatepass"),
        "y": lambda: bytes.fromhex(rest[0]),
        "Y": lambda: bytearray.fromhex(rest[0]),
        "l": items,
        "t": lambda: tuple(items()),
        "S": lambda: set(items()),
        "F": lambda: frozenset(items()),
        "d": lambda: dict(items()),  # type: ignore[arg-type]  # a pair that is none raises
        "r": lambda: range(*(int(part, 16) for part in rest)),
        "v": lambda: dict.fromkeys(items()).keys(),
        "q": lambda: deque(items()),
        "I": lambda: iter(items()),
        "R": lambda: found(rest[0], rest[1]),
    }
    return simple[letter]()
