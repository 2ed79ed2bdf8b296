"""The native engine equals the reference on hybrid attention: logits and state, on every instruction
set, wherever a prompt is cut.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from tiny_models import EXTREMES, HYBRID_SHAPES, ids, tiny

from sevenfold.core.errors import GateError
from sevenfold.engine import native, reference
from sevenfold.engine.states import hybrid, native_state
from sevenfold.engine.weights import IntegerModel, with_kv_bits

pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason="no native engine")
SETS = native.instruction_sets() if native.unavailable() is None else []


def _rows(rows: hybrid.Rows, kv: int, at: int) -> bytes:
    scale = struct.pack("<Hi", int(rows.scale.m[at, kv]), int(rows.scale.e[at, kv]))
    return rows.codes[at, kv].astype(np.int8).tobytes() + scale


def saved(model: IntegerModel, cache: reference.Cache) -> bytes:
    """The state of the reference in the form of s7_session_save."""
    out, n_kv = [struct.pack("<qqq", cache.length, cache.begin, cache.stack)], model.shape.n_kv_heads
    for state in cache.states:
        for kv in range(n_kv):
            pairs = [(state.window_k, state.window_v), (state.ring_k, state.ring_v)]
            parts = [b"".join(_rows(k, kv, i) + _rows(v, kv, i) for i in range(len(k))) for k, v in pairs]
            strides = [
                _rows(state.stride_k, kv, i)
                + _rows(state.stride_v, kv, i)
                + struct.pack("<ii", *(int(state.stride_score[i, row]) for row in (kv, n_kv + kv)))
                for i in range(len(state.stride_k))
            ]
            out += [parts[0], *strides, parts[1]]
    return b"".join(out)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("shape", HYBRID_SHAPES)
def test_logits_and_state_equal_the_reference(shape: str, isa: str) -> None:
    tokens = ids(90 if shape != "hybrid_stacks" else 24)
    weights = tiny(shape, ring=7, document_start=int(tokens[20])).load()
    cache = reference.Cache(weights.shape)
    expected = reference.forward(weights, tokens, cache)
    engine = native.NativeEngine(weights, isa, 2)
    for cuts in ([], [1], [33, 34, 70], list(range(1, len(tokens)))):
        session = engine.session()
        parts = [part for part in np.split(tokens, cuts) if part.size]
        assert np.array_equal(np.concatenate([session.forward(part) for part in parts]), expected)
        assert native_state.save(session) == saved(weights, cache)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_weights(name: str, isa: str) -> None:
    weights = tiny("hybrid_gqa", EXTREMES[name], ring=3, n_layers=1).load()
    tokens = ids(30)
    expected = reference.forward(weights, tokens, reference.Cache(weights.shape))
    assert np.array_equal(native.NativeEngine(weights, isa, 1).session().forward(tokens), expected)


@pytest.mark.parametrize("bits", [8, 6, 4])
@pytest.mark.parametrize("isa", SETS)
def test_long_prompts_pass_pages_windows_and_rings(isa: str, bits: int) -> None:
    model = tiny("hybrid_4", context=400, ring=70, n_layers=1)
    model.graph["attention"] |= {"window": 12, "stride": 2}
    weights = with_kv_bits(model.load(), bits)
    tokens, cache = ids(390), reference.Cache(weights.shape)
    expected = reference.forward(weights, tokens, cache)
    engine = native.NativeEngine(weights, isa, 3)
    whole, stepped = engine.session(), engine.session()
    assert np.array_equal(whole.forward(tokens), expected)
    first = stepped.forward(tokens[:300])
    rest = [stepped.forward(tokens[i : i + 1]) for i in range(300, 390)]
    assert np.array_equal(np.concatenate([first, *rest]), expected)
    assert native_state.save(whole) == native_state.save(stepped) == saved(weights, cache)


def test_a_batch_of_sessions_of_different_lengths() -> None:
    weights = tiny("hybrid_gqa", ring=4).load()
    engine, tokens = native.NativeEngine(weights, n_threads=2), ids(80)
    sessions = [engine.session() for _ in range(5)]
    caches = [reference.Cache(weights.shape) for _ in range(5)]
    for step in (3, 1, 9, 1):
        parts = [tokens[7 * i : 7 * i + step + i] for i in range(5)]
        found = engine.forward_batch(list(zip(sessions, parts, strict=True)), last_only=False)
        for got, part, cache in zip(found, parts, caches, strict=True):
            assert np.array_equal(got, reference.forward(weights, part, cache))


def test_a_session_is_taken_back_by_64_positions_and_no_further() -> None:
    tokens = ids(400)
    model = tiny("hybrid_gqa", context=500, ring=9, n_layers=1, document_start=int(tokens[170]))
    weights = model.load()
    engine = native.NativeEngine(weights, n_threads=1)
    session = engine.session()
    expected = session.forward(tokens)
    assert session.least_length == 400 - 64
    other = session.fork(340)
    assert np.array_equal(other.forward(tokens[340:]), expected[340:])
    session.truncate(337)
    assert np.array_equal(session.forward(tokens[337:]), expected[337:])
    with pytest.raises(GateError, match="is gone"):
        session.truncate(300)
    with pytest.raises(GateError, match="is gone"):
        session.fork(1)
    session.truncate(0)
    assert np.array_equal(session.forward(tokens), expected)
    taken, rows = session.fork(399).generate(tokens[399:], 20)
    assert np.array_equal(rows[0], expected[399])
    assert len(taken) == 20


def test_the_state_has_constant_size() -> None:
    weights = tiny("hybrid_gqa", context=4000, ring=9, n_layers=1).load()
    session, sizes = native.NativeEngine(weights, n_threads=1).session(), []
    for _ in range(30):
        session.forward(ids(128), last_only=True)
        sizes.append(session.n_bytes)
    assert max(sizes[10:]) <= max(sizes[:10])


def test_a_saved_state_goes_on_as_if_never_saved() -> None:
    tokens = ids(300)
    weights = tiny("hybrid_4", context=400, ring=20, document_start=int(tokens[100])).load()
    engine = native.NativeEngine(weights, n_threads=2)
    session = engine.session()
    session.forward(tokens[:250])
    state = native_state.save(session)
    other = native_state.load(engine, state)
    assert native_state.save(other) == state
    assert np.array_equal(other.forward(tokens[250:]), session.forward(tokens[250:]))
    assert native_state.save(other) == native_state.save(session)


def test_bytes_that_are_no_state_are_refused() -> None:
    weights = tiny("hybrid", ring=3).load()
    engine = native.NativeEngine(weights, n_threads=1)
    session = engine.session()
    with pytest.raises(GateError):
        native_state.save(session)
    session.forward(ids(20))
    state = native_state.save(session)
    wrong = [b"", state[:-1], state + b"\0", b"\xff" * len(state), state[:24] + b"\x80" + state[25:]]
    for data in wrong:
        with pytest.raises(GateError, match="no state"):
            native_state.load(engine, data)


def test_a_state_on_disk_is_bound_to_root_law_and_width(tmp_path: Path) -> None:
    weights = tiny("hybrid_4", ring=3).load()
    engine, path, tokens = native.NativeEngine(weights, n_threads=1), tmp_path / "state", ids(60)
    session = engine.session()
    session.forward(tokens[:40])
    native_state.write_state(path, session, "ab" * 32)
    held = native_state.read_state(path, engine, "ab" * 32)
    assert np.array_equal(held.forward(tokens[40:]), session.forward(tokens[40:]))
    with pytest.raises(GateError, match="is of the model abab"):
        native_state.read_state(path, engine, "cd" * 32)
    wide = native.NativeEngine(with_kv_bits(weights, 8), n_threads=1)
    with pytest.raises(GateError, match="codes of 4 bits"):
        native_state.read_state(path, wide, "ab" * 32)
    data = path.read_bytes()
    for at in (9, 41, 60, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(GateError, match="was changed"):
            native_state.read_state(path, engine, "ab" * 32)
    for cut in (0, 30, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(GateError):
            native_state.read_state(path, engine, "ab" * 32)
