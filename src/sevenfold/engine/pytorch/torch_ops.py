"""Integer operations of the forward pass in PyTorch (specs/arithmetic.md), for many rows at once,
on the CPU or a GPU.

All tensors hold integers. A test runs the engine under a dispatcher that refuses any other type.
Rows are independent, as in `ops`. Three things differ from the text of the page, with equal
results. EXP2 and SiLU are look-ups in tables that `core.numbers.fixed` made for every relevant
argument. The half that RSHIFT adds is added after all bits but one have been shifted out. A product
of codes runs in int8, and the sixteen bits of a weight of P are split into two limbs (R9).

Legend: R rows (tokens of a pass), N outputs, I inputs; the rest as in `ops`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import CODE_MAX, INT32_MAX, INT32_MIN, MAX_SHIFT, Ints, StoredInts, as_ints
from sevenfold.engine.ops import (
    GATE_FRACTION,
    LONG_CONTEXT,
    NORM_INPUT_BITS,
    P_SUM_BITS,
    ROPE_INPUT_BITS,
    SCORE_FRACTION,
    SWIGLU_BITS,
    Norm,
    QuantizedLinear,
    headroom,
)

# Alignment of inputs and outputs that the int8 product of CUDA requires.
ALIGN = 8
# Alignment of rows.
LEAST_ROWS = {"cuda": 17}
PASS_ROWS = {
    "cuda": 4096,
    "cpu": 256,
    # Tokens of one pass. It fits the caches and bounds the memory of a prompt.
}
# Scores held at once.
SCORES = {"cuda": 2**22, "cpu": 2**17}
# EXP2 is 0 from this argument on.
EXP2_END = 2**20
# SiLU is zero or the identity from this argument on.
GATE_END = 2**15
# This is below every score by more than EXP2_END.
HIDDEN = -(2**40)


class TScale(NamedTuple):
    """The value m * 2^-e, as `core.numbers.fixed.Scale`, in int64 tensors."""

    m: Tensor
    e: Tensor


class ProjectionWeights(NamedTuple):
    """Projections that read the same codes, stacked. `row_m_N` includes the left shift of the
    accumulator.
    """

    # int8; N and I are padded with zeros to a multiple of ALIGN.
    codes_NI: Tensor
    row_m_N: Tensor
    # The shift less one.
    row_s_N: Tensor
    # Number of outputs of each projection.
    outputs: tuple[int, ...]


def aligned(n: int) -> int:
    """Return the next multiple of ALIGN."""
    return -(-n // ALIGN) * ALIGN


def int8_product_is_exact(device: torch.device) -> bool:
    """Return whether `_int_mm` is exact here. On x86 without VNNI it is not, because it adds pairs
    of products in 16 bits with saturation.
    """

    def product(code: int, other: int) -> Tensor:
        a, b = (torch.full((32, 64), c, dtype=torch.int8, device=device) for c in (code, other))
        return torch._int_mm(a, b.t())

    ends = (CODE_MAX, -CODE_MAX)
    return all(bool((product(a, b) == 64 * a * b).all()) for a in ends for b in ends)


def shifted(v: Tensor, s: Tensor | int) -> Tensor:
    """Return RSHIFT(v, s) for 0 <= s <= 62."""
    return (v + ((1 << s) >> 1)).bitwise_right_shift_(s)


def shifted_by_one_more(v: Tensor, less: Tensor | int) -> Tensor:
    """Compute RSHIFT(v, less + 1), in place."""
    return v.bitwise_right_shift_(less).add_(1).bitwise_right_shift_(1)


def mulsh(a: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Return MULSH(a, m, s) for any s.

    Products are below 2^47, so that a shift of 62 gives 0 as a longer one does.
    """
    product = (a * m).bitwise_left_shift_((-s).clamp(0, 16))
    return shifted(product, s.clamp(0, MAX_SHIFT)).clamp_(INT32_MIN, INT32_MAX)


def peak_of(v: Tensor) -> Tensor:
    """Return the largest magnitude of each row (last axis)."""
    # This is twice as fast as aminmax, including the copy.
    return v.abs().amax(-1)


def looked_up(table: Tensor, at: Tensor) -> Tensor:
    """Return table[at]. An index array of several dimensions would be four to ten times slower on
    the CPU.
    """
    return table.index_select(0, at.flatten()).view(at.shape)


@cache
def _wide_tables() -> tuple[Ints, Ints]:
    """Return EXP2(d) for every d up to where it is 0, and SiLU in Q15 of every g of less than 16 in
    magnitude.
    """
    gate = np.arange(-GATE_END + 1, GATE_END)
    silu = fixed.rshift(gate * fixed.sigmoid(gate), GATE_FRACTION)
    return fixed.exp2_negative(np.arange(EXP2_END + 1)), silu


