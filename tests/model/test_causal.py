"""The attention kernel of training: equal to the formula in float64, causal, and the same bits
on any threads and registers.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import run_sanitized
from torch import Tensor

from sevenfold.core.errors import SevenfoldError
from sevenfold.model.kernels import causal
from sevenfold.model.kernels.causal import causal_attention

needs_kernel = pytest.mark.skipif(
    causal.kernel_name() != "s7", reason="the attention kernel is not built here"
)
SHAPES = [
    (1, 1, 1, 1, 16),
    (2, 4, 2, 47, 16),
    (1, 5, 5, 48, 64),
    (1, 6, 2, 49, 32),
    (2, 2, 1, 130, 80),
    (1, 1, 1, 65, 256),
]


def inputs(shape: tuple[int, int, int, int, int], seed: int = 0) -> list[Tensor]:
    """q, k, v and the slope of y."""
    n_batch, n_heads, n_kv_heads, length, head_dim = shape
    generator = torch.Generator().manual_seed(seed)
    heads = (n_heads, n_kv_heads, n_kv_heads, n_heads)
    return [torch.randn(n_batch, h, length, head_dim, generator=generator) for h in heads]


def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The definition, with the whole matrix, in the dtype of its operands."""
    group = q.shape[1] // k.shape[1]
    heads = [h // group for h in range(q.shape[1])]
    scores = torch.einsum("bhie,bhje->bhij", q, k[:, heads]) / math.sqrt(q.shape[3])
    future = torch.ones(q.shape[2], q.shape[2]).triu(1).bool()
    return torch.einsum("bhij,bhje->bhie", scores.masked_fill(future, -torch.inf).softmax(3), v[:, heads])


def with_gradients(function, q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> list[Tensor]:
    """y and the gradients of q, k and v."""
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, slope)]


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_formula(shape: tuple[int, int, int, int, int]) -> None:
    tensors = inputs(shape)
    exact = with_gradients(formula, *(t.double() for t in tensors))
    for name, ours, wanted in zip(
        ("y", "q", "k", "v"), with_gradients(causal_attention, *tensors), exact, strict=True
    ):
        assert torch.allclose(ours.double(), wanted, rtol=1e-5, atol=2e-5), name


@needs_kernel
def test_large_scores_do_not_overflow() -> None:
    q, k, v, slope = inputs((1, 1, 1, 70, 16))
    exact = with_gradients(formula, 300 * q.double(), 300 * k.double(), v.double(), slope.double())
    ours = with_gradients(causal_attention, 300 * q, 300 * k, v, slope)
    assert all(torch.isfinite(t).all() for t in ours)
    assert torch.allclose(ours[0].double(), exact[0], atol=1e-2)


@needs_kernel
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.integers(0, 119), st.integers(0, 2**31))
def test_the_past_does_not_see_the_future(length: int, position: int, seed: int) -> None:
    q, k, v, _ = inputs((1, 2, 1, length, 16), seed)
    before, cut = causal_attention(q, k, v), position % length
    for tensor in (q, k, v):
        tensor[:, :, cut:] = 7.0
    assert torch.equal(causal_attention(q, k, v)[:, :, :cut], before[:, :, :cut])


@needs_kernel
def test_threads_decide_no_bit() -> None:
    tensors, n_threads = inputs((3, 4, 2, 130, 32)), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(with_gradients(causal_attention, *tensors))
    finally:
        torch.set_num_threads(n_threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernel
def test_registers_decide_no_bit() -> None:
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import test_causal as t\nsha ="
        " hashlib.sha256()\nfor shape in t.SHAPES:\n    for out in t.with_gradients(t.causal_attention,"
        " *t.inputs(shape)): sha.update(out.numpy().tobytes())\nprint(sha.hexdigest())"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    found = {
        subprocess.run(
            command, env=os.environ | {"S7_ISA": isa}, capture_output=True, text=True, check=True
        ).stdout
        for isa in ("avx2", "avx512")
    }
    assert len(found) == 1


def test_elsewhere_pytorch_does_it() -> None:
    q, k, v, _ = (t.double() for t in inputs((1, 4, 2, 30, 16)))
    assert torch.allclose(causal_attention(q, k, v), formula(q, k, v))


@needs_kernel
def test_a_shape_outside_its_bounds_is_refused() -> None:
    q, k, v, _ = inputs((1, 3, 2, 8, 16))
    with pytest.raises(SevenfoldError, match="a shape outside its bounds"):
        causal_attention(q, k, v)


DRIVER = r"""
#include "attention.h"
#include <cstdio>
#include <vector>
int main() {
    const int32_t shapes[][6] = {{1,1,1,1,16,1},{2,4,2,47,16,2},{1,2,1,48,64,3},
                                 {1,3,3,49,32,2},{1,1,1,97,80,1},{1,1,1,65,256,1}};
    for (const auto &n : shapes) {
        const s7_attention_shape shape = {n[0], n[1], n[2], n[3], n[4], n[5], n[4]};
        const size_t one = size_t(n[3]) * n[4], q_size = n[0] * n[1] * one, k_size = n[0] * n[2] * one;
        std::vector<float> q(q_size, .5f), k(k_size, .25f), v(k_size, 2.f), y(q_size);
        std::vector<float> sums(n[0] * n[1] * n[3]);
        std::vector<float> slope(q_size, 1.f), gq(q_size), gk(k_size), gv(k_size);
        if (s7_attention_forward(&shape, q.data(), k.data(), v.data(), y.data(), sums.data())) return 1;
        if (s7_attention_backward(&shape, q.data(), k.data(), v.data(), y.data(), sums.data(),
                                  slope.data(), gq.data(), gk.data(), gv.data())) return 2;
        for (float value : y) if (value < 1.99f || value > 2.01f) return 3;
    }
    s7_attention_shape bad = {1, 3, 2, 8, 16, 1, 16};
    float x = 0;
    if (s7_attention_forward(&bad, &x, &x, &x, &x, &x) != S7_TRAIN_SHAPE) return 4;
    std::puts("ok");
}
"""


@needs_kernel
@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_sanitizers_find_nothing(sanitizer: str, isa: str, tmp_path: Path) -> None:
    done = run_sanitized(DRIVER, sanitizer, isa, tmp_path)
    assert done.stdout == "ok\n", done.stderr[-2000:]


@needs_kernel
@pytest.mark.parametrize("reduced", [False, True])
def test_strided_inputs_are_read_by_their_strides(reduced: bool) -> None:
    dense = inputs((2, 4, 2, 40, 16))[:3]
    strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in dense]
    assert not any(t.is_contiguous() for t in strided)
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        found, wanted = causal_attention(*strided), causal_attention(*dense)
    # Under autocast, too, the kernel computes in FP32.
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert torch.equal(wanted, causal_attention(*dense))
