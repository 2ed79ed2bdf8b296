"""The BF16 kernels of training: near the formula in float64, causal, the same
bits on any threads and strides.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import run_sanitized
from torch import Tensor, nn
from torch.nn import functional as F

from sevenfold.core.errors import SevenfoldError
from sevenfold.model.kernels import bf16
from sevenfold.model.kernels.causal import causal_attention
from sevenfold.model.linear import Linear
from sevenfold.model.loss import BLOCK_BF16, sequence_losses
from sevenfold.model.norm import RMSNorm
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec

needs_kernels = pytest.mark.skipif(not bf16.is_available(), reason="no AVX512-BF16 here, or not built")
# Batch, query heads, key/value heads, length, head_dim.
SHAPES = [
    (1, 1, 1, 1, 16),
    (2, 4, 2, 47, 16),
    (1, 5, 5, 48, 64),
    (1, 6, 2, 49, 32),
    (2, 2, 1, 131, 80),
    (1, 3, 1, 97, 128),
    (1, 1, 1, 65, 256),
]
Shape = tuple[int, int, int, int, int]
ROUND = 2**-8  # the largest error of one rounding to BF16, in parts of the number


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reduced() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def error(found: Tensor, wanted: Tensor) -> float:
    """Norm of the difference, in parts of the norm of what is wanted."""
    assert found.shape == wanted.shape
    return float((found.double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


def with_gradients(
    function: Callable[..., Tensor], slope: Tensor, *inputs: Tensor, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """The output and the gradients of the inputs; everything in `dtype` if it is given."""
    leaves = [(t if dtype is None else t.to(dtype)).detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, slope.to(y.dtype))]


def heads(shape: Shape, seed: int = 0) -> list[Tensor]:
    """q, k, v as views of one projection, and the slope of y."""
    n_batch, n_heads, n_kv_heads, length, head_dim = shape
    sizes = [n_heads, n_kv_heads, n_kv_heads]
    every = random(n_batch, length, sum(sizes) * head_dim, seed=seed).bfloat16()
    parts = every.split([n * head_dim for n in sizes], dim=-1)
    views = [p.view(n_batch, length, -1, head_dim).transpose(1, 2) for p in parts]
    return [*views, random(n_batch, n_heads, length, head_dim, seed=seed + 1).bfloat16()]


def angles(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    angle = random(length, head_dim // 2, seed=9)
    return 1.1 * angle.cos(), 1.1 * angle.sin()


def formula(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn, then the definition with the whole matrix, in float64."""

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos.double() - b * sin.double(), b * cos.double() + a * sin.double()], dim=-1)

    of = [h * k.shape[1] // q.shape[1] for h in range(q.shape[1])]
    scores = turned(q) @ turned(k)[:, of].transpose(2, 3) / math.sqrt(q.shape[3])
    future = torch.ones(q.shape[2], q.shape[2]).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(3) @ v[:, of]


def attended(shape: Shape, seed: int = 0) -> list[Tensor]:
    *inputs, slope = heads(shape, seed)
    table = angles(shape[3], shape[4])
    return with_gradients(lambda *t: bf16.attention(*t, *table), slope, *inputs)


@needs_kernels
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_the_formula(shape: Shape) -> None:
    *inputs, slope = heads(shape)
    cos, sin = angles(shape[3], shape[4])
    found = attended(shape)
    wanted = with_gradients(lambda *t: formula(*t, cos, sin), slope, *inputs, dtype=torch.float64)
    assert all(t.dtype == torch.bfloat16 for t in found)
    for name, ours, exact in zip(("y", "q", "k", "v"), found, wanted, strict=True):
        assert error(ours, exact) < 2 * ROUND or exact.norm() < 1e-12, name
    if shape[3] > 1:  # one key: no slope of a score; else another turn is another answer
        other = with_gradients(lambda *t: formula(*t, cos, -sin), slope, *inputs, dtype=torch.float64)
        assert all(
            error(ours, exact) > 10 * ROUND for ours, exact in zip(found[1:3], other[1:3], strict=True)
        )


@needs_kernels
def test_attention_is_as_near_as_that_of_float32() -> None:
    """Against the float32 kernel on the same turned, rounded numbers: what
    BF16 weights and slopes cost.
    """
    *inputs, slope = heads((2, 4, 2, 200, 64))
    ones, zeros = torch.ones(200, 32), torch.zeros(200, 32)
    ours = with_gradients(lambda *t: bf16.attention(*t, ones, zeros), slope, *inputs)
    wide = with_gradients(causal_attention, slope, *inputs, dtype=torch.float32)
    assert all(error(a, b.double()) < 1.2 * ROUND for a, b in zip(ours, wide, strict=True))


@needs_kernels
def test_large_scores_do_not_overflow() -> None:
    q, k, v, slope = heads((1, 1, 1, 70, 16))
    ones, zeros = torch.ones(70, 8), torch.zeros(70, 8)
    found = with_gradients(lambda *t: bf16.attention(*t, ones, zeros), slope, 300 * q, 300 * k, v)
    wanted = formula(300 * q.double(), 300 * k.double(), v.double(), ones, zeros)
    assert all(torch.isfinite(t).all() for t in found)
    assert error(found[0], wanted) < 2 * ROUND


@needs_kernels
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.integers(0, 119), st.integers(0, 2**31))
def test_the_past_does_not_see_the_future(length: int, position: int, seed: int) -> None:
    q, k, v, _ = heads((1, 2, 1, length, 16), seed)
    table = angles(length, 16)
    before, cut = bf16.attention(q, k, v, *table), position % length
    for tensor in (q, k, v):
        tensor[:, :, cut:] = 7.0
    after = bf16.attention(q, k, v, *table)
    assert torch.equal(after[:, :, :cut], before[:, :, :cut])


