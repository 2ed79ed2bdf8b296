"""Hybrid attention of specs/training-arithmetic.md in exact rational arithmetic: one key/value head
over one document, without a line of the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sevenfold.audit.rational import (
    add,
    chain,
    div,
    exp,
    f32,
    fma,
    ln,
    mul,
    row_sum,
    row_sum_of_products,
    sqrt,
    sub,
    tree,
)

Row = list[float]
Rows = list[Row]
ROWS_OF_A_BLOCK = 48


@dataclass(frozen=True)
class Rule:
    """Window, stride, ring, what multiplies the scores of summaries, and tables of rotation."""

    window: int
    stride: int
    ring: int
    temper: float
    cos: Rows
    sin: Rows


def turned(x: Rows, rule: Rule, sign: float = 1.0) -> Rows:
    half, out = len(x[0]) // 2, []
    for t, row in enumerate(x):
        low, high = row[:half], row[half:]
        sines = [mul(s, sign) for s in rule.sin[t]]
        out.append(
            [fma(a, c, mul(b, -s)) for a, b, c, s in zip(low, high, rule.cos[t], sines, strict=True)]
            + [fma(b, c, mul(a, s)) for a, b, c, s in zip(low, high, rule.cos[t], sines, strict=True)]
        )
    return out


def length(x: Sequence[float]) -> float:
    return sqrt(add(row_sum_of_products(x, x), f32(1e-12)))


def column(x: Rows, e: int) -> Row:
    return [row[e] for row in x]


@dataclass
class Summary:
    """One summary, and what its slope needs."""

    first: int
    weights: Row
    mean: Row
    factor: float
    value: Row


def summary(x: Rows, score: Row, c: int, stride: int) -> Summary:
    first = max(0, (c - 1) * stride)
    own, scores = x[first : (c + 1) * stride], score[first : (c + 1) * stride]
    e = [exp(sub(v, max(scores))) for v in scores]
    total = row_sum(e)
    w = [div(v, total) for v in e]
    mean = [chain(w, column(own, e)) for e in range(len(x[0]))]
    factor = div(chain(w, [length(row) for row in own]), length(mean))
    return Summary(first, w, mean, factor, [mul(m, factor) for m in mean])


def summary_slope(one: Summary, x: Rows, grad: Row, grad_x: Rows, grad_score: Row) -> None:
    n = length(one.mean)
    along = row_sum_of_products(grad, one.mean)
    share = div(along, n)
    back = -div(div(mul(along, one.factor), n), n)
    through = [fma(m, back, mul(g, one.factor)) for m, g in zip(one.mean, grad, strict=True)]
    own = x[one.first : one.first + len(one.weights)]
    slopes = [fma(share, length(row), row_sum_of_products(through, row)) for row in own]
    middle = chain(one.weights, slopes)
    for j, (w, row, slope) in enumerate(zip(one.weights, own, slopes, strict=True), one.first):
        z = div(mul(share, w), length(row))
        grad_x[j] = [fma(v, z, fma(w, t, g)) for v, t, g in zip(row, through, grad_x[j], strict=True)]
        grad_score[j] = add(grad_score[j], mul(w, sub(slope, middle)))


def columns(t: int, n: int, rule: Rule) -> tuple[list[int], list[int], set[int], set[int]]:
    """Keys and summaries of the block of row t, and those of them that t reads."""
    start = t // ROWS_OF_A_BLOCK * ROWS_OF_A_BLOCK
    end = min(start + ROWS_OF_A_BLOCK, n)
    keys = range(max(0, start + 1 - rule.window) // 16 * 16, end)
    newest = (start + 1) // rule.stride
    summaries = range(max(0, newest - rule.ring) // 16 * 16, end // rule.stride)
    complete = (t + 1) // rule.stride
    return (
        list(keys),
        list(summaries),
        set(range(max(0, t + 1 - rule.window), t + 1)),
        set(range(max(0, complete - rule.ring), complete)),
    )


def row_sum_of_both(keys: list[int], summaries: list[int], w: Row) -> float:
    lanes = [0.0] * 16
    for number, value in zip([*keys, *summaries], w, strict=True):
        lanes[number % 16] = add(lanes[number % 16], value)
    return tree(lanes)


def hybrid(
    q: list[Rows], k: Rows, v: Rows, scores: tuple[Row, Row], grad: list[Rows], rule: Rule
) -> tuple[list[Rows], list[Rows], Rows, Rows, Row, Row]:
    """Outputs, and slopes of queries, keys, values and both scores."""
    n, width = len(k), len(k[0])
    scale = div(1.0, sqrt(float(width)))
    sums = n // rule.stride
    of_keys = [summary(k, scores[0], c, rule.stride) for c in range(sums)]
    of_values = [summary(v, scores[1], c, rule.stride) for c in range(sums)]
    key, value = [one.value for one in of_keys], [one.value for one in of_values]
    k_turned = turned(k, rule)

    def zeros(count: int) -> Rows:
        return [[0.0] * width for _ in range(count)]

    grad_k, grad_turned, grad_v, grad_key, grad_value = zeros(n), zeros(n), zeros(n), zeros(sums), zeros(sums)
    outputs, slopes_of_q = [], []
    for head, head_grad in zip(q, grad, strict=True):
        head_turned = turned(head, rule)
        out, from_turned, from_plain = [], [], []
        for t in range(n):
            keys, summaries, read, recalled = columns(t, n, rule)
            s = [chain(head_turned[t], k_turned[j]) for j in keys]
            s += [mul(chain(head[t], key[c]), f32(rule.temper)) for c in summaries]
            is_read = [j in read for j in keys] + [c in recalled for c in summaries]
            m = mul(max(x for x, seen in zip(s, is_read, strict=True) if seen), scale)
            w = [exp(sub(mul(x, scale), m)) if seen else 0.0 for x, seen in zip(s, is_read, strict=True)]
            total = row_sum_of_both(keys, summaries, w)
            rows = [v[j] for j in keys] + [value[c] for c in summaries]
            out.append([div(chain(w, column(rows, e)), total) for e in range(width)])
            log_sum = add(f32(Fraction(ln(total))), m)
            g = head_grad[t]
            d = row_sum_of_products(out[t], g)
            w = [
                exp(sub(mul(x, scale), log_sum)) if seen else 0.0 for x, seen in zip(s, is_read, strict=True)
            ]
            u = [mul(mul(x, sub(chain(g, row), d)), scale) for x, row in zip(w, rows, strict=True)]
            near, far = u[: len(keys)], [mul(x, f32(rule.temper)) for x in u[len(keys) :]]
            from_turned.append([chain(near, [k_turned[j][e] for j in keys]) for e in range(width)])
            from_plain.append([chain(far, [key[c][e] for c in summaries]) for e in range(width)])
            for j, x, y in zip(keys, w, near, strict=False):
                grad_v[j] = [fma(x, a, b) for a, b in zip(g, grad_v[j], strict=True)]
                grad_turned[j] = [fma(y, a, b) for a, b in zip(head_turned[t], grad_turned[j], strict=True)]
            for c, x, y in zip(summaries, w[len(keys) :], far, strict=True):
                grad_value[c] = [fma(x, a, b) for a, b in zip(g, grad_value[c], strict=True)]
                grad_key[c] = [fma(y, a, b) for a, b in zip(head[t], grad_key[c], strict=True)]
        outputs.append(out)
        slopes_of_q.append(sum_of(turned(from_turned, rule, -1.0), from_plain))
    slopes_of_scores = [0.0] * n, [0.0] * n
    for c in range(sums):
        summary_slope(of_keys[c], k, grad_key[c], grad_k, slopes_of_scores[0])
        summary_slope(of_values[c], v, grad_value[c], grad_v, slopes_of_scores[1])
    return outputs, slopes_of_q, sum_of(turned(grad_turned, rule, -1.0), grad_k), grad_v, *slopes_of_scores


def sum_of(a: Rows, b: Rows) -> Rows:
    return [[add(x, y) for x, y in zip(p, r, strict=True)] for p, r in zip(a, b, strict=True)]
