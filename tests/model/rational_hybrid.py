"""Hybrid attention of specs/training-arithmetic.md in exact rational arithmetic: all results of one
key/value head over one document at once, of the pieces in `sevenfold.audit.exact.rational_hybrid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sevenfold.audit.exact.rational import (
    add,
    chain,
    div,
    exp,
    f32,
    fma,
    ln,
    mul,
    row_sum_of_products,
    sqrt,
    sub,
)
from sevenfold.audit.exact.rational_hybrid import (
    Reading,
    Row,
    Rows,
    Summary,
    column,
    columns,
    sum_of_columns,
    summary,
    summary_slope,
)


@dataclass(frozen=True)
class Rule:
    """What a row reads, and tables of rotation."""

    reading: Reading
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


def slope_added(one: Summary, x: Rows, grad: Row, grad_x: Rows, grad_score: Row) -> None:
    """Add what goes back through a summary to the slopes of its positions."""
    slope = summary_slope(one, x, grad)
    for j, w in enumerate(one.weights):
        at = one.first + j
        to = [fma(w, t, g) for t, g in zip(slope.through, grad_x[at], strict=True)]
        grad_x[at] = [fma(v, slope.shares[j], g) for v, g in zip(x[at], to, strict=True)]
        grad_score[at] = add(grad_score[at], slope.scores[j])


def hybrid(
    q: list[Rows], k: Rows, v: Rows, scores: tuple[Row, Row], grad: list[Rows], rule: Rule
) -> tuple[list[Rows], list[Rows], Rows, Rows, Row, Row]:
    """Outputs, and slopes of queries, keys, values and both scores."""
    n, width = len(k), len(k[0])
    scale = div(1.0, sqrt(float(width)))
    reading = rule.reading
    sums, temper = n // reading.stride, f32(reading.temper)
    of_keys = [summary(k, scores[0], c, reading.stride) for c in range(sums)]
    of_values = [summary(v, scores[1], c, reading.stride) for c in range(sums)]
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
            at = columns(t, n, reading)
            keys, summaries, is_read = at.keys, at.summaries, at.are_read
            s = [chain(head_turned[t], k_turned[j]) for j in keys]
            s += [mul(chain(head[t], key[c]), temper) for c in summaries]
            m = mul(max(x for x, seen in zip(s, is_read, strict=True) if seen), scale)
            w = [exp(sub(mul(x, scale), m)) if seen else 0.0 for x, seen in zip(s, is_read, strict=True)]
            total = sum_of_columns(at, w)
            rows = [v[j] for j in keys] + [value[c] for c in summaries]
            out.append([div(chain(w, column(rows, e)), total) for e in range(width)])
            log_sum = add(f32(Fraction(ln(total))), m)
            g = head_grad[t]
            d = row_sum_of_products(out[t], g)
            w = [
                exp(sub(mul(x, scale), log_sum)) if seen else 0.0 for x, seen in zip(s, is_read, strict=True)
            ]
            u = [mul(mul(x, sub(chain(g, row), d)), scale) for x, row in zip(w, rows, strict=True)]
            near, far = u[: len(keys)], [mul(x, temper) for x in u[len(keys) :]]
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
        slope_added(of_keys[c], k, grad_key[c], grad_k, slopes_of_scores[0])
        slope_added(of_values[c], v, grad_value[c], grad_v, slopes_of_scores[1])
    return outputs, slopes_of_q, sum_of(turned(grad_turned, rule, -1.0), grad_k), grad_v, *slopes_of_scores


def sum_of(a: Rows, b: Rows) -> Rows:
    return [[add(x, y) for x, y in zip(p, r, strict=True)] for p, r in zip(a, b, strict=True)]
