"""Integer operations of the forward pass (specs/arithmetic.md, section 3), one function for each
operation.

Everything is exact integer arithmetic on int64 arrays. Matrix products run in int32, which their
proven bounds fit. Rows are independent: the result of a token depends only on its own row and on
the cache. A prompt computed at once, split anywhere, or one token at a time gives the same bits.

Shape suffixes: T tokens of this call, S tokens visible (cache and call), D d_model, H heads, K
key/value heads, G query heads per key/value head, E head_dim, F d_ffn, V vocabulary, O outputs, I
inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.numbers.fixed import (
    CODE_MAX,
    INT32_MAX,
    INT32_MIN,
    Ints,
    Scale,
    StoredInts,
    as_ints,
    bit_length,
    exp2_negative,
    mulsh,
    multiply_scales,
    normalize,
    quantize,
    quantize_kv,
    rshift,
    rsqrt,
    saturate32,
    sigmoid,
)

# |x| <= 2^14 before squaring: 2^28 * d_model stays below 2^45.
NORM_INPUT_BITS = 14
# a*cos - b*sin stays within 2^30.
ROPE_INPUT_BITS = 14
GATE_FRACTION = 11
SWIGLU_BITS = 15
LOGIT_FRACTION = 16
SCORE_FRACTION = 16
# sum(P) < 2^24 + S/2. Times 127 it fits int32 up to S = LONG_CONTEXT; beyond that, P has one bit
# fewer.
P_SUM_BITS = 24
# Number of visible keys up to which the sum of unshifted P fits u32.
LONG_CONTEXT = 2**17
# With 133144 inputs, a dot product of codes still fits int32.
MAX_INPUTS = INT32_MAX // CODE_MAX**2
MAX_CONTEXT = 2**20


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Dynamic int8 activations. The real value is codes * scale / 127, and the row multipliers of
    the next product include the 1/127.
    """

    # [T, I].
    codes: Ints
    # [T].
    scale: Scale


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """Weights of one projection. The real value of y is y * 2^-exponent * activation scale."""

    # In [-127, 127], as stored in the file.
    codes_OI: NDArray[np.int8]
    # u16 mantissa of each output row. Kept narrow: there are as many as outputs of all layers.
    row_m_O: StoredInts
    # Shift of each output row.
    row_s_O: StoredInts
    exponent: int

    @cached_property
    def weight_IO(self) -> NDArray[np.int32]:  # noqa: N802  # the legend's suffix
        """Return the transposed codes for the product of this module. They are made when first
        needed.
        """
        return np.ascontiguousarray(self.codes_OI.T).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Gains of RMSNorm: gain * sqrt(d_model) = gain_D * 2^-exponent."""

    # int16.
    gain_D: Ints
    exponent: int
    # floor(norm_eps * d_model * 2^(2 * residual exponent))
    eps: int


def headroom(n_inputs: int) -> int:
    """Return the left shift that brings an accumulator of `n_inputs` products of codes to
    30 bits; 0 when it needs 31.
    """
    return max(30 - (CODE_MAX * CODE_MAX * n_inputs).bit_length(), 0)


def matmul(codes_TI: Ints, weight_IO: NDArray[np.int32]) -> Ints:
    """Return the exact int32 product of codes. |result| <= 127^2 * I,
    below 2^31 for I <= MAX_INPUTS.
    """
    # The integer loop of einsum is ten times as fast as `@`, which has no BLAS for integers.
    return as_ints(np.einsum("ti,io->to", codes_TI.astype(np.int32), weight_IO))


def linear(x: Quantized, layer: QuantizedLinear) -> Ints:
    """Return the projection with rescaled rows, int32 [T, O]. Its magnitude is below 2^31, because
    row shifts are at least 16.
    """
    acc_TO = matmul(x.codes, layer.weight_IO)
    return mulsh(acc_TO << headroom(layer.codes_OI.shape[1]), layer.row_m_O, layer.row_s_O)


def embed(codes_TD: Ints, row_m_T: StoredInts, row_s_T: StoredInts) -> Ints:
    """Return the rows of the embedding in residual units, [T, D]."""
    return mulsh(codes_TD, row_m_T[:, None], row_s_T[:, None])


def rms_norm(x_TD: Ints, norm: Norm) -> Quantized:
    """Compute RMSNorm with quantisation. The codes depend only on x * gain, and the root changes
    only the scale.
    """
    down = np.maximum(bit_length(np.max(np.abs(x_TD), axis=-1)) - NORM_INPUT_BITS, 0)
    small_TD = rshift(x_TD, down[:, None])
    square_T = np.sum(small_TD * small_TD, axis=-1) + (np.int64(norm.eps) >> np.minimum(2 * down, 62))
    root = rsqrt(np.maximum(square_T, 1))
    wide_TD, shift = normalize(x_TD, 30)
    gain_D = norm.gain_D
    product_TD = mulsh(np.where(gain_D < 0, -wide_TD, wide_TD), np.abs(gain_D), 17)
    codes_TD, scale = quantize(product_TD)
    # x * gain = product * 2^(17 + shift - exponent); divided by sqrt(square) * 2^down.
    scale = multiply_scales(scale, root)
    return Quantized(codes=codes_TD, scale=Scale(scale.m, scale.e - 17 - shift[:, 0] + norm.exponent + down))


def rotate(y_THE: Ints, table_TP2: Ints, bits: int = 8) -> tuple[Ints, Scale]:
    """Rotate pairs (i, i + E/2) of each head by RoPE, then quantise to `bits` for each head and
    token.
    """
    unit_THE, shift = normalize(y_THE, ROPE_INPUT_BITS)
    a, b = np.split(unit_THE, 2, axis=-1)
    cos, sin = table_TP2[:, None, :, 0], table_TP2[:, None, :, 1]
    turned = np.concatenate([rshift(a * cos - b * sin, 15), rshift(b * cos + a * sin, 15)], axis=-1)
    codes, scale = quantize_kv(turned, bits)
    return codes, Scale(scale.m, scale.e - shift[..., 0])


def scaled(scale: Scale, exponent: int, token: Scale) -> Scale:
    """Return the scale of codes [T, H] made from a projection: times the activation scale of the
    token, less the exponent of the projection.
    """
    product = multiply_scales(scale, Scale(token.m[:, None], token.e[:, None]))
    return Scale(product.m, product.e + exponent)


def attention_scores(q_TE: Ints, q_scale: Scale, k_SE: Ints, k_scale: Scale) -> Ints:
    """Return the scores of one head in log2 units, Q16, [T, S].

    `q_scale` carries log2(e) / (sqrt(E) * 127^2).
    """
    lift = headroom(q_TE.shape[-1])
    acc_TS = as_ints(np.einsum("te,se->ts", q_TE.astype(np.int32), k_SE.astype(np.int32)))
    half_TS = mulsh(acc_TS << lift, k_scale.m[None, :], 16)
    shift_TS = k_scale.e[None, :] + q_scale.e[:, None] + lift - 16 - SCORE_FRACTION
    return mulsh(half_TS, q_scale.m[:, None], shift_TS)


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Weights of a softmax with the scales of the values folded in."""

    # [T, S], 0 .. 32512, 0 where a key is hidden.
    fold_TS: Ints
    # Sum of P after the row shift, and the smallest exponent among the visible values.
    total_T: Ints
    lowest_T: Ints

    def reciprocal(self) -> tuple[Ints, Ints]:
        """Return (r, length): 1 / total is about r * 2^-(15 + length), r in [2^15, 2^16)."""
        # At least 15, because the largest score alone contributes 32512.
        length_T = bit_length(self.total_T)
        divisor_T = (self.total_T << np.maximum(16 - length_T, 0)) >> np.maximum(length_T - 16, 0)
        return np.int64(2**31 - 1) // divisor_T, length_T

    def sum_of(self, codes_SE: Ints) -> Ints:
        """Return the sum of weight times code, below 2^31 in magnitude, [T, E]."""
        return as_ints(np.einsum("ts,se->te", self.fold_TS.astype(np.int32), codes_SE.astype(np.int32)))


