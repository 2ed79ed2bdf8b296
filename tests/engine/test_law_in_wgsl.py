"""The law in WGSL: every operation as a compute shader equals the reference bit for bit, alone
and in a whole forward pass.

On Mesa's lavapipe (`make test-slow` installs it) or any other WebGPU adapter. Without one these
tests are skipped; in CI, where the driver is installed, that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import EXTREMES, SHAPES, ids, tiny

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import INT32_MAX, INT32_MIN, Scale
from sevenfold.engine import ops, reference

DRIVERS = list(Path("/usr/share/vulkan/icd.d").glob("*.json"))


def missing() -> str | None:
    """Why there is no adapter."""
    try:
        from wgpu.backends.wgpu_native.extras import set_instance_extras

        set_instance_extras(backends=["Vulkan"])  # the OpenGL back end looks for a display
        import wgsl

        wgsl.device()
    except (ImportError, OSError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None


REASON = missing()
if REASON and DRIVERS and os.environ.get("CI"):
    pytest.fail(f"a Vulkan driver is installed, but there is no WebGPU adapter: {REASON}", pytrace=False)
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no WebGPU adapter: {REASON}")
if REASON is None:
    import wgsl

NEAR_POWERS = {s * (2**k + d) for k in range(32) for d in (-2, -1, 0, 1, 2) for s in (1, -1)}
EDGES = np.array(sorted(e for e in NEAR_POWERS if INT32_MIN <= e <= INT32_MAX))


@pytest.fixture
def gpu() -> Iterator[wgsl.Device]:
    device = wgsl.device()
    yield device
    device.tables, device.edits = wgsl.tables(), {}


def rows(seed: int, shape: tuple[int, ...], *, below_31_bits: bool = False) -> np.ndarray:
    """Rows of random magnitudes: each row, and each value in it, of its own bit
    length; the first rows are extreme.
    """
    rng = np.random.default_rng(seed)
    v = rng.integers(INT32_MIN, INT32_MAX, shape, endpoint=True)
    v = v >> rng.integers(0, 32, (*shape[:-1], 1)) >> rng.integers(0, 6, shape)
    v[0] = 0
    v[1] = INT32_MAX
    v[2] = INT32_MIN
    v[3] = np.resize(EDGES, shape[1:])
    v[4] = np.resize(EDGES[::-1], shape[1:])
    return np.maximum(v, -INT32_MAX) if below_31_bits else v


def scales(seed: int, n: int, low: int = -80, high: int = 80) -> Scale:
    rng = np.random.default_rng(seed)
    m = rng.integers(32768, 65536, n)
    m[: min(n, 2)] = [32768, 65535][: min(n, 2)]
    return Scale(m, rng.integers(low, high, n))


def same(got: tuple[np.ndarray, Scale], codes: np.ndarray, scale: Scale) -> None:
    assert np.array_equal(got[0], codes)
    assert np.array_equal(got[1].m, scale.m)
    assert np.array_equal(got[1].e, scale.e)


def codes(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    v = np.random.default_rng(seed).integers(-127, 128, shape)
    v[0] = 127
    return v


# Section 2, value by value.

PRIMITIVE = """
@group(0) @binding(2) var<storage, read> a: array<i32>;
@group(0) @binding(3) var<storage, read> b: array<i32>;
@group(0) @binding(4) var<storage, read> c: array<i32>;
@group(0) @binding(5) var<storage, read_write> out: array<i32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let i = at.x;
    if (i < u32(sizes[0])) { out[i] = %s; }
}
"""


def primitive(gpu: wgsl.Device, expression: str, *columns: np.ndarray) -> np.ndarray:
    text = (wgsl.LAW / "prelude.wgsl").read_text() + PRIMITIVE % expression
    n = columns[0].size
    padded = [*columns, *[np.zeros(n, np.int64)] * (3 - len(columns))]
    held = [(column & 0xFFFFFFFF).astype(np.uint32).view(np.int32) for column in padded]
    out = gpu.run(text, "main", (-(-n // 64),), [n], *held, np.zeros(n, np.int32))[0]
    return out.astype(np.int64)


def random32(seed: int, n: int = 200_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(INT32_MIN, INT32_MAX, n, endpoint=True) >> rng.integers(0, 32, n)


def test_rshift(gpu: wgsl.Device) -> None:
    a, s = (g.ravel() for g in np.meshgrid(np.concatenate([EDGES, random32(1, 2000)]), np.arange(40)))
    assert np.array_equal(primitive(gpu, "rshift(a[i], b[i])", a, s), fixed.rshift(a, s))


def test_mulsh(gpu: wgsl.Device) -> None:
    m, s = np.array([32768, 32769, 49152, 65534, 65535]), np.arange(-70, 70)
    grid = np.array(np.meshgrid(EDGES, m, s)).reshape(3, -1)
    rng = np.random.default_rng(2)
    more = np.stack([random32(3), rng.integers(32768, 65536, 200_000), rng.integers(-70, 70, 200_000)])
    small = np.stack([random32(4), rng.integers(0, 32768, 200_000), rng.integers(0, 70, 200_000)])
    a, m, s = np.concatenate([grid, more, small], axis=1)
    assert np.array_equal(primitive(gpu, "mulsh(a[i], u32(b[i]), c[i])", a, m, s), fixed.mulsh(a, m, s))


def test_product(gpu: wgsl.Device) -> None:
    a, b = scales(5, 100_000), scales(6, 100_000)
    expected = fixed.multiply_scales(a, b)
    call = "product(Scale(u32(a[i]), c[i]), Scale(u32(b[i]), 7))"
    assert np.array_equal(primitive(gpu, f"i32({call}.m)", a.m, b.m, a.e), expected.m)
    assert np.array_equal(primitive(gpu, f"{call}.e", a.m, b.m, a.e), expected.e - b.e + 7)


def test_rsqrt(gpu: wgsl.Device) -> None:
    rng = np.random.default_rng(7)
    v = np.concatenate(
        [
            rng.integers(1, 2**62, 100_000) >> rng.integers(0, 61, 100_000),
            2 ** np.arange(61),
            2 ** np.arange(1, 62) - 1,
        ]
    )
    v = np.maximum(v, 1)
    expected = fixed.rsqrt(v)
    for field in ("m", "e"):
        got = primitive(gpu, f"i32(rsqrt(u32(a[i]), u32(b[i])).{field})", v >> 32, v & 0xFFFFFFFF)
        assert np.array_equal(got, getattr(expected, field))


def test_exp2_and_sigmoid(gpu: wgsl.Device) -> None:
    d = np.concatenate([np.arange(0, 2**21, 5), [2**31, 2**32 - 1]])
    assert np.array_equal(primitive(gpu, "i32(exp2_negative(u32(a[i])))", d), fixed.exp2_negative(d))
    g = np.arange(-(2**15) + 1, 2**15)
    assert np.array_equal(primitive(gpu, "sigmoid(a[i])", g), fixed.sigmoid(g))


# Section 3, operation by operation; 37 fills no word and no workgroup,
# 130 more than two workgroups.


@pytest.mark.parametrize("width", [1, 37, 64, 130])
def test_embed(gpu: wgsl.Device, width: int) -> None:
    table, rng = codes(1, (50, width)), np.random.default_rng(1)
    m, s, chosen = rng.integers(0, 65536, 50), rng.integers(0, 63, 50), np.arange(50)[::-1]
    expected = ops.embed(table[chosen], m[chosen], s[chosen])
    assert np.array_equal(gpu.embed(chosen, table, m, s), expected)


@pytest.mark.parametrize("width", [1, 37, 64, 130, 4096])
@pytest.mark.parametrize("eps", [0, 343597, 2**48])
def test_rms_norm(gpu: wgsl.Device, width: int, eps: int) -> None:
    gain = np.random.default_rng(width).integers(-(2**15), 2**15, width)
    gain[0] = -(2**15)
    norm, x = ops.Norm(gain_D=gain, exponent=11, eps=eps), rows(width, (120, width))
    expected = ops.rms_norm(x, norm)
    same(gpu.rms_norm(x, norm), expected.codes, expected.scale)


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (37, 130), (64, 64), (16384, 5), (ops.MAX_INPUTS, 2)])
def test_linear(gpu: wgsl.Device, n_in: int, n_out: int) -> None:
    rng, x = np.random.default_rng(n_in), codes(n_in, (6, n_in))
    layer = ops.QuantizedLinear(
        codes_OI=codes(n_out, (n_out, n_in)).astype(np.int8),
        row_m_O=rng.integers(0, 65536, n_out),
        row_s_O=rng.integers(16, 63, n_out),
        exponent=0,
    )
    layer.row_m_O[0], layer.row_s_O[0] = 65535, 16
    expected = ops.linear(ops.Quantized(codes=x, scale=scales(0, 6)), layer)
    assert np.array_equal(gpu.linear(x, layer), expected)


@pytest.mark.parametrize("width", [2, 38, 64, 130])
@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_heads(gpu: wgsl.Device, width: int, kind: str) -> None:
    y, token = rows(width, (90, 3, width), below_31_bits=True), scales(width, 90)
    table = np.random.default_rng(width).integers(-(2**15), 2**15, (100, width // 2, 2))
    turned, scale = ops.rotate(y, table[7:97]) if kind != "v" else fixed.quantize(y)
    scale = ops.scaled(scale, 29, token)
    score = Scale(np.array(48022), np.array(30)) if kind == "q" else None
    if score:
        scale = fixed.multiply_scales(scale, score)
    same(gpu.heads(y, table, token, 29, 7, kind != "v", score), turned, scale)


def attention(
    gpu: wgsl.Device, n: int, n_past: int, heads: tuple[int, int, int], spread: int, seed: int = 0
) -> None:
    """Scores, weights and sum of a few tokens behind a prefix, against the reference head by head."""
    (h, kv, width), n_keys = heads, n_past + n
    q, k, v = (
        codes(seed, (n, h, width)),
        codes(seed + 1, (n_keys, kv, width)),
        codes(seed + 2, (n_keys, kv, width)),
    )

    def scale(shape: tuple[int, int], middle: int) -> Scale:
        flat = scales(seed, shape[0] * shape[1], middle - spread, middle + spread + 1)
        return Scale(flat.m.reshape(shape), flat.e.reshape(shape))

    qs, ks, vs = scale((n, h), 36), scale((n_keys, kv), 15), scale((n_keys, kv), 20)
    o, low = gpu.attention((q, qs), (k, ks), (v, vs), n_past)
    for head in range(h):
        at = head // (h // kv)
        expected, exponent = ops.attention_head(
            q[:, head], Scale(qs.m[:, head], qs.e[:, head]), k[:, at], Scale(ks.m[:, at], ks.e[:, at]),
            v[:, at], Scale(vs.m[:, at], vs.e[:, at]), n_past,
        )  # fmt: skip
        assert np.array_equal(o[:, head], expected)
        assert np.array_equal(low[:, head], exponent)


@pytest.mark.parametrize("spread", [0, 3, 40])
@pytest.mark.parametrize(("n", "n_past"), [(1, 0), (9, 0), (3, 200), (1, 600)])
@pytest.mark.parametrize("heads", [(3, 3, 64), (6, 2, 37), (4, 1, 130)])
def test_attention(gpu: wgsl.Device, n: int, n_past: int, heads: tuple[int, int, int], spread: int) -> None:
    attention(gpu, n, n_past, heads, spread, seed=n_past + spread)


@pytest.mark.slow
@pytest.mark.parametrize("n_keys", [131072, 131073, 2**20])
@pytest.mark.parametrize("spread", [0, 2])
def test_attention_over_the_longest_contexts(gpu: wgsl.Device, n_keys: int, spread: int) -> None:
    attention(gpu, 1, n_keys - 1, (1, 1, 4), spread)


@pytest.mark.parametrize("heads", [(1, 2), (3, 37), (5, 64)])
def test_join(gpu: wgsl.Device, heads: tuple[int, int]) -> None:
    h, width = heads
    o = np.random.default_rng(width).integers(-(2**23), 2**23, (40, h, width))
    o[0] = 0
    low = np.random.default_rng(h).integers(-40, 40, (40, h))
    expected = ops.join_heads(o.transpose(1, 0, 2), low.T)
    same(gpu.join(o, low), expected.codes, expected.scale)


@pytest.mark.parametrize("width", [1, 37, 64, 448])
def test_swiglu(gpu: wgsl.Device, width: int) -> None:
    gate, up = (
        rows(width, (120, width), below_31_bits=True),
        rows(width + 1, (120, width), below_31_bits=True),
    )
    token = scales(width, 120, -40, 60)
    expected = ops.swiglu(gate, up, token, 9, -5)
    same(gpu.swiglu(gate, up, token, 9, -5), expected.codes, expected.scale)


def test_residual_and_head(gpu: wgsl.Device) -> None:
    x, y, token = rows(1, (200, 97)), rows(2, (200, 97), below_31_bits=True), scales(3, 200, -40, 60)
    expected = ops.add_residual(x, ops.to_units(y, token, 20, 16))
    assert np.array_equal(gpu.add_residual(x, y, token, 20, 16), expected)
    assert {INT32_MAX, INT32_MIN} <= set(expected.ravel().tolist()), "the sum saturates on both sides"
    assert np.array_equal(gpu.head(y, token, 20), ops.to_units(y, token, 20, ops.LOGIT_FRACTION))


@pytest.mark.parametrize("vocabulary", [1, 5, 64, 4099])
def test_argmax(gpu: wgsl.Device, vocabulary: int) -> None:
    logits = rows(vocabulary, (50, vocabulary))
    logits[10:] = np.random.default_rng(1).integers(-2, 3, (40, vocabulary))
    assert gpu.argmax(logits).tolist() == [reference.argmax(row) for row in logits]


# Whole models.


def differs(gpu: wgsl.Device, shape: str, edit: str | None = None) -> bool:
    """Whether logits, keys, values or choices of a prompt are not the reference's."""
    built = tiny(shape, EXTREMES[edit] if edit else None, largest=1.0) if edit else tiny(shape)
    model = built.load()
    tokens = ids(20, model.shape.vocab_size)
    held = reference.Cache(model.shape)
    expected = reference.forward(model, tokens, held)
    logits, cache = wgsl.forward(gpu, model, tokens)
    same_cache = all(
        np.array_equal(got, mine[: tokens.size])
        for ((k, ks), (v, vs)), layer in zip(cache, held.layers, strict=True)
        for got, mine in (
            (k, layer.k), (ks.m, layer.k_m), (ks.e, layer.k_e), (v, layer.v), (vs.m, layer.v_m),
            (vs.e, layer.v_e),
        )
    )  # fmt: skip
    choices = [reference.argmax(row) for row in expected]
    return not (same_cache and np.array_equal(logits, expected) and gpu.argmax(logits).tolist() == choices)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_model(gpu: wgsl.Device, shape: str) -> None:
    assert not differs(gpu, shape)


