"""The native engine equals the reference bit for bit, logits and cache, on every
instruction set of this machine.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_vectors import N_STEPS, PROMPT, page_model
from test_page_vectors import VECTORS, numbers
from tiny_models import EXTREMES, SHAPES, Tiny, ids, same_cache, same_however_cut, tiny

from sevenfold.core.errors import GateError, SevenfoldError, UsageError
from sevenfold.engine import backends, native, reference
from sevenfold.engine import native_ffi as abi
from sevenfold.engine.ops import LONG_CONTEXT
from sevenfold.engine.session import greedy_steps
from sevenfold.engine.weights import IntegerModel

REASON = native.unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")
HERE = native.instruction_sets() if REASON is None else ["scalar"]
ODD: dict[str, dict[str, int]] = {
    "wider_than_a_vector": {"d_model": 67, "d_ffn": 131, "vocab_size": 337, "head_dim": 18},
    "whole_vectors": {"d_model": 64, "d_ffn": 128, "vocab_size": 64, "head_dim": 16},
    "just_past_a_panel": {"d_model": 17, "d_ffn": 33, "vocab_size": 65, "head_dim": 34},
}


def compare(model: IntegerModel, tokens: np.ndarray, isa: str) -> None:
    cache = reference.Cache(model.shape)
    expected = reference.forward(model, tokens, cache)
    session = native.NativeEngine(model, isa).session()
    assert np.array_equal(session.forward(tokens), expected)
    same_cache(session, cache)


@pytest.fixture(scope="module")
def model() -> Tiny:
    return tiny("moe")


# What the kernel says of an x86 processor, for each instruction set of the library.
NEEDED = {
    "scalar": set(),
    "avx2": {"avx2"},
    "avxvnni": {"avx2", "avx_vnni"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"},
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the flags of an x86 processor")
def test_every_instruction_set_of_the_processor_is_tested() -> None:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    assert [isa for isa, needed in NEEDED.items() if needed <= flags] == HERE


def test_python_and_the_library_agree_on_the_widest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.ISA_VARIABLE, raising=False)
    assert native.ISAS[native.choose_isa()] == native.open_library().s7_isa_widest()


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str, isa: str) -> None:
    built = tiny(shape)
    compare(built.load(), ids(20, built.graph["model"]["vocab_size"]), isa)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("sizes", ODD)
@pytest.mark.parametrize("shape", ["dense", "moe"])
def test_odd_sizes(shape: str, sizes: str, isa: str) -> None:
    built = tiny(shape, context=90, **ODD[sizes])
    compare(built.load(), ids(85, ODD[sizes]["vocab_size"]), isa)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("shape", ["gqa", "moe"])
def test_extreme_weights(shape: str, name: str, isa: str) -> None:
    compare(tiny(shape, EXTREMES[name], largest=1.0).load(), ids(9), isa)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("name", ["zero", "one_direction", "huge_queries"])
def test_rows_of_p_that_are_shifted(name: str, isa: str) -> None:
    # From 517 equal keys on, the sum of P passes 2^24.
    compare(tiny("gqa", EXTREMES[name], largest=1.0, context=700, n_layers=1).load(), ids(650), isa)


@pytest.mark.slow
@pytest.mark.parametrize("isa", [isa for isa in HERE if isa != "scalar"])
def test_past_the_long_context(isa: str) -> None:
    # The reference goes on from the native cache: it cannot hold a prompt of this length at once.
    sizes = {"d_model": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 2, "d_ffn": 1, "n_layers": 1}
    weights = tiny("dense", EXTREMES["one_direction"], largest=1.0, context=LONG_CONTEXT + 8, **sizes).load()
    tokens = ids(LONG_CONTEXT + 6)
    session = native.NativeEngine(weights, isa).session()
    session.forward(tokens[: LONG_CONTEXT - 2], last_only=True)
    cache, (k, v) = reference.Cache(weights.shape), session.key_values(0)
    cache.length = session.length
    held, seen = cache.layers[0], slice(0, cache.length)
    held.k[seen], held.k_m[seen], held.k_e[seen] = k
    held.v[seen], held.v_m[seen], held.v_e[seen] = v
    for index in range(LONG_CONTEXT - 2, tokens.size):
        token = tokens[index : index + 1]
        assert np.array_equal(session.forward(token), reference.forward(weights, token, cache))


@pytest.mark.parametrize("isa", HERE)
def test_sequences_of_several_stacks_in_one_batch(isa: str) -> None:
    weights = tiny("stacks").load()
    engine = native.NativeEngine(weights, isa, n_threads=2)
    prompts = [ids(5 + n, seed=n) for n in range(6)]
    assert len({int(weights.router_V[p[0]]) for p in prompts}) > 1
    batch = [(engine.session(), p) for p in prompts]
    expected = [reference.forward(weights, p, reference.Cache(weights.shape)) for p in prompts]
    got = engine.forward_batch(batch, last_only=False)
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    # A sequence keeps its stack: a later id does not choose another, but a new beginning does.
    again = [session for session, _ in batch]
    for session, prompt in zip(again, prompts, strict=True):
        session.truncate(2)
        assert np.array_equal(
            session.forward(prompt[2:], last_only=True), expected[again.index(session)][-1:]
        )
    again[0].truncate(0)
    assert np.array_equal(again[0].forward(prompts[1]), expected[1])


@pytest.mark.parametrize("isa", HERE)
def test_a_prompt_cut_anywhere(isa: str, model: Tiny) -> None:
    weights = model.load()
    same_however_cut(native.NativeEngine(weights, isa), weights)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize(("n_experts", "tokens", "logits", "digest"), VECTORS)
def test_the_vectors_of_the_page(n_experts: str, tokens: str, logits: str, digest: str, isa: str) -> None:
    engine = native.NativeEngine(page_model(int(n_experts)).load(), isa)
    run = greedy_steps(engine, PROMPT, N_STEPS)
    assert (list(run.tokens), run.logits_sha256) == (numbers(tokens), digest)
    assert engine.session().forward(np.array(PROMPT), last_only=True)[0].tolist() == numbers(logits)


# Canaries: a wrong bit must not pass.


@pytest.mark.parametrize("isa", HERE)
def test_the_self_test_passes(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.ISA_VARIABLE, isa)
    assert backends.self_test("native").startswith(isa)


@pytest.mark.parametrize(("table", "entry"), [("exp2", 3), ("sigmoid", 2), ("rsqrt", 15)])
def test_a_flipped_table_entry_fails_the_self_test(
    table: str, entry: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = abi.tables()
    getattr(good, table)[entry] ^= 4096
    monkeypatch.setattr(abi, "tables", lambda: good)
    with pytest.raises(SevenfoldError, match="gives other logits than the reference"):
        backends.self_test("native")


def test_a_flipped_weight_is_seen(model: Tiny) -> None:
    def flip(records, graph):
        records["layers.01.ffn.experts.1.down_proj.weight"].data[3, 2] ^= 1

    other = native.NativeEngine(model.changed(flip).load()).session().forward(ids(12))
    weights = model.load()
    assert not np.array_equal(other, reference.forward(weights, ids(12), reference.Cache(weights.shape)))


# Refusals.


def test_ids_and_positions_that_are_refused_change_nothing(model: Tiny) -> None:
    session = native.NativeEngine(model.load()).session()
    session.forward(ids(20))
    for bad, words in (
        ([], "at least one token id"), ([37], "outside the vocabulary"), ([-1], "outside the vocabulary"),
        ([0] * 5, "25 tokens exceed the context of 24"),
    ):  # fmt: skip
        with pytest.raises(GateError, match=words):
            session.forward(np.array(bad, np.int64))
        assert session.length == 20
    session.forward(ids(4))


def test_the_library_checks_what_python_checks(model: Tiny) -> None:
    engine = native.NativeEngine(model.load())
    session, library, room = engine.session(), engine._library, np.empty((30, 37), np.int32)

    def call(values: list[int], n_logits: int = 1, copies: int = 1) -> int:
        array = np.array(values, np.int32)
        run = abi.NativeRun(session.handle, array.ctypes.data, array.size, n_logits, room.ctypes.data)
        with engine.team() as team:
            return int(library.s7_forward(team, (abi.NativeRun * copies)(*[run] * copies), copies))

    assert call([1, 2, 37]) == call([-1]) == call([], 0) == 6
    assert call([1] * 25) == 7
    assert call([1, 2], 3) == call([1, 2], -1) == call([1], 1, copies=2) == 2
    with engine.team() as team:
        assert library.s7_forward(None, None, 1) == library.s7_forward(team, None, 1) == 1
    ids_, tokens, made = np.array([1], np.int32), np.empty(4, np.int32), ctypes.c_int32(-1)
    run = abi.NativeRun(session.handle, ids_.ctypes.data, 1, 0, None)

    def generate(n_tokens: int, n_stops: int = 0, **missing: None) -> int:
        given = {"run": ctypes.byref(run), "tokens": tokens.ctypes.data, "made": ctypes.byref(made)} | missing
        with engine.team() as team:
            arguments = (
                missing.get("team", team),
                given["run"],
                None,
                n_stops,
                given["tokens"],
                n_tokens,
                given["made"],
            )
            return int(library.s7_generate(*arguments))

    assert all(generate(4, **{name: None}) == 1 for name in ("team", "run", "tokens", "made"))
    assert generate(4, n_stops=1) == 1, "stops that are counted and not there"
    assert generate(0) == generate(4, n_stops=-1) == 2
    assert generate(25) == 7
    assert (made.value, session.length) == (-1, 0)
    assert generate(4) == 0
    assert (made.value, session.length) == (4, 4)


def test_a_closed_session_is_refused(model: Tiny) -> None:
    session = native.NativeEngine(model.load()).session()
    session.close()
    session.close()
    for call in (lambda: session.forward(ids(1)), lambda: session.length, lambda: session.key_values(0)):
        with pytest.raises(GateError, match="the session is closed"):
            call()


def test_a_session_keeps_its_model(model: Tiny) -> None:
    weights = model.load()
    session = native.NativeEngine(weights).session()
    expected = reference.forward(weights, ids(5), reference.Cache(weights.shape))
    assert np.array_equal(session.forward(ids(5)), expected)


def broken(change: str, weights: IntegerModel) -> IntegerModel:
    """A model that the loader would not give."""
    if change == "code":
        return replace(weights, embedding_VD=np.full_like(weights.embedding_VD, -128))
    if change == "router":
        return replace(weights, router_V=weights.router_V + 2)
    if change == "row shift":
        return replace(weights, head=replace(weights.head, row_s_O=weights.head.row_s_O * 0 + 15))
    if change == "gain":
        return replace(weights, final_norm=replace(weights.final_norm, gain_D=np.zeros(3, np.int64)))
    if change == "rope":
        return replace(weights, rope_CP2=weights.rope_CP2[:-1])
    return replace(weights, shape=replace(weights.shape, vocab_size=2**20 + 1))


@pytest.mark.parametrize("change", ["code", "router", "row shift", "gain", "rope", "shape"])
def test_arrays_that_do_not_fit_never_reach_a_kernel(change: str, model: Tiny) -> None:
    with pytest.raises(SevenfoldError, match="cannot take this model"):
        native.NativeEngine(broken(change, model.load()))


@pytest.mark.parametrize(
    ("name", "words"), [("sse", "'sse' is no instruction set"), ("avx512", "not on this machine")]
)
def test_an_instruction_set_that_is_not_there(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "instruction_sets", lambda: ["scalar"])
    monkeypatch.setenv(native.ISA_VARIABLE, name)
    with pytest.raises(UsageError, match=words):
        native.choose_isa()


def test_a_missing_library_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "libs7.so")
    assert backends.available() == ["reference"]
    with pytest.raises(UsageError, match=r"backend 'native' is not available: libs7\.so was not built"):
        backends.find_backend("native")
    (tmp_path / "libs7.so").write_bytes(b"not a library")
    assert "does not load" in str(native.unavailable())


def test_two_threads_two_sessions_one_model(model: Tiny) -> None:
    weights = model.load()
    engine, results = native.NativeEngine(weights), {}
    expected = {
        seed: reference.forward(weights, ids(24, seed=seed), reference.Cache(weights.shape))
        for seed in (1, 2)
    }

    def work(seed: int) -> None:
        same = True
        for _ in range(40):
            session = engine.session()
            same = same and np.array_equal(session.forward(ids(24, seed=seed)), expected[seed])
            session.close()
        results[seed] = same

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {1: True, 2: True}