def fold_weights(scores_TS: Ints, visible_TS: NDArray[np.bool_], scale: Scale) -> Folded:
    """Return the softmax of the visible scores times the scales [S] of what it weights. Each row
    has a visible key.
    """
    peak_T1 = np.max(np.where(visible_TS, scores_TS, INT32_MIN), axis=-1, keepdims=True)
    p_TS = np.where(visible_TS, exp2_negative(np.maximum(peak_T1 - scores_TS, 0)), 0)
    sum_bits_T1 = P_SUM_BITS - (np.sum(visible_TS, axis=-1, keepdims=True) > LONG_CONTEXT)
    drop_T1 = np.maximum(bit_length(np.sum(p_TS, axis=-1, keepdims=True)) - sum_bits_T1, 0)
    p_TS = rshift(p_TS, drop_T1)
    # The scales are relative to the largest among the visible ones (the smallest e).
    lowest_T = np.min(np.where(visible_TS, scale.e[None, :], INT32_MAX), axis=-1)
    shift_TS = 16 + np.maximum(scale.e[None, :] - lowest_T[:, None], 0)
    return Folded(
        fold_TS=mulsh(p_TS, scale.m[None, :], shift_TS), total_T=np.sum(p_TS, axis=-1), lowest_T=lowest_T
    )