@needs_kernels
def test_strides_are_read_as_they_are() -> None:
    *inputs, slope = heads((2, 4, 2, 60, 32))
    table = angles(60, 32)
    assert not any(t.is_contiguous() for t in inputs)
    joined = with_gradients(lambda *t: bf16.attention(*t, *table), slope, *inputs)
    dense = with_gradients(lambda *t: bf16.attention(*t, *table), slope, *(t.contiguous() for t in inputs))
    by_channel = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in inputs]  # channels are not adjacent
    far = with_gradients(lambda *t: bf16.attention(*t, *table), slope, *by_channel)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(joined, dense, far, strict=True))


def rows_work() -> list[Tensor]:
    """Everything that goes by rows, forward and backward."""
    x, weight = random(3, 70, 45), 1 + random(45, seed=1)
    slope = random(3, 70, 45, seed=2).bfloat16()
    out = with_gradients(lambda a, b: bf16.norm_beside(a, b, 1e-5)[1], slope, x, weight)
    gate, up = random(3, 70, 90, seed=3).bfloat16().split(45, dim=-1)
    out += with_gradients(bf16.swiglu, slope, gate, up)
    out += with_gradients(bf16.add, slope.float(), x, slope)
    logits = random(300, 77, seed=4).bfloat16()
    return [*out, bf16.cross_entropy(logits, torch.arange(300) % 77, None), logits]


