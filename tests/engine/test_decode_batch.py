"""Steps of a server: limits of their own, prompts that are only read, and an end from outside."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from tiny_models import ids, tiny

from sevenfold.core.errors import GateError
from sevenfold.engine import native

REASON = native.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")
PROMPTS = (3, 7, 1, 12, 5)


@pytest.fixture(scope="module", params=["dense", "moe"])
def engine(request: pytest.FixtureRequest) -> native.NativeEngine:
    return native.NativeEngine(tiny(request.param).load(), n_threads=2)


def calls(engine: native.NativeEngine) -> list[tuple[native.NativeSession, np.ndarray]]:
    return [(engine.session(), ids(n)) for n in PROMPTS]


@pytest.mark.parametrize("limits", [(8, 8, 8, 8, 8), (8, 0, 3, 1, 0), (1, 1, 1, 1, 1), (0, 0, 0, 0, 0)])
def test_each_sequence_has_the_first_steps_of_a_batch(
    engine: native.NativeEngine, limits: tuple[int, ...]
) -> None:
    expected = engine.greedy_batch(calls(engine), 8)
    started = calls(engine)
    rows = engine.decode_batch(started, limits)
    assert rows == [row[:n] for row, n in zip(expected, limits, strict=True)]
    held = [session.length for session, _ in started]
    assert held == [len(i) + max(0, n - 1) for (_, i), n in zip(started, limits, strict=True)]
    # What was only read goes on as if it had been read with the first step.
    again = [
        (session, np.array(row[-1:] or ids(1), np.int64))
        for (session, _), row in zip(started, rows, strict=True)
    ]
    alone = [session.fork() for session, _ in again]
    assert engine.decode_batch(again, [2] * len(again)) == [
        other.greedy(call, 2) for other, (_, call) in zip(alone, again, strict=True)
    ]


def test_an_interrupt_ends_the_steps_after_one(engine: native.NativeEngine) -> None:
    expected = engine.greedy_batch(calls(engine), 8)
    interrupt = ctypes.c_int32(1)
    rows = engine.decode_batch(calls(engine), [8, 8, 0, 8, 8], interrupt=interrupt)
    assert rows == [expected[0][:1], expected[1][:1], [], expected[3][:1], expected[4][:1]]
    interrupt.value = 0
    assert engine.decode_batch(calls(engine), [8] * 5, interrupt=interrupt) == expected


def test_a_stop_ends_its_own_sequence(engine: native.NativeEngine) -> None:
    expected = engine.greedy_batch(calls(engine), 8)
    stop = expected[3][2]
    rows = engine.decode_batch(calls(engine), [8] * 5, stop=stop)
    assert rows == [row[: row.index(stop) + 1] if stop in row else row for row in expected]


def test_what_is_refused_changes_nothing(engine: native.NativeEngine) -> None:
    session = engine.session()
    context = engine.model.shape.context
    for call, limits, words in (
        ([], [], "a batch is empty"),
        ([(session, ids(1))], [-1], "-1 tokens"),
        ([(session, ids(1))], [context + 1], "exceed the context"),
        ([(session, ids(1)), (session, ids(1))], [1, 1], "twice"),
    ):
        with pytest.raises(GateError, match=words):
            engine.decode_batch(call, limits)
        assert session.length == 0
    made, tokens, limit = np.zeros(1, np.int32), np.zeros(4, np.int32), np.array([5], np.int32)
    with engine._runs([(session, ids(1))], [None]) as runs, engine.team() as team:

        def decode(**other: object) -> int:
            given = {"team": team, "runs": runs, "limits": limit.ctypes.data, "n": 1, "most": 5} | other
            return int(
                engine._library.s7_decode(
                    given["team"], given["runs"], given["limits"], given["n"], -1,
                    tokens.ctypes.data, given["most"], made.ctypes.data, None,
                )
            )  # fmt: skip

        assert [decode(**{name: None}) for name in ("team", "runs", "limits")] == [1, 1, 1]
        assert (decode(n=0), decode(most=4)) == (6, 2)
