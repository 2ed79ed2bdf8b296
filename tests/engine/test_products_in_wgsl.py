"""The products of the engine for pages, on another implementation of WebGPU (wgpu on Mesa's
lavapipe): tiles in workgroup memory and rows with experts equal the reference bit for bit.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_law_in_wgsl import REASON, codes, scales
from test_law_in_wgsl import gpu as gpu

from sevenfold.engine import ops

pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no WebGPU adapter: {REASON}")
if REASON is None:
    import wgsl

SHAPES = [(1, 1), (37, 130), (64, 64), (333, 31), (4096, 9)]
PLAIN_DOT = """
fn plain_dot(a: u32, b: u32) -> i32 {
    var sum = 0;
    for (var i = 0u; i < 4u; i++) { sum += code_at(a, i) * code_at(b, i); }
    return sum;
}
"""


def program(name: str, *, is_packed: bool) -> str:
    own = wgsl.LAW.parent / "src" / "engine" / "webgpu" / f"{name}.wgsl"
    text = (wgsl.LAW / "prelude.wgsl").read_text() + own.read_text()
    return text if is_packed else text.replace("dot4I8Packed(", "plain_dot(") + PLAIN_DOT


def linear(n_in: int, n_out: int, seed: int) -> ops.QuantizedLinear:
    rng = np.random.default_rng(seed)
    return ops.QuantizedLinear(
        codes_OI=codes(seed, (n_out, n_in)).astype(np.int8),
        row_m_O=rng.integers(32768, 65536, n_out),
        row_s_O=rng.integers(16, 30, n_out),
        exponent=0,
    )


def held(x: np.ndarray, layers: list[ops.QuantizedLinear]) -> list[np.ndarray]:
    return [
        wgsl.pack(x),
        np.concatenate([wgsl.pack(layer.codes_OI.astype(np.int64)) for layer in layers]),
        np.concatenate([wgsl.pack_rows(layer.row_m_O, layer.row_s_O) for layer in layers]),
    ]


def tiled(gpu: wgsl.Device, text: str, x: np.ndarray, layer: ops.QuantizedLinear) -> np.ndarray:
    (n, n_in), n_out = x.shape, layer.row_m_O.size
    out = np.zeros((n, n_out), np.int32)
    groups = (-(-n_out // 32), -(-n // 32))
    return gpu.run(text, "tile", groups, [n_in, n_out, n], *held(x, [layer]), out)[0]


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("n", [1, 8, 33, 64])
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_tiles(gpu: wgsl.Device, n_in: int, n_out: int, n: int, is_packed: bool) -> None:
    x, layer = codes(n, (n, n_in)), linear(n_in, n_out, n_in)
    expected = ops.linear(ops.Quantized(codes=x, scale=scales(0, n)), layer)
    assert np.array_equal(tiled(gpu, program("tile", is_packed=is_packed), x, layer), expected)


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("n_experts", [1, 3])
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_rows_and_experts(gpu: wgsl.Device, n_in: int, n_out: int, n_experts: int, is_packed: bool) -> None:
    n = 7
    x, layers = codes(n, (n, n_in)), [linear(n_in, n_out, seed) for seed in range(n_experts)]
    experts = np.arange(n) % n_experts
    out = np.zeros((n, n_out), np.int32)
    text = program("row", is_packed=is_packed)
    arrays = (*held(x, layers), out, experts.astype(np.uint32))
    got = gpu.run(text, "row", (-(-n_out // 8), n), [n_in, n_out], *arrays)[0]
    every = [ops.linear(ops.Quantized(codes=x, scale=scales(0, n)), layer) for layer in layers]
    assert np.array_equal(got, np.stack([every[expert][t] for t, expert in enumerate(experts)]))


@pytest.mark.parametrize(("heads", "n_keys"), [((4, 2, 6), 5), ((2, 1, 64), 70), ((3, 3, 130), 300)])
def test_sums_are_those_of_the_law(gpu: wgsl.Device, heads: tuple[int, int, int], n_keys: int) -> None:
    (h, kv, width), n = heads, 3
    rng = np.random.default_rng(width)
    weights = rng.integers(0, 2**14, (n, h, n_keys)).astype(np.int32)
    values = wgsl.pack(codes(width, (n_keys, kv, width)))
    totals = rng.integers(2**15, 2**24, (n, h)).astype(np.uint32)
    sizes, out = [width, h, kv, n_keys, n_keys - n], np.zeros((n, h, width), np.int32)
    by_law = gpu.run(gpu.source("values"), "gather", (width, h, n), sizes, weights, values, totals, out)[0]
    groups = (-(-width // 64), h, n)
    assert np.any(by_law)
    text = program("sum", is_packed=True)
    assert np.array_equal(gpu.run(text, "sum", groups, sizes, weights, values, totals, out)[0], by_law)


def test_a_wrong_tile_is_caught(gpu: wgsl.Device) -> None:
    x, layer = codes(9, (9, 333)), linear(333, 31, 1)
    text = program("tile", is_packed=True)
    for old, new in (("at += DEPTH", "at += DEPTH + 1u"), ("b * SIDE) * DEPTH", "b * SIDE) * (DEPTH - 1u)")):
        assert old in text
        right = tiled(gpu, text, x, layer)
        assert not np.array_equal(tiled(gpu, text.replace(old, new, 1), x, layer), right)


def test_experts_are_found(gpu: wgsl.Device) -> None:
    own = wgsl.LAW.parent / "src" / "engine" / "webgpu" / "route.wgsl"
    text = (wgsl.LAW / "prelude.wgsl").read_text() + own.read_text()
    router = np.random.default_rng(1).integers(0, 4, 300).astype(np.uint32)
    ids = np.random.default_rng(2).integers(0, 300, 130).astype(np.uint32)
    got = gpu.run(text, "route", (3,), [130], ids, router, np.zeros(130, np.uint32))[0]
    assert np.array_equal(got, router[ids])
