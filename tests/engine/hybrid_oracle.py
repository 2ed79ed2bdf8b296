"""Hybrid attention written from specs/arithmetic.md, version 2, alone: one number at a time.

It keeps every position of a document and looks up what a token may read by its number, so it shares
no ring, no trimming and no block with an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oracle import (
    Coded,
    Oracle,
    Row,
    attend_scored,
    exp2_negative,
    i32,
    join,
    mulsh,
    normalized_scale,
    quant_kv,
    rshift,
    rsqrt,
    scores,
    times,
    to_units,
    u32,
    within,
)


def mean(weights: Row, rows: list[Coded], bits: int) -> Coded:
    """SUMMARY of some rows, by their scores."""
    top = max(weights)
    p = [exp2_negative(u32(top - w)) for w in weights]
    drop = max(sum(p).bit_length() - 24, 0)
    p = [rshift(v, drop) for v in p]
    total = sum(p)
    low = min(e for _, (_, e) in rows)
    f = [within(mulsh(v, m, 16 + e - low), 0, 32512) for v, (_, (m, e)) in zip(p, rows, strict=True)]
    width = len(rows[0][0])
    columns = [[row[i] for row, _ in rows] for i in range(width)]
    codes, _ = quant_kv([i32(sum(w * v for w, v in zip(f, column, strict=True))) for column in columns], bits)
    far = 0
    for weight, (row, _) in zip(f, rows, strict=True):
        square = sum(v * v for v in row)
        m, e = rsqrt(max(square, 1))
        far += weight * within(mulsh(square, m, e - 4), 0, 65535)
    far = max(within(far, 0, 2**41), 1)
    length = total.bit_length()
    divisor = total << (16 - length) if length < 16 else total >> (length - 16)
    scale = times(normalized_scale(far), ((2**31 - 1) // divisor, 15 + length))
    m, e = times(scale, rsqrt(max(sum(v * v for v in codes), 1)))
    return codes, (m, e + low - 12)


class HybridOracle(Oracle):
    """One model of version 2 and one sequence."""

    def __init__(
        self,
        records: Mapping[str, tuple[tuple[int, ...], bytes]],
        graph: Mapping[str, Any],
        bits: int | None = None,
    ) -> None:
        super().__init__(records, graph)
        self.sizes: dict[str, Any] = graph["attention"]
        self.bits = bits or self.sizes["kv_bits"][0]
        self.forget()

    def forget(self) -> None:
        layers = range(self.shape["n_layers"] + self.shape.get("stack_layers", 0))
        heads = range(self.shape["n_kv_heads"])
        self.keys, self.values, self.plain, self.whole, self.a, self.b, self.far_k, self.far_v = (
            [[[] for _ in heads] for _ in layers] for _ in range(8)
        )

    def attention(self, layer: int, x: Row) -> Row:
        base, sizes, t = self.blocks[layer], self.sizes, self.position
        n_kv, score = self.shape["n_kv_heads"], self.graph["score_scale"]
        normed = self.norm(f"{base}attn_norm.weight", x)
        q, k, v = (f"{base}attn.{name}_proj.weight" for name in "qkv")
        name = f"{base}attn.summary_proj.weight"
        marks = to_units(self.linear(name, normed[0]), normed[1], self.exponent(name), 16)
        queries = self.heads(q, normed, True), self.heads(q, normed, False)
        turned, plain = self.heads(k, normed, True, self.bits), self.heads(k, normed, False)
        values, whole = self.heads(v, normed, False, self.bits), self.heads(v, normed, False)
        stride = sizes["stride"]
        for g in range(n_kv):
            self.keys[layer][g].append(turned[g])
            self.plain[layer][g].append(plain[g])
            self.values[layer][g].append(values[g])
            self.whole[layer][g].append(whole[g])
            self.a[layer][g].append(marks[g])
            self.b[layer][g].append(marks[n_kv + g])
            if (t + 1) % stride == 0:
                c = t // stride
                here = slice(max(0, (c - 1) * stride), (c + 1) * stride)
                self.far_k[layer][g].append(
                    mean(self.a[layer][g][here], self.plain[layer][g][here], self.bits)
                )
                self.far_v[layer][g].append(
                    mean(self.b[layer][g][here], self.whole[layer][g][here], self.bits)
                )
        n = (t + 1) // stride
        near, far = slice(max(0, t - sizes["window"] + 1), t + 1), slice(max(0, n - sizes["ring"]), n)
        outputs = []
        for h in range(self.shape["n_heads"]):
            g = h // (self.shape["n_heads"] // n_kv)
            (qt, ts), (qp, ps) = queries[0][h], queries[1][h]
            unit = (score["m"], score["e"])
            found = scores((qt, times(ts, unit)), self.keys[layer][g][near])
            found += scores((qp, times(ps, unit)), self.far_k[layer][g][far])
            outputs.append(attend_scored(found, self.values[layer][g][near] + self.far_v[layer][g][far]))
        return self.back(f"{base}attn.o_proj.weight", join(outputs))

    def step(self, token_id: int) -> Row:
        if token_id == self.sizes.get("document_start", -1):
            self.forget()
            self.position = 0
        return super().step(token_id)
