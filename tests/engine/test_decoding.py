"""Tokens computed ahead are those of single steps, wherever the caller stops, reads
logits or goes on with other ids.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ids, tiny

from sevenfold.core.errors import GateError
from sevenfold.engine import decoding, native, reference
from sevenfold.engine.decoding import GreedyDecoder

REASON = native.unavailable()
needs_native = pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")
CONTEXT = 140  # three pages
MODEL = tiny("gqa", context=CONTEXT, n_layers=1).load()
HERE = native.instruction_sets() if REASON is None else []


class Steps:
    """The oracle: one forward call a token, on the reference."""

    def __init__(self) -> None:
        self.cache, self.tokens = reference.Cache(MODEL.shape), []
        self.pending: list[int] = []
        self.logits = np.zeros(0, np.int64)

    def append(self, new: list[int]) -> None:
        self.logits = reference.forward(MODEL, np.array([*self.pending, *new]), self.cache, last_only=True)[0]
        self.pending = []

    def step(self) -> int:
        if self.pending:
            self.append([])
        self.pending = [reference.argmax(self.logits)]
        self.tokens += self.pending
        return self.pending[0]


def same(decoder: GreedyDecoder, oracle: Steps) -> None:
    assert decoder.tokens == oracle.tokens
    assert decoder.logits is not None
    assert np.array_equal(decoder.logits, oracle.logits)
    assert decoder.n_held == oracle.cache.length
    assert decoder.n_used == oracle.cache.length + len(oracle.pending)


ENGINES = {"reference": reference.ReferenceEngine(MODEL)} | {
    isa: native.NativeEngine(MODEL, isa, 1 + (isa == HERE[-1])) for isa in HERE
}
ACTIONS = st.one_of(
    st.just(("step", 1)), st.tuples(st.just("take"), st.integers(1, 40)),
    st.tuples(st.just("append"), st.integers(1, 5))
)  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=25, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=14), stops=st.sets(st.integers(0, 36), max_size=4))
def test_any_order_of_steps_bursts_and_ids(
    name: str, actions: list[tuple[str, int]], stops: set[int]
) -> None:
    decoder, oracle = GreedyDecoder(ENGINES[name], stops), Steps()
    decoder.append(ids(3).tolist())
    oracle.append(ids(3).tolist())
    for action, n in actions:
        if decoder.n_used + n + 1 > CONTEXT:
            break
        if action == "append":
            decoder.append(ids(n, seed=n).tolist())
            oracle.append(ids(n, seed=n).tolist())
        elif action == "step":
            assert decoder.step() == oracle.step()
        else:
            tokens = decoder.take(n)
            assert 1 <= len(tokens) <= n
            assert tokens == [oracle.step() for _ in tokens]
            assert not set(tokens[:-1]) & stops
        same(decoder, oracle)
    decoder.close()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("n_most", [1, 5, 1000])
def test_the_context_is_used_to_its_end(name: str, n_most: int) -> None:
    decoder, oracle = GreedyDecoder(ENGINES[name]), Steps()
    decoder.append(ids(70).tolist())
    oracle.append(ids(70).tolist())
    while decoder.n_used <= CONTEXT:
        decoder.take(n_most)
    with pytest.raises(GateError, match=f"{CONTEXT + 1} tokens exceed"):
        decoder.take(n_most)
    assert decoder.tokens == [oracle.step() for _ in range(CONTEXT - 70 + 1)]
    same(decoder, oracle)
    with pytest.raises(GateError, match="exceed"):
        decoder.append([1])
    same(decoder, oracle)


@needs_native
def test_bursts_grow_and_one_token_costs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    generate = native.NativeSession.generate

    def counted(self: native.NativeSession, new: object, n_tokens: int, stops: object = ()) -> object:
        asked.append(n_tokens)
        return generate(self, new, n_tokens, stops)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(native.NativeSession, "generate", counted)
    monkeypatch.setattr(decoding, "BURST_SECONDS", 1e6)
    decoder = GreedyDecoder(ENGINES[HERE[-1]])
    decoder.append(ids(9).tolist())
    decoder.step()
    assert asked == [], "the first token is in the logits of the prompt"
    assert len([decoder.step() for _ in range(63)]) == 63
    assert asked == [1, 2, 4, 8, 16, 32]
    decoder.append([3])
    assert [len(decoder.take(10)) for _ in range(4)] == [1, 1, 2, 4]
    monkeypatch.setattr(decoding, "BURST_SECONDS", 0.0)
    decoder.append([3])
    assert [len(decoder.take(10)) for _ in range(4)] == [1, 1, 1, 1], "a slow model hands over one by one"


@needs_native
def test_an_interrupted_burst_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BURST_SECONDS", 1e6)
    decoder, oracle = GreedyDecoder(ENGINES[HERE[-1]]), Steps()
    decoder.append(ids(9).tolist())
    oracle.append(ids(9).tolist())
    for _ in range(3):
        assert decoder.step() == oracle.step()
    generate = native.NativeSession.generate

    def interrupted(self: native.NativeSession, *arguments: object) -> None:
        generate(self, *arguments)  # type: ignore[arg-type]  # passed on as it came
        raise KeyboardInterrupt

    monkeypatch.setattr(native.NativeSession, "generate", interrupted)
    # What is left of the burst at hand: it was of two.
    decoder.take(20)
    with pytest.raises(KeyboardInterrupt):
        decoder.take(20)
    monkeypatch.setattr(native.NativeSession, "generate", generate)
    while len(oracle.tokens) < len(decoder.tokens):
        oracle.step()
    same(decoder, oracle)
    assert [decoder.step() for _ in range(9)] == [oracle.step() for _ in range(9)]
    same(decoder, oracle)


@needs_native
def test_what_the_native_call_refuses_changes_nothing() -> None:
    session = ENGINES[HERE[-1]].session()
    session.forward(ids(9))
    for new, n_tokens, words in (
        ([], 1, "at least one token id"),
        ([37], 1, "outside the vocabulary"),
        ([1], CONTEXT - 8, "exceed the context"),
    ):
        with pytest.raises(GateError, match=words):
            session.generate(np.array(new, np.int64), n_tokens)
        assert session.length == 9
    tokens, rows = session.generate(ids(2), CONTEXT - 10)
    assert len(tokens) == len(rows) == CONTEXT - 10
    assert session.length == CONTEXT
    session.close()
    with pytest.raises(GateError, match="closed"):
        session.generate(ids(2), 1)
