"""Damaged records and graphs: what loads runs the same on every instruction set as on the
reference; what does not is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_models import SHAPES, ids, tiny

from sevenfold.core.errors import SevenfoldError
from sevenfold.engine import native, reference

REASON = native.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")
EDGES = (
    -(2**63),
    -(2**31),
    -1025,
    -1024,
    -1,
    0,
    1,
    2,
    3,
    15,
    16,
    127,
    1024,
    1025,
    2**20,
    2**31 - 1,
    2**48,
    2**63 - 1,
)
Change = Callable[[dict[str, Any], dict[str, Any]], None]
SECONDS = 60


def damage(rng: np.random.Generator) -> Change:
    """One change of records or graph, as a function of both."""
    kind, where, what = rng.integers(0, 6), int(rng.integers(0, 2**31)), int(rng.integers(0, 256))

    def change(records: dict[str, Any], graph: dict[str, Any]) -> None:
        name = sorted(records)[where % len(records)]
        record = records[name]
        if kind <= 2:  # bytes of a tensor
            for i in range(1 + what % 5):
                record.data.flat[(where + 7919 * i) % record.data.size] = np.int8(
                    (what * (i + 1)) % 256 - 128
                )
        elif kind == 3:
            del records[name]
        elif kind == 4:  # rows of another tensor's shape
            other = records[sorted(records)[what % len(records)]]
            records[name] = other
        else:  # a number of the graph
            inner = [value for value in (graph, *graph.values()) if isinstance(value, dict)]
            chosen = inner[where % len(inner)]
            keys = sorted(k for k, v in chosen.items() if isinstance(v, int))
            if keys:
                chosen[keys[what % len(keys)]] = EDGES[where % len(EDGES)]

    return change


def one(seed: int) -> bool:
    """Whether the damaged model was taken; raises when two engines differ
    or an error is none of ours.
    """
    rng = np.random.default_rng(seed)
    built = tiny(str(rng.choice(sorted(SHAPES))))
    for _ in range(int(rng.integers(0, 4))):
        built = built.changed(damage(rng))
    try:
        weights = built.load()
    except SevenfoldError:
        return False
    tokens = ids(8, weights.shape.vocab_size, seed)
    expected = reference.forward(weights, tokens, reference.Cache(weights.shape))
    for isa in native.instruction_sets():
        session = native.NativeEngine(weights, isa, 1).session()
        got = np.concatenate([session.forward(tokens[:3]), session.forward(tokens[3:])])
        assert np.array_equal(got, expected), (seed, isa)
    return True


def test_damaged_models_are_refused_or_run_alike() -> None:
    taken = [one(seed) for seed in range(60)]
    assert any(taken)
    assert not all(taken)


@pytest.mark.slow
def test_damaged_models_for_a_minute() -> None:
    end, seed = time.monotonic() + SECONDS, 1000
    while time.monotonic() < end:
        one(seed)
        seed += 1
    assert seed > 1000
