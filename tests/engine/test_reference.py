"""Laws of the reference engine: a token's result does not depend on how it
came in; bad calls are refused.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import Tiny, ids, tiny

from sevenfold.core.errors import GateError
from sevenfold.core.numbers import fixed
from sevenfold.engine import ops, reference
from sevenfold.engine.reference import Cache, forward
from sevenfold.engine.weights import IntegerModel

CONTEXT = 24


@cache
def loaded(shape: str) -> IntegerModel:
    return tiny(shape).load()


@cache
def whole(shape: str) -> tuple[np.ndarray, Cache]:
    """Logits and cache of one call over the whole context."""
    model = loaded(shape)
    held = Cache(model.shape)
    return forward(model, ids(CONTEXT), held), held


def assert_same(shape: str, logits: np.ndarray, held: Cache) -> None:
    expected, whole_cache = whole(shape)
    assert np.array_equal(logits, expected)
    assert held.length == whole_cache.length
    for mine, other in zip(held.layers, whole_cache.layers, strict=True):
        for name in ("k", "k_m", "k_e", "v", "v_m", "v_e"):
            assert np.array_equal(getattr(mine, name), getattr(other, name)), name


def in_pieces(shape: str, cuts: list[int]) -> None:
    model, held = loaded(shape), Cache(loaded(shape).shape)
    bounds = [0, *sorted(cuts), CONTEXT]
    parts = [
        forward(model, ids(CONTEXT)[start:end], held)
        for start, end in itertools.pairwise(bounds)
        if end > start
    ]
    assert_same(shape, np.concatenate(parts), held)


@pytest.mark.parametrize("shape", ["dense", "gqa", "moe", "stacks"])
@pytest.mark.parametrize("cut", range(1, CONTEXT))
def test_split_at_every_position(shape: str, cut: int) -> None:
    in_pieces(shape, [cut])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["dense", "gqa", "moe", "stacks"]), st.sets(st.integers(1, CONTEXT - 1)))
def test_split_into_any_pieces(shape: str, cuts: set[int]) -> None:
    in_pieces(shape, list(cuts))


@pytest.mark.parametrize("shape", ["dense", "gqa", "moe", "stacks"])
def test_one_token_at_a_time(shape: str) -> None:
    in_pieces(shape, list(range(1, CONTEXT)))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_last_only_is_the_last_row(count: int) -> None:
    model = loaded("gqa")
    row = forward(model, ids(CONTEXT)[:count], Cache(model.shape), last_only=True)
    assert np.array_equal(row, whole("gqa")[0][count - 1 : count])


def test_later_tokens_do_not_reach_back() -> None:
    model, other = loaded("moe"), ids(CONTEXT).copy()
    other[9:] = (other[9:] + 1) % 37
    logits = forward(model, other, Cache(model.shape))
    assert np.array_equal(logits[:9], whole("moe")[0][:9])
    assert not np.array_equal(logits[9:], whole("moe")[0][9:])


def test_each_token_goes_through_its_own_expert() -> None:
    model = loaded("moe")
    changed = tiny("moe").changed(
        lambda records, graph: records["router.experts"].data.__setitem__(int(ids(CONTEXT)[4]), 1)
    )
    was = int(model.router_V[ids(CONTEXT)[4]])
    logits = forward(changed.load(), ids(CONTEXT), Cache(model.shape))
    assert np.array_equal(logits, whole("moe")[0]) == (was == 1)
    assert {0, 1} <= set(model.router_V[ids(CONTEXT)].tolist()), "the test reaches both experts"


def test_the_first_id_of_a_sequence_chooses_its_stack() -> None:
    model, tokens = loaded("stacks"), ids(CONTEXT)
    rows = {}
    for first in range(3):
        start = int(np.nonzero(model.router_V == first)[0][0])
        held = Cache(model.shape)
        rows[first] = forward(model, np.array([start, *tokens[1:]]), held)[-1]
        assert held.stack == first
    assert len({row.tobytes() for row in rows.values()}) == 3
    # A later id of another domain changes nothing but its own embedding.
    changed = tiny("stacks").changed(
        lambda records, graph: records["router.experts"].data.__setitem__(slice(None), 1)
    )
    same = forward(changed.load(), tokens, Cache(model.shape))
    assert np.array_equal(same, whole("stacks")[0]) == (int(model.router_V[tokens[0]]) == 1)


# Calls that are refused. Nothing is written to the cache by one.


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "at least one token"),
        ([[1, 2]], "at least one token"),
        ([0, 37], "token id 37 is outside the vocabulary of 37"),
        ([-1], "token id -1"),
        ([2**40], "outside the vocabulary"),
        ([1] * (CONTEXT + 1), "25 tokens exceed the context of 24"),
    ],
)
def test_bad_ids(bad: list[int], message: str) -> None:
    model = loaded("dense")
    held = Cache(model.shape)
    with pytest.raises(GateError, match=message):
        forward(model, np.array(bad, np.int64), held)
    assert held.length == 0
    assert not held.layers[0].k_m.any()


def test_the_context_is_the_sum_of_all_calls() -> None:
    model = loaded("dense")
    held = Cache(model.shape)
    forward(model, ids(CONTEXT - 1), held)
    with pytest.raises(GateError, match="25 tokens exceed"):
        forward(model, ids(2), held)
    forward(model, ids(1), held)
    with pytest.raises(GateError, match="25 tokens exceed"):
        forward(model, ids(1), held)
    assert held.length == CONTEXT


@pytest.mark.parametrize("bad", [np.array([1.0]), np.array([True]), np.array(["1"]), np.array([1j])])
def test_ids_are_integers(bad: np.ndarray) -> None:
    model = loaded("dense")
    with pytest.raises(TypeError, match="integers expected"):
        forward(model, bad, Cache(model.shape))


# Canaries: the comparisons above do notice a single changed entry.


def logits_of(model: Tiny) -> bytes:
    weights = model.load()
    return forward(weights, ids(CONTEXT), Cache(weights.shape)).astype(">i4").tobytes()


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("embedding.weight", (int(ids(CONTEXT)[0]), 3)),
        ("layers.00.attn.q_proj.weight", (1, 1)),
        ("layers.01.ffn.up_proj.weight", (9, 23)),
        ("lm_head.weight", (36, 0)),
        ("lm_head.weight.rows", (7, 1)),
        ("layers.00.attn_norm.weight.gain", (5, 1)),
        ("rope.cos_sin", (3, 1, 0, 0)),
    ],
)
def test_one_changed_byte_of_a_record_changes_the_logits(name: str, at: tuple[int, ...]) -> None:
    model = tiny("dense")

    def flip(records, graph):
        data = records[name].data.reshape(records[name].dims)
        data[at] = data[at] ^ (2 if abs(int(data[at])) < 100 else 64)

    assert logits_of(model.changed(flip)) != logits_of(model)


@pytest.mark.parametrize("table", ["_EXP2", "_SIGMOID", "_RSQRT"])
def test_one_changed_table_entry_changes_the_logits(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("dense")
    good = logits_of(model)
    original = getattr(fixed, table)
    seen = 0
    for entry in range(0, len(original), max(1, len(original) // 16)):
        changed = original.copy()
        changed[entry : entry + len(original) // 16] += 64
        monkeypatch.setattr(fixed, table, changed)
        seen += logits_of(model) != good
    monkeypatch.setattr(fixed, table, original)
    assert logits_of(model) == good
    assert seen >= 4


# Greedy choice.


def test_argmax_takes_the_lowest_of_equals() -> None:
    assert reference.argmax(np.array([3, 9, 9, 1])) == 1
    assert reference.argmax(np.array([-5])) == 0
    assert reference.argmax(np.full(9, -(2**31))) == 0
    assert reference.argmax(np.array([2**31 - 2, 2**31 - 1, 2**31 - 1])) == 1


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=20))
def test_argmax_is_the_first_maximum(values: list[int]) -> None:
    assert reference.argmax(np.array(values)) == values.index(max(values))


def test_equal_rows_of_the_head_give_equal_logits_and_the_lower_id() -> None:
    def same_rows(state):
        state["lm_head.weight"][:] = state["lm_head.weight"][0]

    model = tiny("dense", same_rows).load()
    row = forward(model, ids(3), Cache(model.shape), last_only=True)[0]
    assert len(set(row.tolist())) == 1
    assert reference.argmax(row) == 0


def test_headroom_never_shifts_right() -> None:
    for n_inputs in (1, 2, 64, 4096, 16384, 66572, 66573, ops.MAX_INPUTS):
        lift = ops.headroom(n_inputs)
        assert 0 <= lift <= 16
        assert (127 * 127 * n_inputs) << lift < 2**31
