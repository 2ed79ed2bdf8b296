"""Hybrid attention under specs/training-arithmetic.md: every instruction set equals the exact
fractions of `rational_hybrid` bit for bit, and no use of threads, batches or documents changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from rational_hybrid import Rule as RationalRule
from rational_hybrid import hybrid
from test_arithmetic import _here, numbers, same
from torch import Tensor

from sevenfold.audit.exact.rational_hybrid import Reading
from sevenfold.core.errors import SevenfoldError
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.hybrid_kernel import HybridConstants, hybrid_attention

pytestmark = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
# Length, window, stride, ring, temper: two blocks of rows, a ring that forgets; a stride longer than
# the document; a summary of each position.
CASES = {
    "two blocks": (53, 12, 4, 3, 1.3),
    "no summary": (9, 8, 16, 2, 1.0),
    "strides of one": (20, 3, 1, 5, 1.0),
}
WIDTH, HEADS = 6, 2


@pytest.fixture(params=[(name, threads) for name in _here() for threads in (1, 2)], ids=str)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An instruction set and a number of threads."""
    name, threads = request.param
    monkeypatch.setenv("S7_ISA", name)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield name
    torch.set_num_threads(before)


def inputs(length: int, n_batch: int = 1, n_kv: int = 1) -> list[Tensor]:
    """Queries, keys, values and scores, [B, heads, T, E] and [B, 2 * K, T]."""
    shapes = [
        (n_batch, HEADS * n_kv, length, WIDTH),
        *[(n_batch, n_kv, length, WIDTH)] * 2,
        (n_batch, 2 * n_kv, length),
    ]
    found = [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]
    # A key without length: its slope stays finite.
    found[1][0, 0, 1] = 0.0
    return [x.requires_grad_() for x in found]


def tables(length: int) -> tuple[Tensor, Tensor]:
    return operators.rotation_tables([1.0, 0.1, 0.01], 1.1, length)


@cache
def wanted(name: str) -> tuple[object, ...]:
    length, window, stride, ring, temper = CASES[name]
    reading = Reading(window=window, stride=stride, ring=ring, temper=temper)
    q, k, v, score = (x.detach() for x in inputs(length))
    cos, sin = (t.tolist() for t in tables(length))
    rule = RationalRule(reading, cos, sin)
    grad = numbers(1, HEADS, length, WIDTH, seed=9)[0].tolist()
    scores = score[0, 0].tolist(), score[0, 1].tolist()
    return hybrid(q[0].tolist(), k[0, 0].tolist(), v[0, 0].tolist(), scores, grad, rule)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_fractions(forced: str, name: str) -> None:
    length, *rule = CASES[name]
    given = inputs(length)
    y = hybrid_attention(*given, tables(length), HybridConstants(*rule))
    y.backward(numbers(1, HEADS, length, WIDTH, seed=9))
    out, grad_q, grad_k, grad_v, *grad_scores = wanted(name)
    slopes = [x.grad for x in given]
    assert all(slope is not None for slope in slopes)
    same(y.detach()[0], out)
    for slope, expected in zip(slopes, (grad_q, [grad_k], [grad_v], grad_scores), strict=True):
        assert slope is not None
        same(slope[0].contiguous(), expected)


def run(given: list[Tensor], rule: HybridConstants, segments: list[list[int]] | None = None) -> list[Tensor]:
    """Output and slopes."""
    fresh = [x.detach().clone().requires_grad_() for x in given]
    y = hybrid_attention(*fresh, tables(given[0].shape[2]), rule, segments)
    y.backward(numbers(*y.shape, seed=7))
    return [y.detach(), *(x.grad for x in fresh if x.grad is not None)]


def test_instruction_sets_agree_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    given, rule = inputs(331, n_batch=2, n_kv=2), HybridConstants(40, 8, 30, 1.2)
    found = []
    for name in _here():
        monkeypatch.setenv("S7_ISA", name)
        found.append(run(given, rule))
    assert all(torch.equal(a, b) for other in found for a, b in zip(found[0], other, strict=True))


def test_a_document_is_what_it_is_alone() -> None:
    given, rule = inputs(70), HybridConstants(12, 4, 3, 1.0)
    together = run(given, rule, [[21, 1, 48]])
    grad = numbers(1, HEADS, 70, WIDTH, seed=7)
    start = 0
    for length in (21, 1, 48):
        alone = [x.detach()[:, :, start : start + length].clone().requires_grad_() for x in given]
        y = hybrid_attention(*alone, tables(length), rule)
        y.backward(grad[:, :, start : start + length])
        parts = [y.detach(), *(x.grad for x in alone if x.grad is not None)]
        for whole, part in zip(together, parts, strict=True):
            assert torch.equal(whole[:, :, start : start + length], part)
        start += length


def test_what_is_no_rule_is_refused() -> None:
    for rule in (
        HybridConstants(0, 4, 3, 1.0),
        HybridConstants(4, 0, 3, 1.0),
        HybridConstants(4, 4, 0, 1.0),
        HybridConstants(4, 4, 4, float("nan")),
    ):
        with pytest.raises(SevenfoldError, match="a shape outside its bounds"):
            hybrid_attention(*inputs(8), tables(8), rule)