def attend(scores_TS: Ints, visible_TS: NDArray[np.bool_], v_SE: Ints, v_scale: Scale) -> tuple[Ints, Ints]:
    """Return one head: the mean of the visible values, weighted by the softmax of their scores.

    Returns:
        (o_TE, exponent_T): real output = o * 2^-exponent / 127, |o| < 2^23 + 2^8.
    """
    folded = fold_weights(scores_TS, visible_TS, v_scale)
    reciprocal_T, length_T = folded.reciprocal()
    # o keeps 16 fraction bits: acc * reciprocal / 2^(15 + length) is acc / total.
    o_TE = mulsh(folded.sum_of(v_SE), reciprocal_T[:, None], (length_T - 1)[:, None])
    return o_TE, folded.lowest_T


def attention_head(
    q_TE: Ints, q_scale: Scale, k_SE: Ints, k_scale: Scale, v_SE: Ints, v_scale: Scale, n_past: int
) -> tuple[Ints, Ints]:
    """Return `attend` of one causal head. Token t attends to keys 0 .. n_past + t."""
    n_tokens, n_keys = q_TE.shape[0], k_SE.shape[0]
    visible_TS = np.arange(n_keys)[None, :] <= (n_past + np.arange(n_tokens))[:, None]
    return attend(attention_scores(q_TE, q_scale, k_SE, k_scale), visible_TS, v_SE, v_scale)


def join_heads(o_HTE: Ints, exponent_HT: Ints) -> Quantized:
    """Bring the heads of a token to the largest of their scales, join them, and quantise: [T, H *
    E].
    """
    lowest_T = np.min(exponent_HT, axis=0)
    o_HTE = rshift(o_HTE, (exponent_HT - lowest_T)[..., None])
    n_heads, n_tokens, head_dim = o_HTE.shape
    codes, scale = quantize(np.transpose(o_HTE, (1, 0, 2)).reshape(n_tokens, n_heads * head_dim))
    return Quantized(codes=codes, scale=Scale(scale.m, scale.e + lowest_T))


def swiglu(gate_TF: Ints, up_TF: Ints, token: Scale, gate_exponent: int, up_exponent: int) -> Quantized:
    """Return silu(gate) * up, quantised for the down projection."""
    g_TF = mulsh(gate_TF, token.m[:, None], token.e[:, None] + gate_exponent - GATE_FRACTION)
    inside = np.minimum(np.maximum(g_TF, -(2**15) + 1), 2**15 - 1)
    # Q15. Beyond +-16, silu is the identity or zero, and the product would exceed 32 bits.
    curved = rshift(inside * sigmoid(inside), GATE_FRACTION)
    straight = np.minimum(np.maximum(g_TF, 0), 2**26) << (SWIGLU_BITS - GATE_FRACTION)
    silu_TF = np.where(np.abs(g_TF) < 2**15, curved, straight)
    a_TF, a_shift = normalize(silu_TF, SWIGLU_BITS)
    b_TF, b_shift = normalize(up_TF, SWIGLU_BITS)
    codes, scale = quantize(a_TF * b_TF)
    scale = multiply_scales(scale, token)
    exponent = scale.e + up_exponent + SWIGLU_BITS - a_shift[:, 0] - b_shift[:, 0]
    return Quantized(codes=codes, scale=Scale(scale.m, exponent))


def to_units(y_TO: Ints, token: Scale, exponent: int, fraction: int) -> Ints:
    """Return the output of a projection in fixed point with `fraction` fraction bits, saturated to
    int32.
    """
    return mulsh(y_TO, token.m[:, None], token.e[:, None] + exponent - fraction)


def add_residual(x_TD: Ints, delta_TD: Ints) -> Ints:
    """Return the saturating sum. The exponent chosen at quantisation keeps |x| < 2^28; beyond int32
    the sum saturates.
    """
    return saturate32(x_TD + delta_TD)