class Arithmetic:
    """The arithmetic on one device: its tables, and the operations that look something up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.least_rows = LEAST_ROWS.get(device.type, 1)
        self.exact_int8 = int8_product_is_exact(device)
        self.powers = self.tensor(2 ** np.arange(63, dtype=np.int64))
        self.rsqrt_table = self.tensor(fixed.rsqrt_table())
        self.exp2_table, self.silu_table = (self.tensor(t, torch.int32) for t in _wide_tables())

    def tensor(self, values: StoredInts, dtype: torch.dtype = torch.int64) -> Tensor:
        """Return the integers on the device."""
        return torch.from_numpy(np.array(as_ints(values))).to(self.device, dtype)

    def weights(self, *layers: QuantizedLinear) -> ProjectionWeights:
        """Return the projections of the same inputs, stacked as one."""
        weight_NI = np.concatenate([layer.weight_IO.T for layer in layers])
        n_out, n_in = weight_NI.shape
        codes = torch.zeros((aligned(n_out), aligned(n_in)), dtype=torch.int8, device=self.device)
        codes[:n_out, :n_in] = self.tensor(weight_NI, torch.int8)
        m = as_ints(np.concatenate([layer.row_m_O for layer in layers])) << headroom(n_in)
        s = np.minimum(np.concatenate([layer.row_s_O for layer in layers]), MAX_SHIFT) - 1
        return ProjectionWeights(
            codes, self.tensor(m), self.tensor(s), tuple(layer.row_m_O.size for layer in layers)
        )

    def bits(self, v: Tensor) -> Tensor:
        """Return bits(v) of values >= 0."""
        return torch.bucketize(v, self.powers, right=True)

    def multiply(self, a: TScale, b: TScale) -> TScale:
        """Return PRODUCT."""
        product = a.m * b.m
        k = self.bits(product) - 16
        m = shifted(product, k)
        carry = m >> 16
        return TScale(m >> carry, a.e + b.e - k - carry)

    def normalize(self, v: Tensor, n_bits: int) -> tuple[Tensor, Tensor]:
        """Return NORMALIZE each row: (u, s [..., without the last axis])."""
        s = self.bits(peak_of(v).clamp_(min=1)) - n_bits
        left, right = (-s).clamp(min=0)[..., None], s.clamp(min=0)[..., None]
        return shifted(v << left, right), s

    def quantize(self, v: Tensor) -> tuple[Tensor, TScale]:
        """Return QUANT each row: int8 codes and their scales."""
        peak = peak_of(v).clamp_(min=1)
        z = 32 - self.bits(peak)
        m = (peak << z) >> 16
        r = torch.div(CODE_MAX << 24, m, rounding_mode="floor")
        codes = shifted_by_one_more(v * (r << (z - 1))[..., None], 38)
        return codes.to(torch.int8), TScale(m, z - 16)

    def rsqrt(self, v: Tensor) -> TScale:
        """Return RSQRT."""
        h = (self.bits(v) - 31) >> 1
        big = (v << (-2 * h).clamp(min=0)) >> (2 * h).clamp(min=0)
        r = self.rsqrt_table[(big >> 24) - 64]
        w = (3 << 30) - ((r * r) >> 16) * (big >> 16)
        return TScale(shifted(r * (w >> 16), 15).clamp_(max=65535), 31 + h)

    def product(self, a_RI: Tensor, b_NI: Tensor) -> Tensor:
        """Return a @ b.T of int8 codes, exact, int32 [R, N]. `a` may have fewer inputs than `b`,
        which then holds zeros there.
        """
        n_rows, missing = a_RI.shape[0], b_NI.shape[1] - a_RI.shape[1]
        if missing or n_rows < self.least_rows:
            a_RI = torch.constant_pad_nd(a_RI, (0, missing, 0, max(self.least_rows - n_rows, 0)))
        if self.exact_int8:
            return torch._int_mm(a_RI, b_NI.t())[:n_rows]
        return (a_RI.int() @ b_NI.t().int())[:n_rows]

    def linear(self, codes_RI: Tensor, weights: ProjectionWeights) -> tuple[Tensor, ...]:
        """Return LINEAR, one result for each projection, int64 [R, O]."""
        n_out = weights.row_m_N.shape[0]
        acc_RN = self.product(codes_RI, weights.codes_NI)[:, :n_out]
        y_RN = shifted_by_one_more(acc_RN * weights.row_m_N, weights.row_s_N)
        return tuple(torch.split(y_RN, list(weights.outputs), dim=-1))

    def rms_norm(self, x_RD: Tensor, gain_D: Tensor, norm: Norm) -> tuple[Tensor, TScale]:
        """Return RMS_NORM: the codes and the scale of each token."""
        down = (self.bits(peak_of(x_RD)) - NORM_INPUT_BITS).clamp_(min=0)
        small_RD = shifted(x_RD, down[:, None])
        square = (small_RD * small_RD).sum(-1) + (norm.eps >> (2 * down).clamp(max=MAX_SHIFT))
        unit_RD, s = self.normalize(x_RD, 30)
        # The sign of a gain is applied to u before rounding.
        codes, scale = self.quantize(shifted_by_one_more(unit_RD * gain_D, 16))
        m, e = self.multiply(scale, self.rsqrt(square.clamp_(min=1)))
        return codes, TScale(m, e - 17 - s + norm.exponent + down)

    def turn(self, y_RHE: Tensor, table_RP2: Tensor) -> tuple[Tensor, TScale]:
        """Return RoPE and QUANT of each head."""
        unit, s = self.normalize(y_RHE, ROPE_INPUT_BITS)
        a, b = torch.chunk(unit, 2, dim=-1)
        cos, sin = table_RP2[:, None, :, 0], table_RP2[:, None, :, 1]
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
        codes, scale = self.quantize(shifted_by_one_more(turned, 14))
        return codes, TScale(scale.m, scale.e - s)

    def swiglu(self, gate_RF: Tensor, up_RF: Tensor, token: TScale, exponent: int) -> tuple[Tensor, TScale]:
        """Return silu(gate) * up: codes and scale, without the exponent of `up`. `exponent` is that
        of `gate`.
        """
        g_RF = mulsh(gate_RF, token.m[:, None], token.e[:, None] + (exponent - GATE_FRACTION))
        inside = g_RF.clamp(-GATE_END + 1, GATE_END - 1).add_(GATE_END - 1)
        # The table ends in 0 and in 16 g, so the remainder is 16 for each step past its end.
        past = g_RF.clamp_(GATE_END - 1, 2**26).sub_(GATE_END - 1) << (SWIGLU_BITS - GATE_FRACTION)
        silu = past.add_(looked_up(self.silu_table, inside))
        (a, ka), (b, kb) = self.normalize(silu, SWIGLU_BITS), self.normalize(up_RF, SWIGLU_BITS)
        codes, scale = self.quantize(a * b)
        m, e = self.multiply(scale, token)
        return codes, TScale(m, e + SWIGLU_BITS - ka - kb)

    def attend(
        self,
        q_KBE: Tensor,
        q_KGT: TScale,
        k_KSE: Tensor,
        k_KS: TScale,
        v_KES: Tensor,
        v_KS: TScale,
        past: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the attention of T tokens on S positions; positions after a token's own, and those
        that only fill up, are hidden.

        Args:
            q_KBE: codes, B = G * T; q_KGT: their scales. k_KSE, v_KES: codes. k_KS, v_KS: scales.
                past: positions before.

        Returns:
            (o [K, G, T, E], exponents [K, T]), as `ops.attention_head` for each head.
        """
        n_kv, group, n_tokens = q_KGT.m.shape
        n_keys, room = k_KSE.shape[1], range(n_kv)
        lift = headroom(q_KBE.shape[-1])
        dims = (n_kv, group, n_tokens, n_keys)
        acc = torch.stack([self.product(q_KBE[k], k_KSE[k]) for k in room]).view(dims)
        half = shifted_by_one_more(acc * (k_KS.m << lift)[:, None, None], 15)
        s = (k_KS.e[:, None, None] + (lift - 16 - SCORE_FRACTION)) + q_KGT.e[..., None]
        score = mulsh(half, q_KGT.m[..., None], s)
        own = past + torch.arange(n_tokens, device=self.device)
        hidden_TS = torch.arange(n_keys, device=self.device) > own[:, None]
        # A mask would cost ten times as much.
        score += hidden_TS.long() * HIDDEN
        p = looked_up(self.exp2_table, (score.amax(-1, keepdim=True) - score).clamp_(max=EXP2_END))
        sum_bits_T1 = P_SUM_BITS - (own[:, None] >= LONG_CONTEXT).long()
        drop = (self.bits(p.sum(-1, keepdim=True)) - sum_bits_T1).clamp_(min=0)
        p = shifted(p.long(), drop)
        total = p.sum(-1)
        low_KT = torch.cummin(v_KS.e, dim=-1).values[:, past : past + n_tokens]
        less_KTS = (15 + (v_KS.e[:, None] - low_KT[..., None]).clamp_(min=0)).clamp_(max=MAX_SHIFT - 1)
        fold = shifted_by_one_more(p * v_KS.m[:, None, None], less_KTS[:, None])
        limbs = torch.stack(((fold + 128) >> 8, fold), dim=1).to(torch.int8).flatten(1, -2)
        both = torch.stack([self.product(limbs[k], v_KES[k]) for k in room]).view(n_kv, 2, *dims[1:3], -1)
        acc = (both[:, 0].long() << 8) + both[:, 1]
        length = self.bits(total)
        d = (total << (16 - length).clamp(min=0)) >> (length - 16).clamp(min=0)
        r = torch.div(INT32_MAX, d, rounding_mode="floor")
        return shifted(acc * r[..., None], (length - 1)[..., None]), low_KT
