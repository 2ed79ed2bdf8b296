"""The reference engine equals the engine written from the page, bit for bit: logits and cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracle import Oracle
from tiny_models import EXTREMES, SHAPES, Tiny, ids, tiny

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import Scale
from sevenfold.engine import ops, reference

INT32 = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-300, 300),
    st.sampled_from([-(2**31), 2**31 - 1, 0, 1, -1, 2**30, -(2**30)]),
)
BELOW_31_BITS = st.one_of(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-40, 40))
MANTISSA = st.integers(32768, 65535)


def compare(model: Tiny, tokens: np.ndarray) -> None:
    weights, plain = model.load(), Oracle(model.raw(), model.graph)
    cache = reference.Cache(weights.shape)
    logits = reference.forward(weights, tokens, cache)
    expected = [plain.step(int(token)) for token in tokens]
    assert logits.tolist() == expected
    assert [reference.argmax(row) for row in logits] == [oracle.argmax(row) for row in expected]
    for layer, held in enumerate(cache.layers):
        for kv in range(weights.shape.n_kv_heads):
            for coded, codes, m, e in (
                (plain.keys[layer][kv], held.k, held.k_m, held.k_e),
                (plain.values[layer][kv], held.v, held.v_m, held.v_e),
            ):
                seen = slice(0, cache.length)
                assert [c for c, _ in coded] == codes[seen, kv].tolist()
                assert [s for _, s in coded] == list(
                    zip(m[seen, kv].tolist(), e[seen, kv].tolist(), strict=True)
                )


def test_tables_are_those_of_the_page() -> None:
    assert fixed.exp2_table().tolist() == oracle.EXP2
    assert fixed.sigmoid_table().tolist() == oracle.SIGMOID
    assert fixed.rsqrt_table().tolist() == oracle.RSQRT


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str) -> None:
    model = tiny(shape)
    compare(model, ids(12, model.graph["model"]["vocab_size"]))


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("shape", ["gqa", "moe", "stacks"])
def test_extreme_weights(shape: str, name: str) -> None:
    compare(tiny(shape, EXTREMES[name], largest=1.0), ids(6))


def test_the_residual_does_saturate_in_these_tests() -> None:
    # Otherwise the case above would not say what it seems to say.
    model = tiny("gqa", EXTREMES["huge_residual"], largest=1.0).load()
    x = ops.embed(model.embedding_VD[ids(6)].astype(np.int64), *(
        rows[ids(6)] for rows in (model.embedding_m_V, model.embedding_s_V)
    ))  # fmt: skip
    layer = model.layers[0]
    delta = reference._feed_forward(model, layer, x, np.zeros(6, np.int64))
    assert np.abs(delta).max() >= 2**31 - 1


def test_a_flipped_weight_is_seen() -> None:
    good = tiny("moe")

    def flip(records, graph):
        records["layers.01.ffn.experts.1.down_proj.weight"].data[3, 2] ^= 1

    plain, weights = Oracle(good.raw(), good.graph), good.changed(flip).load()
    logits = reference.forward(weights, ids(12), reference.Cache(weights.shape))
    assert logits.tolist() != [plain.step(int(token)) for token in ids(12)]


def test_the_oracle_imports_none_of_the_engine() -> None:
    text = Path(oracle.__file__).read_text()
    assert "import numpy" not in text
    assert "sevenfold" not in text


# Single operations, on inputs that no small model would reach.


def ints(rows: int, columns: int, elements: st.SearchStrategy[int] = INT32) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.int64, (rows, columns), elements=elements)


@given(ints(2, 5), ints(1, 5, st.integers(-(2**15), 2**15 - 1)), st.integers(0, 2**48))
def test_rms_norm(x: np.ndarray, gain: np.ndarray, eps: int) -> None:
    got = ops.rms_norm(x, ops.Norm(gain_D=gain[0], exponent=3, eps=eps))
    for row in range(2):
        codes, scale = oracle.rms_norm(x[row].tolist(), gain[0].tolist(), 3, eps)
        assert got.codes[row].tolist() == codes
        assert (int(got.scale.m[row]), int(got.scale.e[row])) == scale


def test_a_negative_gain_takes_its_sign_before_the_rounding() -> None:
    # -1.5 rounds half up to -1; negating 1.5 after its rounding would give -2.
    x, gain = np.array([[2**29, 3 * 2**16, 2**18]]), [0, -1, 1]
    got = ops.rms_norm(x, ops.Norm(gain_D=np.array(gain), exponent=0, eps=0))
    assert got.codes[0].tolist() == oracle.rms_norm(x[0].tolist(), gain, 0, 0)[0] == [0, -63, 127]


@given(ints(3, 4, BELOW_31_BITS), ints(1, 4, st.integers(-(2**15), 2**15 - 1)))
def test_rotate(y: np.ndarray, angles: np.ndarray) -> None:
    table = angles.reshape(1, 2, 2)
    codes, scale = ops.rotate(y[None], table)
    for head in range(3):
        expected = oracle.rotate(y[head].tolist(), [tuple(p) for p in table[0].tolist()])
        assert (codes[0, head].tolist(), (int(scale.m[0, head]), int(scale.e[0, head]))) == expected


@given(ints(2, 5), ints(2, 5, BELOW_31_BITS), MANTISSA, st.integers(-40, 60), st.integers(-40, 40))
def test_swiglu(gate: np.ndarray, up: np.ndarray, m: int, e: int, exponent: int) -> None:
    got = ops.swiglu(gate, up, Scale(np.full(2, m), np.full(2, e)), exponent, -exponent)
    for row in range(2):
        codes, scale = oracle.swiglu(gate[row].tolist(), up[row].tolist(), (m, e), exponent, -exponent)
        assert got.codes[row].tolist() == codes
        assert (int(got.scale.m[row]), int(got.scale.e[row])) == scale


def attend_both(
    q: np.ndarray, q_scale: Scale, k: np.ndarray, k_scale: Scale, v: np.ndarray, v_scale: Scale, n_past: int
) -> None:
    o, exponent = ops.attention_head(q, q_scale, k, k_scale, v, v_scale, n_past)

    def coded(codes: np.ndarray, scale: Scale) -> list[oracle.Coded]:
        pairs = zip(scale.m.tolist(), scale.e.tolist(), strict=True)
        return list(zip(codes.tolist(), pairs, strict=True))

    keys, values = coded(k, k_scale), coded(v, v_scale)
    for t, query in enumerate(coded(q, q_scale)):
        expected = oracle.attend(query, keys[: n_past + t + 1], values[: n_past + t + 1])
        assert (o[t].tolist(), int(exponent[t])) == expected


@settings(max_examples=60)
@given(st.data(), st.integers(1, 4), st.integers(0, 5))
def test_attention_with_any_scales(data: st.DataObject, n_tokens: int, n_past: int) -> None:
    codes, exponents = st.integers(-127, 127), st.integers(-70, 70)

    def rows(count: int) -> tuple[np.ndarray, Scale]:
        m = data.draw(arrays.arrays(np.int64, count, elements=MANTISSA))
        e = data.draw(arrays.arrays(np.int64, count, elements=exponents))
        return data.draw(ints(count, 3, codes)), Scale(m, e)

    n_keys = n_past + n_tokens
    attend_both(*rows(n_tokens), *rows(n_keys), *rows(n_keys), n_past)


@pytest.mark.parametrize("n_keys", [515, 516, 517, 2500])
@pytest.mark.parametrize("spread", [0, 40])
def test_attention_over_many_flat_scores(n_keys: int, spread: int) -> None:
    # From 517 equal keys on, the sum of P passes 2^24 and the row is shifted.
    rng = np.random.default_rng(n_keys)
    k = rng.integers(-spread, spread + 1, (n_keys, 4))
    v = np.where(rng.integers(0, 9, (n_keys, 4)) > 0, 127, -127)
    even = Scale(np.full(n_keys, 65535), np.full(n_keys, 20))
    q = (np.array([[90, -20, 3, 127]]), Scale(np.array([40000]), np.array([36])))
    attend_both(*q, k, even, v, even, n_keys - 1)


def key_scales(wanted: list[int], codes: np.ndarray, q: np.ndarray, q_scale: Scale) -> list[int]:
    """Mantissas of a key's scale (e = 20) that give these weights p beside a key of 65535."""
    m = np.arange(32768, 65536)
    k = np.repeat(codes[None], len(m), axis=0)
    scores = ops.attention_scores(q, q_scale, k, Scale(m, np.full(len(m), 20)))[0]
    p = fixed.exp2_negative(scores.max() - scores).tolist()
    return [int(m[p.index(value)]) for value in wanted]


