"""Bodies: what is no plain JSON object is refused in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.serve.errors import RequestError
from sevenfold.serve.protocols.body import read_object

BAD = {
    "empty": b"",
    "array": b"[]",
    "number": b"3",
    "two": b"{} {}",
    "mark": b"\xef\xbb\xbf{}",
    "latin": b'{"a":"\xe9"}',
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "large": b'{"a":1e400}',
    "digits": b'{"a":' + b"9" * 5000 + b"}",
    "twice": b'{"a":1,"a":2}',
    "inner twice": b'{"a":{"b":1,"b":1}}',
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep open": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "cut": b'{"a":"',
    "control": b'{"a":"\x00"}',
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_object(BAD[name], 32)
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)


def test_brackets_in_texts_do_not_count() -> None:
    value = {"a": "[" * 1000, "b": '\\"[{' * 10}
    assert read_object(json.dumps(value).encode(), 2) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = read_object(data, 4)
    except RequestError:
        return
    assert value == json.loads(data)
