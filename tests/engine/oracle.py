"""An engine written from specs/arithmetic.md alone: Python integers,
one number at a time, no NumPy.

It shares no code with the engine under test, and checks on the way that every intermediate has the
width which the page states. Slow by design: tiny models only. Tokens go through one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Scale = tuple[int, int]  # (m, e), value m * 2^-e
Row = list[int]
INT32_MAX, INT32_MIN = 2**31 - 1, -(2**31)

# Tables, section 2 of the page. Double precision decides every entry: none lies near a half.
EXP2 = [math.floor(32512 * 2 ** (-i / 64) + 0.5) for i in range(65)]
SIGMOID = [math.floor(32768 / (1 + math.exp(-i / 32)) + 0.5) for i in range(513)]
RSQRT = [min(65535, math.floor(2**16 / math.sqrt((i + 64.5) / 64) + 0.5)) for i in range(192)]


class WidthError(Exception):
    """A value outside the width that the page states."""


def within(value: int, low: int, high: int) -> int:
    """The value itself, low <= value <= high."""
    if type(value) is not int or not low <= value <= high:
        raise WidthError(f"{value!r} is outside {low} .. {high}")
    return value


def i32(value: int) -> int:
    return within(value, INT32_MIN, INT32_MAX)


def u32(value: int) -> int:
    return within(value, 0, 2**32 - 1)


def sat32(value: int) -> int:
    return min(max(value, INT32_MIN), INT32_MAX)


# Section 2: rounding, multipliers, scales.


def rshift(v: int, s: int) -> int:
    within(s, 0, 2**31)
    return 0 if s > 62 else (v + (2**s // 2)) // 2**s


def mulsh(a: int, m: int, s: int) -> int:
    product = i32(a) * within(m, 0, 65535)
    if s < 0:
        return sat32(product * 2 ** min(-s, 16))
    return sat32(rshift(product, s))


def times(a: Scale, b: Scale) -> Scale:
    product = u32(a[0] * b[0])
    shift = product.bit_length() - 16
    m, e = rshift(product, shift), a[1] + b[1] - shift
    if m == 65536:
        m, e = 32768, e - 1
    return within(m, 32768, 65535), within(e, -(2**15), 2**15)


def normalized_scale(value: int) -> Scale:
    """SCALE of a positive integer: its 16 upper bits."""
    excess = value.bit_length() - 16
    m = value >> excess if excess > 0 else value << -excess
    return within(m, 32768, 65535), -excess


def normalize(row: Row, bits: int) -> tuple[Row, int]:
    shift = max(1, *map(abs, row)).bit_length() - bits
    if shift <= 0:
        return [i32(v * 2**-shift) for v in row], shift
    return [within(rshift(v, shift), -(2**bits), 2**bits) for v in row], shift


def quant(row: Row) -> tuple[Row, Scale]:
    largest = within(max(1, *map(abs, row)), 1, 2**31 - 1)
    zeros = 32 - largest.bit_length()
    m = within(largest * 2**zeros // 65536, 32768, 65535)
    reciprocal = (127 * 2**24) // m
    codes = [within(mulsh(v * 2 ** (zeros - 1), reciprocal, 39), -127, 127) for v in row]
    return codes, (m, zeros - 16)


def quant_kv(row: Row, bits: int) -> tuple[Row, Scale]:
    if bits == 8:
        return quant(row)
    limit, widening = {6: (31, (33561, 13)), 4: (7, (37157, 11))}[bits]
    codes_of_8, (m, e) = quant(row)
    assert len(codes_of_8) == len(row)
    zeros, reciprocal = e + 16, (limit * 2**24) // m
    codes = [within(mulsh(v * 2 ** (zeros - 1), reciprocal, 39), -limit, limit) for v in row]
    return codes, times((m, e), widening)


def rsqrt(v: int) -> Scale:
    within(v, 1, 2**62 - 1)
    half = (v.bit_length() - 31) // 2
    big = within(v * 4**-half if half < 0 else v // 4**half, 2**30, 2**32 - 1)
    r = RSQRT[big // 2**24 - 64]
    w = u32(3 * 2**30 - (r * r // 65536) * (big // 65536))
    r = min(rshift(u32(r * (w // 65536)), 15), 65535)
    return within(r, 32768, 65535), 31 + half


def exp2_negative(d: int) -> int:
    u32(d)
    index, rest = d % 65536 // 1024, d % 1024
    value = EXP2[index] - rshift((EXP2[index] - EXP2[index + 1]) * rest, 10)
    return rshift(value, min(d // 65536, 31))


def sigmoid(g: int) -> int:
    size = within(abs(g), 0, 32767)
    index, rest = size // 64, size % 64
    value = SIGMOID[index] + rshift((SIGMOID[index + 1] - SIGMOID[index]) * rest, 6)
    return 32768 - value if g < 0 else value


# Section 3: operations on one token.


def headroom(n_inputs: int) -> int:
    return max(30 - (127 * 127 * n_inputs).bit_length(), 0)


def dot(a: Sequence[int], b: Sequence[int]) -> int:
    return i32(sum(x * y for x, y in zip(a, b, strict=True)))


def rms_norm(x: Row, gain: Row, exponent: int, eps: int) -> tuple[Row, Scale]:
    down = max(max(map(abs, x)).bit_length() - 14, 0)
    small = [within(rshift(v, down), -(2**14), 2**14) for v in x]
    square = sum(v * v for v in small) + eps // 4**down
    root = rsqrt(max(square, 1))
    wide, shift = normalize(x, 30)
    product = [mulsh(-w if g < 0 else w, abs(g), 17) for w, g in zip(wide, gain, strict=True)]
    codes, scale = quant(product)
    m, e = times(scale, root)
    return codes, (m, e - 17 - shift + exponent + down)


def rotate(head: Row, angles: Sequence[tuple[int, int]], bits: int = 8) -> tuple[Row, Scale]:
    unit, shift = normalize(head, 14)
    pairs = len(head) // 2
    turned = [0] * len(head)
    for i, (cos, sin) in enumerate(angles):
        a, b = unit[i], unit[i + pairs]
        turned[i] = rshift(i32(a * cos - b * sin), 15)
        turned[i + pairs] = rshift(i32(b * cos + a * sin), 15)
    codes, (m, e) = quant_kv(turned, bits)
    return codes, (m, e - shift)


Coded = tuple[Row, Scale]


def scores(q: Coded, keys: Sequence[Coded]) -> Row:
    lift = headroom(len(q[0]))
    out = []
    for codes, (k_m, k_e) in keys:
        half = mulsh(dot(q[0], codes) * 2**lift, k_m, 16)
        out.append(mulsh(half, q[1][0], k_e + q[1][1] + lift - 32))
    return out


def attend(q: Coded, keys: Sequence[Coded], values: Sequence[Coded]) -> tuple[Row, int]:
    """One head of one token over all that it sees: (o, exponent)."""
    return attend_scored(scores(q, keys), values)


def attend_scored(s: Row, values: Sequence[Coded]) -> tuple[Row, int]:
    peak = max(s)
    p = [exp2_negative(u32(peak - v)) for v in s]
    most = 24 if len(p) <= 131072 else 23
    drop = max(within(sum(p), 0, 32512 * 2**20).bit_length() - most, 0)
    p = [rshift(v, drop) for v in p]
    total = i32(sum(p))
    lowest = min(e for _, (_, e) in values)
    fold = [within(mulsh(v, m, 16 + e - lowest), 0, 32512) for v, (_, (m, e)) in zip(p, values, strict=True)]
    length = total.bit_length()
    divisor = total << (16 - length) if length < 16 else total >> (length - 16)
    reciprocal = INT32_MAX // within(divisor, 32768, 65535)
    columns = zip(*(codes for codes, _ in values), strict=True)
    limit = 2**23 + 2**8
    return [within(mulsh(dot(fold, c), reciprocal, length - 1), -limit, limit) for c in columns], lowest


def join(heads: Sequence[tuple[Row, int]]) -> Coded:
    lowest = min(exponent for _, exponent in heads)
    codes, (m, e) = quant([rshift(v, exponent - lowest) for row, exponent in heads for v in row])
    return codes, (m, e + lowest)


def swiglu(gate: Row, up: Row, token: Scale, gate_exponent: int, up_exponent: int) -> Coded:
    silu = []
    for v in gate:
        g = mulsh(v, token[0], token[1] + gate_exponent - 11)
        if abs(g) < 2**15:
            silu.append(rshift(i32(g * sigmoid(g)), 11))
        else:
            silu.append(i32(min(g, 2**26) * 16 if g > 0 else 0))
    a, a_shift = normalize(silu, 15)
    b, b_shift = normalize(up, 15)
    codes, scale = quant([i32(x * y) for x, y in zip(a, b, strict=True)])
    m, e = times(scale, token)
    return codes, (m, e + up_exponent + 15 - a_shift - b_shift)


def to_units(y: Row, token: Scale, exponent: int, fraction: int) -> Row:
    return [mulsh(v, token[0], token[1] + exponent - fraction) for v in y]


# Sections 3 and 4: records, and the order of the operations.


class Oracle:
    """One model and one sequence.

    `records` maps a name to (dims, bytes); `graph` is the artifact's.
    """

    def __init__(
        self, records: Mapping[str, tuple[tuple[int, ...], bytes]], graph: Mapping[str, Any]
    ) -> None:
        self.records, self.graph = records, graph
        self.shape: dict[str, int] = graph["model"]
        self.blocks = [f"layers.{index:02d}." for index in range(self.shape["n_layers"])]
        depth = len(self.blocks) + self.shape.get("stack_layers", 0)
        layers, heads = range(depth), range(self.shape["n_kv_heads"])
        self.keys: list[list[list[Coded]]] = [[[] for _ in heads] for _ in layers]
        self.values: list[list[list[Coded]]] = [[[] for _ in heads] for _ in layers]
        self.position = 0

    def bytes_at(self, name: str, start: int, count: int) -> Row:
        return [v - 256 if v > 127 else v for v in self.records[name][1][start : start + count]]

    def pairs_at(self, name: str, start: int, count: int, signed: bool) -> Row:
        raw = self.records[name][1][2 * start : 2 * (start + count)]
        return [int.from_bytes(raw[i : i + 2], "big", signed=signed) for i in range(0, len(raw), 2)]

    def codes_of_row(self, name: str, row: int) -> Row:
        width = self.records[name][0][1]
        return [within(v, -127, 127) for v in self.bytes_at(name, row * width, width)]

    def linear(self, name: str, codes: Row) -> Row:
        lift, out = headroom(len(codes)), []
        for row in range(self.records[name][0][0]):
            m, s = self.pairs_at(f"{name}.rows", 2 * row, 2, False)
            out.append(mulsh(i32(dot(self.codes_of_row(name, row), codes) * 2**lift), m, s))
        return out

    def exponent(self, name: str) -> int:
        value: int = self.graph["exponents"][name]
        return value

    def norm(self, name: str, x: Row) -> Coded:
        gain = self.pairs_at(f"{name}.gain", 0, len(x), True)
        return rms_norm(x, gain, self.exponent(name), self.graph["norm_eps"])

    def heads(self, name: str, x: Coded, rotated: bool, bits: int = 8) -> list[Coded]:
        y, width = self.linear(name, x[0]), self.shape["head_dim"]
        flat = self.pairs_at("rope.cos_sin", self.position * width, width, True)
        angles = list(zip(flat[0::2], flat[1::2], strict=True))
        out = []
        for start in range(0, len(y), width):
            head = y[start : start + width]
            codes, scale = rotate(head, angles, bits) if rotated else quant_kv(head, bits)
            m, e = times(scale, x[1])
            out.append((codes, (m, e + self.exponent(name))))
        return out

    def attention(self, layer: int, x: Row) -> Row:
        base = self.blocks[layer]
        normed = self.norm(f"{base}attn_norm.weight", x)
        queries = self.heads(f"{base}attn.q_proj.weight", normed, True)
        for kv, coded in enumerate(self.heads(f"{base}attn.k_proj.weight", normed, True)):
            self.keys[layer][kv].append(coded)
        for kv, coded in enumerate(self.heads(f"{base}attn.v_proj.weight", normed, False)):
            self.values[layer][kv].append(coded)
        score = (self.graph["score_scale"]["m"], self.graph["score_scale"]["e"])
        group = self.shape["n_heads"] // self.shape["n_kv_heads"]
        outputs = [
            attend((codes, times(scale, score)), self.keys[layer][h // group], self.values[layer][h // group])
            for h, (codes, scale) in enumerate(queries)
        ]
        return self.back(f"{base}attn.o_proj.weight", join(outputs))

    def back(self, name: str, x: Coded) -> Row:
        """A projection onto the residual."""
        y = self.linear(name, x[0])
        return to_units(y, x[1], self.exponent(name), self.graph["residual_exponent"])

    def feed_forward(self, layer: int, x: Row, token_id: int) -> Row:
        base = f"{self.blocks[layer]}ffn"
        codes, scale = self.norm(f"{self.blocks[layer]}ffn_norm.weight", x)
        if self.shape["n_experts"] > 1 and "stack_layers" not in self.shape:
            base += f".experts.{self.bytes_at('router.experts', token_id, 1)[0]}"
        gate, up = f"{base}.gate_proj.weight", f"{base}.up_proj.weight"
        hidden = swiglu(
            self.linear(gate, codes),
            self.linear(up, codes),
            scale,
            self.exponent(gate),
            self.exponent(up),
        )
        return self.back(f"{base}.down_proj.weight", hidden)

    def step(self, token_id: int) -> Row:
        """Logits after one more token."""
        if len(self.blocks) == self.shape["n_layers"] and "stack_layers" in self.shape:
            stack = f"experts.{self.bytes_at('router.experts', token_id, 1)[0]}."
            self.blocks += [f"{stack}layers.{index:02d}." for index in range(self.shape["stack_layers"])]
        m, s = self.pairs_at("embedding.weight.rows", 2 * token_id, 2, False)
        x = [mulsh(c, m, s) for c in self.codes_of_row("embedding.weight", token_id)]
        for layer in range(len(self.blocks)):
            x = [sat32(a + b) for a, b in zip(x, self.attention(layer, x), strict=True)]
            x = [sat32(a + b) for a, b in zip(x, self.feed_forward(layer, x, token_id), strict=True)]
        self.position += 1
        codes, scale = self.norm("final_norm.weight", x)
        return to_units(self.linear("lm_head.weight", codes), scale, self.exponent("lm_head.weight"), 16)


def argmax(logits: Row) -> int:
    best = 0
    for index, value in enumerate(logits):
        if value > logits[best]:
            best = index
    return best