@pytest.mark.parametrize(
    ("n_keys", "weights", "above"),
    [
        # Half above a unit: the rounding adds most, while the sum stays below its power of two.
        (131072, (16320, 16448), 2**24 + 2**15),
        (131073, (16320, 16448), 2**22),
        pytest.param(2**20, (15360, 17408), 2**23 + 2**18, marks=pytest.mark.slow),
    ],
)
def test_the_longest_rows_of_the_worst_weights(n_keys: int, weights: tuple[int, int], above: int) -> None:
    codes = np.array([127, 127])
    q, q_scale = codes[None], Scale(np.array([40000]), np.array([25]))
    m = np.resize(key_scales(list(weights), codes, q, q_scale), n_keys)
    m[1:1041:2], m[0] = m[2], 65535  # the peak is heavier than the rest: so many fewer of the heavier
    k, v = np.repeat(codes[None], n_keys, axis=0), np.full((n_keys, 2), 127)
    k_scale, v_scale = (Scale(mantissas, np.full(n_keys, 20)) for mantissas in (m, np.full(n_keys, 65535)))
    scores = ops.attention_scores(q, q_scale, k, k_scale)
    p = fixed.exp2_negative(scores.max() - scores)
    kept = 24 if n_keys <= ops.LONG_CONTEXT else 23
    assert fixed.rshift(p, fixed.bit_length(p.sum()) - kept).sum() > above
    attend_both(q, q_scale, k, k_scale, v, v_scale, n_keys - 1)