@needs_kernels
def test_threads_decide_no_bit() -> None:
    n_threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append([*attended((3, 4, 2, 130, 32)), *rows_work()])
    finally:
        torch.set_num_threads(n_threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernels
@pytest.mark.parametrize("width", [1, 15, 16, 17, 320])
@pytest.mark.parametrize("n_rows", [0, 1, 65, 200])
def test_norm_is_the_formula(n_rows: int, width: int) -> None:
    x, weight = 3 * random(n_rows, width), 1 + random(width, seed=1)
    slope, beside = random(n_rows, width, seed=2).bfloat16(), random(n_rows, width, seed=3)

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        same, y = bf16.norm_beside(x, weight, 1e-5)
        assert torch.equal(same, x)
        return (y * slope).double().sum() + (same * beside).double().sum()

    def exact(x: Tensor, weight: Tensor) -> Tensor:
        y = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
        return (y * slope.double()).sum() + (x * beside.double()).sum()

    one = torch.ones((), dtype=torch.float64)
    found = with_gradients(ours, one, x, weight)
    wanted = with_gradients(exact, one, x, weight, dtype=torch.float64)
    assert found[1].dtype == found[2].dtype == torch.float32
    if n_rows:
        assert error(found[1], wanted[1]) < 1e-5
        assert error(found[2], wanted[2]) < 1e-5
        y, plain = bf16.norm_beside(x, weight, 1e-5)[1], F.rms_norm(x, (width,), weight, 1e-5)
        assert error(y, plain.double()) < ROUND
    else:
        assert not found[2].any()


@needs_kernels
@pytest.mark.parametrize("width", [1, 17, 448])
@pytest.mark.parametrize("is_joined", [False, True])
def test_swiglu_is_the_formula(width: int, is_joined: bool) -> None:
    both = 4 * random(3, 67, 2 * width).bfloat16()
    both[0, 0, 0], both[0, 1, 0] = 200.0, -200.0
    gate, up = both.split(width, dim=-1)
    if not is_joined:
        gate, up = gate.contiguous(), up.transpose(0, 1).contiguous().transpose(0, 1)
    slope = random(3, 67, width, seed=1).bfloat16()
    found = with_gradients(bf16.swiglu, slope, gate, up)
    wanted = with_gradients(lambda g, u: F.silu(g) * u, slope, gate, up, dtype=torch.float64)
    assert all(
        torch.allclose(a.double(), b, rtol=1.01 * ROUND, atol=1e-5)
        for a, b in zip(found, wanted, strict=True)
    )


@needs_kernels
@pytest.mark.parametrize("is_counted", [False, True])
@pytest.mark.parametrize("n_entries", [1, 33, 4096])
def test_cross_entropy_is_the_formula(n_entries: int, is_counted: bool) -> None:
    logits, target = 5 * random(130, n_entries).bfloat16(), torch.arange(130) * 31 % n_entries
    counted = (torch.arange(130) % 3 > 0).float() if is_counted else None
    exact = logits.double().requires_grad_()
    wanted = F.cross_entropy(exact, target, reduction="none") * (1.0 if counted is None else counted.double())
    (slope,) = torch.autograd.grad(wanted.sum(), exact)
    found = bf16.cross_entropy(logits, target, counted)
    assert torch.allclose(found.double(), wanted.detach(), rtol=2e-6, atol=2e-6)
    assert torch.allclose(logits.double(), slope, rtol=1.01 * ROUND, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_hidden(value: float) -> None:
    logits = random(3, 40).bfloat16()
    logits[1, 17] = value
    found = bf16.cross_entropy(logits, torch.zeros(3, dtype=torch.int64), None)
    assert torch.isfinite(found).tolist() == [True, False, True]
    q, k, v, _ = heads((1, 1, 1, 50, 16))
    k[0, 0, 20, 3] = value
    y = bf16.attention(q, k, v, *angles(50, 16))
    assert not torch.isfinite(y[0, 0, 20:]).all()
    assert torch.isfinite(y[0, 0, :20]).all()


@needs_kernels
def test_what_is_outside_is_refused() -> None:
    for target in (-1, 40):
        with pytest.raises(SevenfoldError, match="s7_bf16_cross_entropy: the kernel refused a shape"):
            bf16.cross_entropy(random(1, 40).bfloat16(), torch.tensor([target]), None)
    q, k, v, _ = heads((1, 3, 2, 8, 16))
    with pytest.raises(SevenfoldError, match="a shape outside its bounds"):
        bf16.attention(q, k, v, *angles(8, 16))


@needs_kernels
def test_projections_are_one_product() -> None:
    layers = [Linear(40, n) for n in (16, 32, 48)]
    for number, layer in enumerate(layers):
        layer.weight.data = random(*layer.weight.shape, seed=number)
    x, slopes = random(3, 21, 40, seed=5).requires_grad_(), random(3, 21, 96, seed=6).bfloat16()
    weights = [layer.weight for layer in layers]
    with reduced():
        found = bf16.projections(x, *layers)
        plain = [layer(x) for layer in layers]
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    parts = slopes.split([16, 32, 48], dim=-1)
    ours = torch.autograd.grad(found, [x, *weights], parts)  # side by side in one buffer
    apart = torch.autograd.grad(
        bf16._Projections.apply(x, *weights), [x, *weights], [p.clone() for p in parts]
    )
    exact = [x.detach().double(), *(w.detach().double() for w in weights)]
    wanted_x = sum(p.double() @ w for p, w in zip(parts, exact[1:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ours, apart, strict=True))
    assert error(ours[0], wanted_x) < ROUND
    for grad, part in zip(ours[1:], parts, strict=True):
        assert grad.dtype == torch.float32
        assert error(grad, part.double().flatten(0, 1).T @ exact[0].flatten(0, 1)) < ROUND
    assert isinstance(bf16.projections(x, *layers)[0], Tensor)
    assert bf16.projections(x, *layers)[0].dtype == torch.float32  # no autocast: FP32 as ever
    with reduced():
        assert bf16.projections(x, layers[0], nn.Linear(40, 8))[1].shape == (3, 21, 8)  # an FP8 layer, say


def test_only_what_lies_side_by_side_is_taken_as_it_lies() -> None:
    a, b = random(4, 6), random(4, 6, seed=1)
    left, right = a.split(3, dim=-1)
    taken = bf16._joined((left, right))
    assert taken.data_ptr() == a.data_ptr()
    assert torch.equal(taken, a)
    for parts in ((right, left), (left, b[:, 3:]), (left, right.clone()), (left, left), (right,)):
        assert torch.equal(bf16._joined(parts), torch.cat(parts, dim=-1))


def model_of(**change: object) -> Transformer:
    shape = {"d_model": 48, "n_layers": 2, "n_heads": 3, "n_kv_heads": 1, "head_dim": 16, "d_ffn": 80}
    model = Transformer(ModelSpec(**shape, vocab_size=300, context=64, **change))
    model.initialize(torch.Generator().manual_seed(3), 0.2)
    return model


def gradients(model: Transformer, ids: Tensor, *, is_reduced: bool) -> dict[str, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_reduced):
        losses = sequence_losses(model.hidden(ids[:, :-1]), model.head_weight, ids[:, 1:])
    losses.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    return {"loss": losses.detach()} | {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("start", [None, 7])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_in_bf16_is_near_float32(start: int | None, recompute: bool) -> None:
    model = model_of()
    model.document_start, model.recompute = start, recompute
    ids = torch.randint(0, 30, (4, 65), generator=torch.Generator().manual_seed(1))
    exact = gradients(model, ids, is_reduced=False)
    found = gradients(model, ids, is_reduced=True)
    assert not torch.equal(found["loss"], exact["loss"])
    assert torch.allclose(found["loss"], exact["loss"], rtol=2e-3)
    for name, wanted in exact.items():
        assert error(found[name], wanted.double()) < 0.06, name


@needs_kernels
def test_head_of_several_blocks_adds_in_float32() -> None:
    n = 2 * BLOCK_BF16 + 30
    x, weight = random(1, n, 32).requires_grad_(), random(50, 32, seed=1).requires_grad_()
    target = torch.arange(n)[None] % 50
    with reduced():
        total = sequence_losses(x, weight, target).sum()
    found = torch.autograd.grad(total, [x, weight])
    low = [t.detach().bfloat16().double().requires_grad_() for t in (x, weight)]
    wanted = F.cross_entropy((low[0] @ low[1].T)[0], target[0], reduction="sum")
    exact = torch.autograd.grad(wanted, low)
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-3)
    assert all(error(a, b) < 2 * ROUND for a, b in zip(found, exact, strict=True))


@needs_kernels
def test_without_the_instructions_pytorch_does_it() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import torch, test_bf16 as t\n"
        "assert not t.bf16.is_available()\n"
        "with t.reduced():\n"
        "    norm = t.RMSNorm(48, 1e-5); x = t.random(2, 48)\n"
        "    assert not t.bf16.is_taken(x) and norm(x).dtype == torch.float32\n"
        "t.test_a_model_in_bf16_is_near_float32(7, False); print('ok')"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    for isa in ("avx2", "scalar"):
        done = subprocess.run(
            command, env=os.environ | {"S7_ISA": isa}, capture_output=True, text=True, check=False
        )
        assert done.stdout == "ok\n", done.stderr[-2000:]
    with reduced():
        assert RMSNorm(48, 1e-5)(random(2, 48)).dtype == torch.bfloat16


DRIVER = r"""
#include "bf16.h"
#include <cstdio>
#include <vector>
int main() {
    const int32_t shapes[][6] = {{1,1,1,1,16,1},{2,4,2,47,16,2},{1,2,1,48,64,3},
                                 {1,3,3,49,32,2},{1,1,1,97,80,1},{1,1,1,65,256,1}};
    const uint16_t one = 0x3f80, two = 0x4000;
    for (const auto &n : shapes) {
        const s7_attention_shape shape = {n[0], n[1], n[2], n[3], n[4], n[5], n[4]};
        const int64_t width = n[4], row = (n[1] + 2 * n[2]) * width, q_row = n[1] * width;
        std::vector<uint16_t> every(n[0] * n[3] * row, two), grads(every.size()), y(n[0] * n[3] * q_row),
                slope(y.size(), one);
        std::vector<float> turn(n[3] * width / 2, .5f), sums(n[0] * n[1] * n[3]);
        const auto at = [&](std::vector<uint16_t> &v, int64_t head, int64_t step) {
            return s7_bf16_heads{v.data() + head * width, n[3] * step, step, width};
        };
        const auto q = at(every, 0, row), k = at(every, n[1], row), v = at(every, n[1] + n[2], row);
        const auto gq = at(grads, 0, row), gk = at(grads, n[1], row), gv = at(grads, n[1] + n[2], row);
        const auto out = at(y, 0, q_row), gy = at(slope, 0, q_row);
        if (s7_bf16_attention_forward(&shape, &q, &k, &v, turn.data(), turn.data(), &out,
                sums.data())) return 1;
        if (s7_bf16_attention_backward(&shape, &q, &k, &v, turn.data(), turn.data(), &out, sums.data(),
                &gy, &gq, &gk, &gv))
            return 2;
        if (s7_bf16_attention_forward(&shape, &q, &k, &v, nullptr, nullptr, &out, sums.data())) return 3;
        for (uint16_t value : y) if (value != two) return 4;
    }
    for (int64_t n : {1, 16, 77}) {
        const s7_bf16_rows rows = {150, n, 2};
        std::vector<uint16_t> low(150 * n, one), other(low), wide(300 * n, one), grads(300 * n);
        std::vector<float> x(150 * n, 1.f), weight(n, 1.f), inverse(150), sum(150 * n), partial(n),
                loss(150), counted(150, 1.f);
        std::vector<int64_t> target(150, n - 1);
        if (s7_bf16_norm_forward(&rows, x.data(), weight.data(), 1e-5f, low.data(), inverse.data())) return 5;
        if (s7_bf16_norm_backward(&rows, x.data(), weight.data(), inverse.data(), low.data(), x.data(),
                sum.data(), partial.data()))
            return 6;
        if (s7_bf16_swiglu_forward(&rows, 2 * n, wide.data(), wide.data() + n, low.data())) return 7;
        if (s7_bf16_swiglu_backward(&rows, 2 * n, wide.data(), wide.data() + n, low.data(), 2 * n,
                grads.data(), grads.data() + n))
            return 8;
        if (s7_bf16_cross_entropy(&rows, other.data(), target.data(), counted.data(), loss.data())) return 9;
        if (s7_bf16_add(&rows, sum.data(), low.data(), sum.data())) return 10;
        target[149] = n;
        if (s7_bf16_cross_entropy(&rows, other.data(), target.data(), nullptr,
                loss.data()) != S7_TRAIN_SHAPE) return 11;
    }
    const s7_bf16_rows bad = {1, 0, 1};
    float x = 0;
    uint16_t y = 0;
    if (s7_bf16_add(&bad, &x, &y, &x) != S7_TRAIN_SHAPE) return 12;
    std::puts("ok");
}
"""


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(sanitizer: str, tmp_path: Path) -> None:
    done = run_sanitized(DRIVER, sanitizer, "avx512", tmp_path)
    assert done.stdout == "ok\n", (done.returncode, done.stderr[-2000:])
