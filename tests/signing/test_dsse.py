"""Statements in envelopes: the published example of DSSE, a round trip, and everything altered."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.release import dsse
from sevenfold.release.signature import make_key_pair

VALUE = dsse.statement("answer", "ab" * 32, "https://example.org/kind/v1", {"n": 3, "text": "\u00e4"})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    path = tmp_path_factory.mktemp("keys") / "key"
    public = make_key_pair(path)
    return dsse.load_private_key(path), dsse.load_public_key(public)


def test_what_is_signed_is_the_form_of_the_specification() -> None:
    # The example of DSSE's protocol.md, with this module's type.
    assert dsse._signed_bytes(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"


def test_a_signed_statement_comes_back_and_its_signer_is_named(pair: tuple[Any, Any]) -> None:
    private, public = pair
    envelope = dsse.envelope(VALUE, private)
    assert dsse.read_envelope(envelope) == VALUE
    assert dsse.signers(envelope, public) == [dsse.key_id(public)]
    assert dsse.signers(dsse.envelope(VALUE), public) == []


def test_another_payload_under_a_signature_is_refused(pair: tuple[Any, Any]) -> None:
    private, public = pair
    envelope = dsse.envelope(VALUE, private)
    other = dsse.envelope({**VALUE, "predicate": {"n": 4, "text": "\u00e4"}})
    with pytest.raises(ArtifactError, match="does not hold"):
        dsse.signers({**envelope, "payload": other["payload"]}, public)


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "text/plain"},
        {"payload": "%%%"},
        {"payload": 3},
        {"signatures": None},
        {"more": 1},
        {"payload": base64.b64encode(json.dumps(VALUE, indent=1).encode()).decode()},
        {"payload": base64.b64encode(b"[]").decode()},
        {"payload": base64.b64encode(b'{"_type":"x"}').decode()},
        {"payload": base64.b64encode(b"\xff").decode()},
        {"payload": base64.b64encode(b"[" * 100000).decode()},
    ],
)
def test_any_other_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        dsse.read_envelope({**dsse.envelope(VALUE), **change})


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.booleans(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_anything_is_read_or_refused(value: object) -> None:
    with pytest.raises(ArtifactError):
        dsse.read_envelope(value)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"no key")
    for load in (dsse.load_private_key, dsse.load_public_key):
        with pytest.raises(UsageError):
            load(tmp_path / "no")