@given(ints(6, 3, st.integers(-(2**23), 2**23)), ints(3, 2, st.integers(-90, 90)))
def test_join_heads(o: np.ndarray, exponents: np.ndarray) -> None:
    got = ops.join_heads(o.reshape(3, 2, 3), exponents)
    for token in range(2):
        heads = [(o.reshape(3, 2, 3)[h, token].tolist(), int(exponents[h, token])) for h in range(3)]
        codes, scale = oracle.join(heads)
        assert got.codes[token].tolist() == codes
        assert (int(got.scale.m[token]), int(got.scale.e[token])) == scale


@pytest.mark.parametrize("n_inputs", [1, 66572, 66573, ops.MAX_INPUTS])
def test_the_widest_projection_fits(n_inputs: int) -> None:
    layer = ops.QuantizedLinear(
        codes_OI=np.full((1, n_inputs), -127, np.int8),
        row_m_O=np.array([65535]),
        row_s_O=np.array([16]),
        exponent=0,
    )
    x = ops.Quantized(codes=np.full((1, n_inputs), 127), scale=Scale(np.array([32768]), np.array([0])))
    acc = -127 * 127 * n_inputs
    expected = oracle.mulsh(oracle.i32(acc * 2 ** oracle.headroom(n_inputs)), 65535, 16)
    assert int(ops.linear(x, layer)[0, 0]) == expected > -(2**31)
