"""Transcripts: read or refused, compared by what a call was given and not by the order of calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.audit.steps.transcript import Transcript, TranscriptRow, find_parting, hash_of, rows_of
from sevenfold.core.errors import ArtifactError
from sevenfold.model.kernels.observe import note, observed, observing

names = st.text("abc", min_size=1, max_size=2)
hashes = st.dictionaries(names, st.sampled_from("0123456789"), max_size=2)
rows = st.builds(
    lambda operator, inputs: TranscriptRow(operator, {}, inputs, {"y": hash_of(float(len(inputs)))}),
    names,
    hashes,
)


@given(own=st.lists(rows, max_size=12), data=st.data())
def test_the_order_of_calls_is_no_claim(own: list[TranscriptRow], data: st.DataObject) -> None:
    other = data.draw(st.permutations(own))
    assert find_parting(own, other) is None
    assert rows_of([row.as_json() for row in own]) == own
    if own:
        at = data.draw(st.integers(0, len(own) - 1))
        changed = [replace(r, outputs={"y": "other"}) if r.key == own[at].key else r for r in other]
        found = find_parting(own, changed)
        assert found is not None
        assert (found.kind, own[found.a].key) == ("output", own[at].key)
        without = [row for row in other if row.key != own[at].key]
        found = find_parting(own, without)
        assert found is not None
        assert (found.kind, own[found.a].key, found.b) == ("input", own[at].key, None)


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["operator", "settings", "inputs", "outputs"]) | st.text(max_size=3),
                    inner,
                )
            ),
        ),
        max_size=3,
    )
)
def test_any_list_is_read_or_refused(value: list[Any]) -> None:
    try:
        rows_of(value)
    except ArtifactError:
        return
    assert all(row.keys() == {"operator", "settings", "inputs", "outputs"} for row in value)


@observed(out=("to",), unless="goes_on")
def twice(x: torch.Tensor, to: torch.Tensor, *, goes_on: bool = False) -> torch.Tensor:
    """Double x, into `to`."""
    return to.copy_(x * 2 + (to if goes_on else 0))


def test_what_an_operator_writes_over_is_hashed_before() -> None:
    x = torch.tensor([1.0, 2.0])
    seen = Transcript(lambda _number, _row: True)
    with observing(seen):
        twice(x, x)
        twice(x, x, goes_on=True)
        note("read", {"ids": x}, number=3)
    twice(x, x)
    first, second, third = seen.rows
    assert first.inputs == {"x": hash_of(torch.tensor([1.0, 2.0]))}
    assert first.outputs == {"result.0": hash_of(torch.tensor([2.0, 4.0]))}
    assert second.inputs == dict.fromkeys(("x", "to"), first.outputs["result.0"])
    assert second.settings == {"goes_on": True}
    assert (third.operator, third.settings, dict(third.inputs)) == ("read", {"number": 3}, {})
    assert seen.kept[0].inputs["x"].tolist() == [1.0, 2.0]
    assert seen.kept[0].outputs["result.0"].tolist() == [2.0, 4.0]


def test_a_hash_tells_zeros_shapes_and_types_apart() -> None:
    values = [torch.tensor(v) for v in ([0.0], [-0.0], [[0.0]], [0])]
    assert len({hash_of(value) for value in values}) == len(values)
    with pytest.raises(ArtifactError):
        rows_of([{"operator": 1, "settings": {}, "inputs": {}, "outputs": {}}])
