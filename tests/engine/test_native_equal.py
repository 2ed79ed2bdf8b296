"""The native engine against the reference over batches, threads, forks and truncations
in any order, and real code.
"""

from __future__ import annotations

import sysconfig
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from tiny_models import ids, tiny

from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine import native, reference
from sevenfold.engine.weights import IntegerModel
from sevenfold.recipe.schema import TokenizerSpec

REASON = native.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")
HERE = native.instruction_sets() if REASON is None else ["scalar"]
CONTEXT = 140  # three pages


@cache
def model(shape: str, context: int = CONTEXT) -> IntegerModel:
    return tiny(shape, context=context, n_layers=1).load()


@cache
def logits_of(shape: str, tokens: tuple[int, ...]) -> Ints:
    """The reference's logits of every row, [T, V]."""
    weights = model(shape)
    return reference.forward(weights, np.array(tokens), reference.Cache(weights.shape))


def same_cache(session: native.NativeSession, weights: IntegerModel, tokens: Ints) -> None:
    held = reference.Cache(weights.shape)
    reference.forward(weights, tokens, held, last_only=True)
    assert session.length == held.length
    for index, layer in enumerate(held.layers):
        k, v = session.key_values(index)
        expected = (layer.k, layer.k_m, layer.k_e, layer.v, layer.v_m, layer.v_e)
        for got, want in zip((*k, *v), expected, strict=True):
            assert np.array_equal(got, want[: held.length])


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("shape", ["gqa", "moe"])
def test_batches_of_sequences_with_lengths_of_their_own(shape: str, n_threads: int, isa: str) -> None:
    weights = model(shape)
    engine = native.NativeEngine(weights, isa, n_threads)
    sequences = [tuple(ids(18 + 3 * i, seed=i).tolist()) for i in range(17)]
    for n in range(1, 18) if n_threads == 1 else (2, 5, 17):
        sessions, calls = [], []
        for i in range(n):
            past, end = (7 * i + n) % 17, len(sequences[i]) if i % 3 else (7 * i + n) % 17 + 1
            session = engine.session()
            if past:
                session.forward(np.array(sequences[i][:past]), last_only=True)
            sessions.append((session, past, end))
            calls.append((session, np.array(sequences[i][past:end])))
        for last_only in (False,) if n % 2 else (True,):
            results = engine.forward_batch(calls, last_only=last_only)
        for i, (got, (session, past, end)) in enumerate(zip(results, sessions, strict=True)):
            want = logits_of(shape, sequences[i])[past:end]
            assert np.array_equal(got, want if n % 2 else want[-1:])
            assert session.length == end
        session, _, end = sessions[-1]
        same_cache(session, weights, np.array(sequences[n - 1][:end]))


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_greedy_steps_are_the_reference_s(n_threads: int, isa: str) -> None:
    weights = model("gqa")
    cached, pending, expected = reference.Cache(weights.shape), ids(30), []
    for _ in range(40):
        expected.append(reference.argmax(reference.forward(weights, pending, cached, last_only=True)[0]))
        pending = np.array(expected[-1:])
    session = native.NativeEngine(weights, isa, n_threads).session()
    assert session.greedy(ids(30), 40) == expected
    assert session.length == 69


