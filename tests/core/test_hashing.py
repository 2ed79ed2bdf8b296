"""Digests that cannot be confused, and the one byte form of JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import canonical_json, digest, sha256, sha256_file

PARTS = st.lists(st.binary(max_size=6), max_size=5)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_known_values() -> None:
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    length = (1).to_bytes(8, "big")
    assert digest("a", "b") == hashlib.sha256(length + b"a" + length + b"b").hexdigest()
    assert digest("a", b"b") == digest("a", "b")


@given(st.text(max_size=5), PARTS, st.text(max_size=5), PARTS)
def test_different_parts_have_different_digests(
    tag: str, parts: list[bytes], other_tag: str, other: list[bytes]
) -> None:
    same = (tag, parts) == (other_tag, other)
    assert (digest(tag, *parts) == digest(other_tag, *other)) == same


@given(st.binary(min_size=1, max_size=8), st.data())
def test_a_cut_elsewhere_is_another_digest(whole: bytes, data: st.DataObject) -> None:
    first, second = (data.draw(st.integers(0, len(whole))) for _ in range(2))
    assume(first != second)
    assert digest("t", whole[:first], whole[first:]) != digest("t", whole[:second], whole[second:])
    assert digest("t", whole) != digest("t", whole, b"")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"abc", bytes(3 * 2**20 + 5)):
        path.write_bytes(data)
        assert sha256_file(path) == hashlib.sha256(data).hexdigest()
    with pytest.raises(StorageError, match="no such file"):
        sha256_file(tmp_path / "absent")
    with pytest.raises(StorageError, match="directory"):
        sha256_file(tmp_path)


def test_canonical_form() -> None:
    value = {"b": [1, 2.5, None, True], "a": "\u00e9\n", "": {}}
    assert canonical_json(value) == b'{"":{},"a":"\\u00e9\\n","b":[1,2.5,null,true]}'


@given(JSON_VALUES)
def test_round_trip_and_one_form(value: Any) -> None:
    raw = canonical_json(value)
    assert raw.isascii()
    again = json.loads(raw)
    assert again == value
    assert canonical_json(again) == raw


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, [v]], lambda v: {"a": {"b": (v,)}}])
def test_numbers_that_are_not_finite_are_refused(bad: float, wrap: Any) -> None:
    with pytest.raises(ValueError, match="no canonical form"):
        canonical_json(wrap(bad))


def test_the_place_of_a_bad_number_is_named() -> None:
    with pytest.raises(ValueError, match=r"\.a\.b\[1\]: nan"):
        canonical_json({"a": {"b": [0, float("nan")]}})


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1, 2)])
def test_keys_are_strings(key: Any) -> None:
    with pytest.raises(ValueError, match="is not a string"):
        canonical_json({"outer": [{key: 1}]})


def test_other_objects_are_refused() -> None:
    for bad in ({1, 2}, b"bytes", object()):
        with pytest.raises(TypeError):
            canonical_json({"a": bad})