@pytest.mark.slow
@pytest.mark.parametrize("edit", EXTREMES)
@pytest.mark.parametrize("shape", ["gqa", "moe", "stacks"])
def test_a_whole_model_of_extreme_weights(gpu: wgsl.Device, shape: str, edit: str) -> None:
    assert not differs(gpu, shape, edit)


# Canaries: what would prove nothing if it passed.

SPOILED = {
    "rounding": ("heads", "return (b >> 1u) + (b & 1);", "return b >> 1u;"),
    "mulsh": ("linear", "((t >> u32(min(s - 17, 31))) + 1) >> 1u", "(t >> u32(min(s - 17, 31))) >> 1u"),
    "norm": ("rms_norm", "max(bits(peak) - 14, 0)", "max(bits(peak) - 13, 0)"),
    "turn": ("heads", "a * cos - b * sin", "a * cos + b * sin"),
    "values": ("values", "length - 1)", "length)"),
    "score": ("scores", "i32(lift) - 32", "i32(lift) - 31"),
    "weights": ("weights", "16 + v_scales[at + 1u] - low", "17 + v_scales[at + 1u] - low"),
    "gate": ("swiglu", "t.e - 11", "t.e - 12"),
    "head": ("head", "sizes[1] - 16", "sizes[1] - 15"),
    "argmax": ("argmax", "max(lowest, ~v)", "max(lowest, v)"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_shader_is_caught(gpu: wgsl.Device, name: str) -> None:
    shader, old, new = SPOILED[name]
    gpu.edits[shader] = (old, new)
    assert differs(gpu, "gqa")


@pytest.mark.parametrize("entry", [3, 65 + 2, 65 + 513 + 15])
def test_a_flipped_table_entry_is_caught(gpu: wgsl.Device, entry: int) -> None:
    gpu.tables = wgsl.tables()
    gpu.tables[entry] ^= 4096
    assert differs(gpu, "gqa") or differs(gpu, "dense") or differs(gpu, "moe")


# The shaders themselves.


def test_shaders_are_integers_only_and_short() -> None:
    files = sorted(wgsl.LAW.glob("*.wgsl"))
    assert len(files) == 13
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) <= 150
        for banned in ("f32", "f16", "vec2<f", "atomic", "i64", "u64"):
            assert banned not in text, (path.name, banned)
        # A browser promises eight storage buffers to a shader.
        assert text.count("@binding(") <= 8 - (path.stem != "prelude") * 2