class Sessions(RuleBasedStateMachine):
    """Sequences that grow, fork and shrink in any order; the model of one is the ids it holds."""

    held = Bundle("held")
    SHAPE = "moe"

    @initialize(isa=st.sampled_from(HERE))
    def start(self, isa: str) -> None:
        self.engine = native.NativeEngine(model(self.SHAPE), isa, 1)
        self.open: list[tuple[native.NativeSession, list[int]]] = []

    def keep(
        self, session: native.NativeSession, tokens: list[int]
    ) -> tuple[native.NativeSession, list[int]]:
        self.open.append((session, tokens))
        return self.open[-1]

    @rule(target=held)
    def new(self) -> tuple[native.NativeSession, list[int]]:
        return self.keep(self.engine.session(), [])

    @rule(one=held, n=st.sampled_from([1, 2, 3, 17, 50, 64, 65]), seed=st.integers(0, 3))
    def append(self, one: tuple[native.NativeSession, list[int]], n: int, seed: int) -> None:
        session, tokens = one
        new = ids(min(n, CONTEXT - len(tokens)), seed=seed).tolist()
        if new:
            got = session.forward(np.array(new))
            tokens += new
            assert np.array_equal(got, logits_of(self.SHAPE, tuple(tokens))[-len(new) :])

    @rule(one=held, other=held, n=st.integers(1, 9))
    def append_both(self, one: tuple[native.NativeSession, list[int]], other: object, n: int) -> None:
        other_one = next(o for o in self.open if o is other) if other is not one else None
        calls = [c for c in (one, other_one) if c is not None and len(c[1]) + n <= CONTEXT]
        if not calls:
            return
        results = self.engine.forward_batch([(session, ids(n, seed=9)) for session, _ in calls])
        for (_, tokens), got in zip(calls, results, strict=True):
            tokens += ids(n, seed=9).tolist()
            assert np.array_equal(got, logits_of(self.SHAPE, tuple(tokens))[-1:])

    @rule(target=held, one=held, part=st.integers(0, 8))
    def fork(
        self, one: tuple[native.NativeSession, list[int]], part: int
    ) -> tuple[native.NativeSession, list[int]]:
        session, tokens = one
        length = len(tokens) * part // 8
        return self.keep(session.fork(length), tokens[:length])

    @rule(one=held, part=st.integers(0, 8))
    def truncate(self, one: tuple[native.NativeSession, list[int]], part: int) -> None:
        session, tokens = one
        del tokens[len(tokens) * part // 8 :]
        session.truncate(len(tokens))

    @rule(one=consumes(held))
    def close(self, one: tuple[native.NativeSession, list[int]]) -> None:
        one[0].close()
        self.open = [o for o in self.open if o is not one]

    @invariant()
    def lengths(self) -> None:
        for session, tokens in getattr(self, "open", []):
            assert session.length == len(tokens)

    def teardown(self) -> None:
        for session, tokens in getattr(self, "open", []):
            if tokens:
                same_cache(session, model(self.SHAPE), np.array(tokens))


Sessions.TestCase.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSessions = Sessions.TestCase


class ManySessions(Sessions):
    """The same, for longer."""


ManySessions.TestCase.settings = settings(
    Sessions.TestCase.settings, max_examples=200, stateful_step_count=40
)
TestManySessions = pytest.mark.slow(ManySessions.TestCase)


def test_engines_of_several_kinds_at_once() -> None:
    weights, tokens = model("gqa"), ids(40)
    expected = logits_of("gqa", tuple(tokens.tolist()))
    same: list[bool] = []

    def work(isas: list[str]) -> None:
        for isa in isas:
            for n_threads in (1, 2):
                engine = native.NativeEngine(weights, isa, n_threads)
                first, second = engine.session(), engine.session()
                first.forward(tokens[:9])
                results = engine.forward_batch([(first, tokens[9:]), (second, tokens)], last_only=False)
                same.append(np.array_equal(results[0], expected[9:]) and np.array_equal(results[1], expected))

    threads = [threading.Thread(target=work, args=(order,)) for order in (HERE, HERE[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * (4 * len(HERE))


DEMO = {
    "d_model": 128, "n_layers": 4, "n_heads": 2, "n_kv_heads": 2, "head_dim": 64, "d_ffn": 192,
    "vocab_size": 1024,
    "context": 512, "tied": True,
}  # fmt: skip
N_WINDOWS = 40  # of 512 tokens: 20,480


def real_code(vocab_size: int, n_tokens: int) -> Ints:
    """Ids of Python's own library, by a tokenizer that is trained on it."""
    from sevenfold.tokenizer.codec import Tokenizer
    from sevenfold.tokenizer.train import train_tokenizer

    names = (
        "argparse",
        "ast",
        "dataclasses",
        "datetime",
        "decimal",
        "inspect",
        "pathlib",
        "typing",
        "zipfile",
    )
    library = Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text("utf-8") for name in names if (path := library / f"{name}.py").is_file()]
    spec = TokenizerSpec(vocab_size=vocab_size)
    tokenizer = Tokenizer.from_json(train_tokenizer(texts, spec))
    tokens = np.array([token for text in texts for token in tokenizer.encode(text)])
    assert tokens.size >= n_tokens
    return tokens[:n_tokens]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["dense", "moe"])
def test_twenty_thousand_tokens_of_real_code(shape: str) -> None:
    weights = tiny(shape, **DEMO).load()
    context = weights.shape.context
    windows = real_code(weights.shape.vocab_size, N_WINDOWS * context).reshape(N_WINDOWS, context)
    engines = [native.NativeEngine(weights, isa, 1 + i % 2) for i, isa in enumerate(HERE)]
    rng = np.random.default_rng(3)
    for index, window in enumerate(windows):
        cached = reference.Cache(weights.shape)
        expected = reference.forward(weights, window, cached)
        for engine in engines:
            session, at = engine.session(), 0
            for cut in sorted({*rng.integers(1, context, 3).tolist(), context}):
                assert np.array_equal(session.forward(window[at:cut]), expected[at:cut]), (
                    index,
                    engine.detail,
                )
                at = cut
            if index % 8 == 0:
                same_cache(session, weights, window)
