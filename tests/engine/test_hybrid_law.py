"""Law version 2: the reference equals the oracle on hybrid attention, wherever a prompt is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hybrid_oracle import HybridOracle
from tiny_models import EXTREMES, HYBRID_SHAPES, ids, tiny

from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.engine import reference
from sevenfold.engine.weights import with_kv_bits

# Twice a block of the reference would take the oracle minutes; 80 tokens pass every window here by
# nine times or more.
LENGTH = 80


@pytest.mark.parametrize("shape", HYBRID_SHAPES)
def test_the_reference_equals_the_oracle(shape: str) -> None:
    model = tiny(shape, ring=5)
    tokens = ids(min(LENGTH, model.graph["model"]["context"]))
    weights, oracle = model.load(), HybridOracle(model.raw(), model.graph)
    found = reference.forward(weights, tokens, reference.Cache(weights.shape))
    assert found.tolist() == [oracle.step(int(token)) for token in tokens]


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_weights_give_the_oracles_bits(name: str) -> None:
    model = tiny("hybrid_gqa", EXTREMES[name], ring=3, n_layers=1)
    tokens = ids(24)
    weights, oracle = model.load(), HybridOracle(model.raw(), model.graph)
    found = reference.forward(weights, tokens, reference.Cache(weights.shape))
    assert found.tolist() == [oracle.step(int(token)) for token in tokens]


def state_arrays(cache: reference.Cache) -> list[list[Json]]:
    """Every number of a hybrid cache."""
    rows = []
    for state in cache.states:
        parts = (state.window_k, state.window_v, state.stride_k, state.stride_v, state.ring_k, state.ring_v)
        rows += [part.codes.tolist() for part in parts] + [x.tolist() for part in parts for x in part.scale]
        rows.append(state.stride_score.tolist())
    return rows


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_each_width_of_cached_codes_equals_the_oracle(bits: int) -> None:
    model = tiny("hybrid_4")
    tokens = ids(30)
    weights, oracle = with_kv_bits(model.load(), bits), HybridOracle(model.raw(), model.graph, bits)
    found = reference.forward(weights, tokens, reference.Cache(weights.shape))
    assert found.tolist() == [oracle.step(int(token)) for token in tokens]


@pytest.mark.parametrize("shape", ["hybrid", "hybrid_far", "hybrid_odd", "hybrid_4"])
def test_a_prompt_may_be_cut_anywhere(shape: str) -> None:
    tokens = ids(40)
    weights = tiny(shape, ring=3, document_start=int(tokens[17])).load()
    whole = reference.Cache(weights.shape)
    expected = reference.forward(weights, tokens, whole)
    for parts in [*(np.split(tokens, [cut]) for cut in range(1, 40)), np.split(tokens, 40)]:
        cache = reference.Cache(weights.shape)
        found = np.concatenate([reference.forward(weights, part, cache) for part in parts])
        assert np.array_equal(found, expected)
        assert state_arrays(cache) == state_arrays(whole)


def test_a_packed_document_is_computed_as_alone() -> None:
    tokens = ids(60)
    tokens[[0, 7, 8, 31]] = 36
    tokens[tokens == 36] = 35
    tokens[[0, 7, 8, 31]] = 36
    model = tiny("hybrid_yarn", document_start=36, ring=4)
    weights, oracle = model.load(), HybridOracle(model.raw(), model.graph)
    packed = reference.forward(weights, tokens, reference.Cache(weights.shape))
    assert packed.tolist() == [oracle.step(int(token)) for token in tokens]
    for first, end in [(0, 7), (7, 8), (8, 31), (31, 60)]:
        alone = reference.forward(weights, tokens[first:end], reference.Cache(weights.shape))
        assert np.array_equal(packed[first:end], alone)


def test_the_state_has_constant_size() -> None:
    weights = tiny("hybrid_gqa", ring=4).load()
    cache, sizes = reference.Cache(weights.shape), set()
    for token in ids(90):
        reference.forward(weights, np.array([token]), cache)
        state = cache.states[0]
        assert len(state.stride_k) < 2 * 2
        sizes.add((len(state.window_k), len(state.ring_k)))
    assert max(sizes) == (6, 4)


def test_blocks_of_the_reference_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, tokens = tiny("hybrid_gqa", ring=4).load(), ids(90)
    expected = reference.forward(weights, tokens, reference.Cache(weights.shape))
    monkeypatch.setattr(reference, "BLOCK", 7)
    assert np.array_equal(reference.forward(weights, tokens, reference.Cache(weights.shape)), expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("window", 0, "attention.window"),
        ("window", 7, "no multiple"),
        ("stride", 2**17, "attention.stride"),
        ("ring", None, "attention.ring"),
        ("document_start", 37, "attention.document_start"),
        ("kv_bits", [5], "attention.kv_bits"),
        ("kv_bits", [], "attention.kv_bits"),
    ],
)
def test_a_graph_outside_the_law_is_refused_by_name(key: str, value: Json, message: str) -> None:
    broken = tiny("hybrid").changed(lambda _, graph: graph["attention"].update({key: value}))
    with pytest.raises(ArtifactError, match=message):
        broken.load()


def test_a_version_is_needed_for_what_it_defines() -> None:
    def relabel(_: object, graph: dict[str, Json]) -> None:
        graph["arithmetic"]["version"] = 3

    with pytest.raises(ArtifactError, match="versions 1 and 2"):
        tiny("hybrid").changed(relabel).load()


def test_a_width_that_the_file_does_not_allow_is_refused() -> None:
    with pytest.raises(UsageError, match="4 bits"):
        with_kv_bits(tiny("hybrid_6").load(), 4)
    with pytest.raises(UsageError, match="6 bits"):
        with_kv_bits(tiny("dense").load(), 6)
