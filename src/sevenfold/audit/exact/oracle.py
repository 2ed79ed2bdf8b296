"""Compute single results of an operator from its inputs by exact fractions (`audit.exact.rational`).

It decides a dispute about an operator, so it uses nothing of the kernels, only
specs/training-arithmetic.md. It is slow, and meant for the elements in which two results differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sevenfold.audit.exact import rational as law
from sevenfold.audit.exact.rational_hybrid import ROWS_OF_A_BLOCK, Given, HybridHead, Reading


@dataclass(frozen=True)
class Question:
    """The element of an output of a call to compute. `index` counts the elements of the output row
    by row.
    """

    inputs: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    output: str
    index: int

    def rows(self, name: str) -> Tensor:
        """Return an input as rows."""
        tensor = self.inputs[name]
        return tensor.reshape(-1, tensor.shape[-1])

    def row(self, name: str, number: int) -> list[float]:
        """Return a row of an input."""
        values: list[float] = self.rows(name)[number].tolist()
        return values

    def one(self, name: str) -> float:
        """Return the element of an input at the position of the question."""
        return float(self.inputs[name].reshape(-1)[self.index])

    def number(self, name: str) -> float:
        """Return a setting as binary32."""
        return law.f32(float(self.settings[name]))


def _product(q: Question) -> float:
    a, b = q.inputs["a"], q.inputs["b"]
    i, j = divmod(q.index, b.shape[1])
    start = float(q.inputs["c"][i, j]) if "c" in q.inputs else 0.0
    return law.chain(a[i].tolist(), b[:, j].tolist(), start)


def _norm(q: Question) -> float:
    width = q.inputs["x"].shape[-1]
    row = q.index if q.output == "result.1" else q.index // width
    values, scale = law.norm(q.row("x", row), q.inputs["gain_D"].tolist(), q.number("eps"))
    return scale if q.output == "result.1" else values[q.index % width]


def _norm_slope(q: Question) -> float:
    width, scales = q.inputs["x"].shape[-1], q.inputs["scale"].reshape(-1).tolist()
    if q.output == "result.1":
        x, grad = (q.rows(name)[:, q.index].tolist() for name in ("x", "grad"))
        return law.chain(grad, [law.mul(v, f) for v, f in zip(x, scales, strict=True)])
    row = q.index // width
    beside = q.row("beside", row) if "beside" in q.inputs else None
    gain = q.inputs["gain_D"].tolist()
    return law.norm_slope(q.row("x", row), gain, scales[row], q.row("grad", row), beside)[q.index % width]


def _gate(q: Question) -> float:
    gate = q.one("gate")
    return law.mul(law.mul(gate, law.sigmoid(gate)), q.one("up"))


def _gate_slope(q: Question) -> float:
    gate, up, grad = q.one("gate"), q.one("up"), q.one("grad")
    s = law.sigmoid(gate)
    passed = law.mul(gate, s)
    if q.output == "result.1":
        return law.mul(grad, passed)
    return law.mul(law.mul(grad, up), law.add(s, law.mul(passed, law.sub(1.0, s))))


def _rotate(q: Question) -> float:
    x, cos, sin = (q.inputs[name] for name in ("x_BHTE", "cos_TP", "sin_TP"))
    n_pairs = cos.shape[1]
    row, channel = divmod(q.index, x.shape[-1])
    position, pair = row % x.shape[-2], channel % n_pairs
    values = q.row("x_BHTE", row)
    a, b = values[pair], values[pair + n_pairs]
    c, s = float(cos[position, pair]), float(sin[position, pair])
    s = law.mul(s, -1.0) if q.settings["back"] else s
    if channel < n_pairs:
        return law.fma(a, c, law.mul(b, law.mul(s, -1.0)))
    return law.fma(b, c, law.mul(a, s))


def _losses(q: Question) -> float:
    width = q.inputs["logits_NV"].shape[-1]
    row = q.index if q.output == "result.0" else q.index // width
    factor = float(q.inputs["factor_N"][row]) if "factor_N" in q.inputs else 1.0
    nats, slopes = law.loss(q.row("logits_NV", row), int(q.inputs["target_N"][row]), factor)
    return nats if q.output == "result.0" else slopes[q.index % width]


def _scatter_add(q: Question) -> float:
    table = q.inputs["table_VD"]
    entry, channel = divmod(q.index, table.shape[1])
    total, grad = float(table[entry, channel]), q.rows("grad")
    for row in torch.nonzero(q.inputs["ids"].reshape(-1) == entry).reshape(-1).tolist():
        total = law.add(total, float(grad[row, channel]))
    return total


def _row_squares(q: Question) -> float:
    tensor = q.inputs["x"]
    row = tensor.reshape(len(tensor), -1)[q.index].tolist()
    return law.row_sum_of_products(row, row)


def _long_sum(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def _nats(q: Question) -> float:
    row = int(q.output.removeprefix("result."))
    values = q.row("losses", row)
    if "counted" in q.inputs:
        counted = q.row("counted", row)
        values = [v if c else 0.0 for v, c in zip(values, counted, strict=True)]
    return _long_sum(values)


def _adam(q: Question) -> float:
    weight, mean, square, grad = (q.one(name) for name in ("weight", "mean", "square", "grad"))
    scalars = q.settings["scalars"]
    named = {name: getattr(scalars, name) for name in scalars.__dataclass_fields__}
    return law.adam(weight, mean, square, grad, named)[("weight", "mean", "square").index(q.output)]


def _dropout(q: Question) -> float:
    share = float(q.settings["share"])
    if law.word(q.settings["key"], q.settings["stream"], q.index) < int(share * 2.0**32):
        return 0.0
    return law.mul(q.one("x"), law.f32(1.0 / (1.0 - share)))


class _Head:
    """One query head of an attention and the key/value head that it reads."""

    def __init__(self, q: Question, batch: int, head: int) -> None:
        queries, keys = q.inputs["q"], q.inputs["k"]
        kv_head = head * keys.shape[1] // queries.shape[1]
        self.q, self.k = queries[batch, head].tolist(), keys[batch, kv_head].tolist()
        self.v = q.inputs["v"][batch, kv_head].tolist()
        self.scale = law.div(1.0, law.sqrt(float(q.settings["scaled_dim"])))
        self.y, self.grad, self.log_sums = (
            q.inputs[name][batch, head].tolist() if name in q.inputs else []
            for name in ("y", "grad", "log_sum")
        )

    def forward(self, i: int) -> tuple[list[float], float, float]:
        """Return the weights of a row, their sum, and the number subtracted from its scores."""
        scores = [law.chain(self.q[i], self.k[j]) for j in range(i + 1)]
        top = law.mul(max(scores), self.scale)
        weights = [law.exp(law.sub(law.mul(s, self.scale), top)) for s in scores]
        total = law.row_sum(weights)
        return weights + [0.0] * (self.end(i) - i - 1), total, top

    def end(self, i: int) -> int:
        """Return the end of the columns of row i's block: behind the row they weigh nothing."""
        return min((i // ROWS_OF_A_BLOCK + 1) * ROWS_OF_A_BLOCK, len(self.k))

    def weight(self, i: int, j: int) -> float:
        """Return the weight of column j in row i, from the logarithm of the row's sum."""
        if j > i:
            return 0.0
        score = law.mul(law.chain(self.q[i], self.k[j]), self.scale)
        return law.exp(law.sub(score, self.log_sums[i]))

    def slope(self, i: int, j: int) -> float:
        """Return the gradient of the score of column j in row i."""
        d = law.row_sum_of_products(self.y[i], self.grad[i])
        e = law.chain(self.grad[i], self.v[j])
        return law.mul(law.mul(self.weight(i, j), law.sub(e, d)), self.scale)


def _place(q: Question, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    rest, channel = divmod(q.index, shape[-1])
    rest, row = divmod(rest, shape[-2])
    batch, head = divmod(rest, shape[-3])
    return batch, head, row, channel


def _attend(q: Question) -> float:
    shape = tuple(q.inputs["q"].shape)
    batch, head, i, e = _place(q, shape if q.output == "y" else (*shape[:3], 1))
    one = _Head(q, batch, head)
    weights, total, top = one.forward(i)
    if q.output == "log_sum":
        return law.add(law.f32(law.ln(total)), top)
    return law.div(law.chain(weights, [one.v[j][e] for j in range(one.end(i))]), total)


def _attend_slope(q: Question) -> float:
    queries, keys = q.inputs["q"], q.inputs["k"]
    if q.output == "grad_q":
        batch, head, i, e = _place(q, tuple(queries.shape))
        one = _Head(q, batch, head)
        columns = range(one.end(i))
        return law.chain([one.slope(i, j) for j in columns], [one.k[j][e] for j in columns])
    batch, kv_head, j, e = _place(q, tuple(keys.shape))
    group, total = queries.shape[1] // keys.shape[1], 0.0
    for head in range(kv_head * group, (kv_head + 1) * group):
        one = _Head(q, batch, head)
        for i in range(j // ROWS_OF_A_BLOCK * ROWS_OF_A_BLOCK, queries.shape[2]):
            if q.output == "grad_v":
                total = law.fma(one.weight(i, j), one.grad[i][e], total)
            else:
                total = law.fma(one.slope(i, j), one.q[i][e], total)
    return total


def _hybrid_head(q: Question, batch: int, kv_head: int) -> HybridHead:
    n_kv = q.inputs["k"].shape[1]
    group = q.inputs["q"].shape[1] // n_kv
    heads = slice(kv_head * group, (kv_head + 1) * group)
    slopes = {
        name: q.inputs[name][batch, heads].tolist() for name in ("y", "grad", "log_sum") if name in q.inputs
    }
    given = Given(
        **{name: q.inputs[name][batch, heads].tolist() for name in ("q", "q_turned")},
        **{name: q.inputs[name][batch, kv_head].tolist() for name in ("k", "k_turned", "v")},
        key_score=q.inputs["score"][batch, kv_head].tolist(),
        value_score=q.inputs["score"][batch, n_kv + kv_head].tolist(),
        scaled_dim=q.settings["scaled_dim"],
        **slopes,
    )
    rule = q.settings["rule"]
    reading = Reading(window=rule.window, stride=rule.stride, ring=rule.ring, temper=rule.temper)
    return HybridHead(given, reading)


def _attend_hybrid(q: Question) -> float:
    shape, n_kv = tuple(q.inputs["q"].shape), q.inputs["k"].shape[1]
    batch, head, row, channel = _place(q, shape if q.output == "y" else (*shape[:3], 1))
    kv_head, query = divmod(head, shape[1] // n_kv)
    one = _hybrid_head(q, batch, kv_head)
    return one.log_sum(query, row) if q.output == "log_sum" else one.output(query, row, channel)


def _attend_hybrid_slope(q: Question) -> float:
    queries, keys = q.inputs["q"], q.inputs["k"]
    n_kv, group = keys.shape[1], queries.shape[1] // keys.shape[1]
    if q.output == "grad_score":
        batch, head, position, _ = _place(q, (*q.inputs["score"].shape, 1))
        of_values, kv_head = divmod(head, n_kv)
        return _hybrid_head(q, batch, kv_head).slope_of_score(position, of_values=bool(of_values))
    if q.output in ("grad_q", "grad_q_turned"):
        batch, head, row, channel = _place(q, tuple(queries.shape))
        kv_head, query = divmod(head, group)
        one = _hybrid_head(q, batch, kv_head)
        found = one.slope_of_q if q.output == "grad_q" else one.slope_of_q_turned
        return found(query, row, channel)
    batch, kv_head, position, channel = _place(q, tuple(keys.shape))
    one = _hybrid_head(q, batch, kv_head)
    if q.output == "grad_k_turned":
        return one.slope_of_k_turned(position, channel)
    return one.slope_of_vector(position, channel, of_values=q.output == "grad_v")


OPERATORS: Mapping[str, Callable[[Question], float]] = {
    "matrix_product": _product,
    "norm": _norm,
    "norm_slope": _norm_slope,
    "gate": _gate,
    "gate_slope": _gate_slope,
    "rotate": _rotate,
    "losses": _losses,
    "scatter_add": _scatter_add,
    "add": lambda q: law.add(q.one("x"), q.one("y")),
    "scale": lambda q: law.mul(q.one("x"), q.number("factor")),
    "row_squares": _row_squares,
    "total": lambda q: _long_sum(q.inputs["x"].reshape(-1).tolist()),
    "nats": _nats,
    "adam": _adam,
    "dropout": _dropout,
    "attend": _attend,
    "attend_slope": _attend_slope,
    "attend_hybrid": _attend_hybrid,
    "attend_hybrid_slope": _attend_hybrid_slope,
}


def element(operator: str, question: Question) -> float | None:
    """Return the exact element of an output of a call; None for an operator that only reads, or
    where a number is not finite.
    """
    ask = OPERATORS.get(operator)
    try:
        return None if ask is None else ask(question)
    except (OverflowError, ValueError, ZeroDivisionError):
        # Fractions hold no infinity and no NaN.
        return None


def same(a: float, b: float) -> bool:
    """Return whether two numbers have the same bits; a NaN has those of a NaN."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and math.copysign(1.0, a) == math.copysign(1.0, b)
