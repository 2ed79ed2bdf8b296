"""The verifier is total over JSON that means nothing: any payload, with every digest,
the seal and the root right.
"""

from __future__ import annotations

import pytest
from build_attacks import Parts
from hypothesis import given
from hypothesis import strategies as st
from packing import canonical, pack_file, pack_sealed

from sevenfold.artifact import parse_artifact, verify
from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json

ARTIFACT = parse_artifact(Parts.sample().pack())

json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = {
    "control": ("bindings", "projections", "records"),
    "graph": ("operations",),
    "provenance": ("identity", "data", "golden", "abi_hash", "meta_hash"),
    "trace": ("projection",),
}


@given(st.data())
def test_changed_payloads_with_valid_digests(draw: st.DataObject) -> None:
    lanes = [(lane.id, bytearray(ARTIFACT.payload(lane))) for lane in ARTIFACT.lanes]
    for _ in range(draw.draw(st.integers(1, 3))):
        _, payload = draw.draw(st.sampled_from(lanes))
        position = draw.draw(st.integers(0, len(payload) - 1))
        replaced = draw.draw(st.integers(0, 4))
        payload[position : position + replaced] = draw.draw(
            st.sampled_from([b'"', b"{", b"[", b"0", b"1e999", b"null", b"\\ud800", b"\0"])
            | st.binary(max_size=4)
        )
    changed = [(lane_id, bytes(payload)) for lane_id, payload in lanes]
    pack = draw.draw(
        st.sampled_from([lambda: pack_sealed(changed[1:]), lambda: pack_file(changed, version=3)])
    )
    data = pack()
    changed = [bytes(payload) for _, payload in lanes] != [ARTIFACT.payload(x) for x in ARTIFACT.lanes]
    try:
        rows = verify(parse_artifact(data), lambda _: []).rows
        said, is_refused = [row.detail for row in rows], any(row.status == "fail" for row in rows)
    except ArtifactError as error:
        said, is_refused = [str(error)], True
    assert all(text.isprintable() for text in said)
    assert is_refused or not changed


@given(st.data())
def test_verify_is_total_over_hostile_json(draw: st.DataObject) -> None:
    parts = Parts.sample()
    parts.bind_data = False
    for kind, keys in KEYS.items():
        for key in keys:
            how = draw.draw(st.integers(0, 3))
            if how == 0:
                parts.json[kind][key] = draw.draw(json_values)
            held = parts.json[kind].get(key)
            if how == 1 and isinstance(held, list) and held and isinstance(held[0], dict):
                name = draw.draw(st.sampled_from(sorted(held[0])))
                held[0][name] = draw.draw(json_values)
    hostile_seal = draw.draw(st.booleans())
    if hostile_seal:
        hostile = draw.draw(json_values)
        parts.seal_patch = lambda seal: seal.update(lanes=hostile)
    parts.encode = {
        kind: lambda value: canonical(value).replace(b"Infinity", b"1e999") for kind in (*KEYS, "seal")
    }
    data = parts.pack()
    if hostile_seal:
        with pytest.raises(ArtifactError, match="seal"):
            parse_artifact(data)
        return
    verification = verify(parse_artifact(data), lambda _: [])
    assert len(verification.rows) == 8
    assert not verification.ok  # the replay gave no rows
    assert verification.as_json()["ok"] is False
