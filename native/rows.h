// Row operations of specs/arithmetic.md, section 3, in portable C++. Included once by each instruction set's file, whose compiler
// flags decide how the loops are vectorised; the text, and so every bit, is the same.
#pragma once

#include "kernels.h"

namespace {

// |v| of an i32, -2^31 included.
inline u32 magnitude(i32 v) { return v < 0 ? 0U - static_cast<u32>(v) : static_cast<u32>(v); }

// Largest magnitude of a row, 1 at least.
inline u32 peak_of(const i32 *v, i64 n) {
    u32 peak = 1;
    for (i64 i = 0; i < n; ++i) peak = most(peak, magnitude(v[i]));
    return peak;
}

// NORMALIZE to `n_bits` bits, in place or not; gives the shift. Results fit i32: 2^30 at most.
inline i32 normalize_row(const i32 *v, i64 n, i32 n_bits, i32 *u) {
    const i32 shift = bits(peak_of(v, n)) - n_bits;
    if (shift <= 0) {
        for (i64 i = 0; i < n; ++i) u[i] = static_cast<i32>(static_cast<u32>(v[i]) << -shift);
    } else {
        const i64 half = i64{1} << (shift - 1);
        for (i64 i = 0; i < n; ++i) u[i] = static_cast<i32>((v[i] + half) >> shift);
    }
    return shift;
}

s7::Pair quantize_row(const i32 *v, i64 n, i8 *codes) {
    const i64 peak = peak_of(v, n);
    const i32 zeros = 32 - bits(static_cast<u64>(peak));
    const i32 m = static_cast<i32>((peak << zeros) >> 16);
    const i64 reciprocal = ((i64{127} << 24) / m) << (zeros - 1);
    const i64 half = i64{1} << 38;
    for (i64 i = 0; i < n; ++i) codes[i] = static_cast<i8>((v[i] * reciprocal + half) >> 39);
    return {m, zeros - 16};
}

void rescale_row(i32 *y, i64 n, i32 lift, const u16 *m, const u8 *s) {
    for (i64 i = 0; i < n; ++i) {
        const i64 shift = s[i];
        const i64 lifted = static_cast<i32>(static_cast<u32>(y[i]) << lift);
        y[i] = static_cast<i32>((lifted * m[i] + ((i64{1} << shift) >> 1)) >> shift);
    }
}

void units_row(const i32 *y, i64 n, i32 m, i32 s, i32 add, i32 *out) {
    const i64 left = left_part(s), right = right_part(s), half = (i64{1} << right) >> 1, wide = m;
    if (add) {
        for (i64 i = 0; i < n; ++i) {
            out[i] = static_cast<i32>(sat32(out[i] + sat32((((y[i] * wide) << left) + half) >> right)));
        }
    } else {
        for (i64 i = 0; i < n; ++i) {
            out[i] = static_cast<i32>(sat32((((y[i] * wide) << left) + half) >> right));
        }
    }
}

s7::Pair rms_norm_row(const i32 *x, i64 n, const i16 *gain, i64 eps, const i32 *table, i32 *scratch, i8 *codes) {
    const i32 down = most(bits(peak_of(x, n)) - 14, 0);
    const i64 half = (i64{1} << down) >> 1;
    // peak_of gives 1 for a row of zeros: `down` is 0 either way.
    i64 square = eps >> (2 * down);
    for (i64 i = 0; i < n; ++i) {
        const i64 q = (x[i] + half) >> down;
        square += q * q;
    }
    const Scale root = rsqrt(most(square, i64{1}), table);
    const i32 shift = normalize_row(x, n, 30, scratch);
    // The sign of a gain goes to x before the rounding: the product is the same.
    for (i64 i = 0; i < n; ++i) scratch[i] = static_cast<i32>((i64{scratch[i]} * gain[i] + 65536) >> 17);
    const s7::Pair own = quantize_row(scratch, n, codes);
    const Scale scale = multiply({own.m, own.e}, root);
    return {scale.m, scale.e - 17 - shift + down};
}

s7::Pair rotate_row(const i32 *head, i64 half, const i16 *cosine, const i16 *sine, i32 *u, i8 *codes) {
    const i32 shift = normalize_row(head, 2 * half, 14, u);
    for (i64 i = 0; i < half; ++i) {
        const i32 a = u[i], b = u[i + half], c = cosine[i], s = sine[i];
        u[i] = (a * c - b * s + 16384) >> 15;
        u[i + half] = (b * c + a * s + 16384) >> 15;
    }
    const s7::Pair scale = quantize_row(u, 2 * half, codes);
    return {scale.m, scale.e - shift};
}

i32 scores_row(i32 *acc, i64 n, i32 lift, const u16 *k_m, const i32 *k_e, i32 q_m, i32 q_e) {
    i32 largest = static_cast<i32>(kMin32);
    const i32 base = q_e + lift - 32;
    const i64 wide = q_m;
    for (i64 j = 0; j < n; ++j) {
        const i64 lifted = static_cast<i32>(static_cast<u32>(acc[j]) << lift);
        const i64 half = (lifted * k_m[j] + 32768) >> 16;
        const i64 s = k_e[j] + base;
        const i64 right = right_part(s);
        const i64 v = (((half * wide) << left_part(s)) + ((i64{1} << right) >> 1)) >> right;
        acc[j] = static_cast<i32>(sat32(v));
        largest = most(largest, acc[j]);
    }
    return largest;
}

u32 weights_row(i32 *scores, i64 n, i32 largest, const u16 *v_m, const i32 *v_e, i32 low, const i32 *table, i8 *hi,
                i8 *lo) {
    u32 sum = 0;
    for (i64 j = 0; j < n; ++j) {
        const u32 p = exp2_negative(static_cast<u32>(largest) - static_cast<u32>(scores[j]), table);
        scores[j] = static_cast<i32>(p);
        sum += p;
    }
    const i32 drop = most(bits(sum) - 24, 0);
    u32 total = sum;
    if (drop > 0) {
        total = 0;
        const u32 half = u32{1} << (drop - 1);
        for (i64 j = 0; j < n; ++j) {
            const u32 p = (static_cast<u32>(scores[j]) + half) >> drop;
            scores[j] = static_cast<i32>(p);
            total += p;
        }
    }
    for (i64 j = 0; j < n; ++j) {
        // p * m < 2^31, and past a shift of 32 nothing is left.
        const u32 s = static_cast<u32>(least(15 + v_e[j] - low, 31));
        const i32 f = static_cast<i32>((((static_cast<u32>(scores[j]) * v_m[j]) >> s) + 1) >> 1);
        const i32 high = (f + 128) >> 8;
        hi[j] = static_cast<i8>(high);
        lo[j] = static_cast<i8>(f - 256 * high);
    }
    return total;
}

s7::Pair swiglu_row(i32 *gate, i32 *up, i64 n, i32 m, i32 s, const i32 *table, i8 *codes) {
    units_row(gate, n, m, s, 0, gate);
    for (i64 i = 0; i < n; ++i) {
        const i32 g = gate[i];
        const i32 inside = least(most(g, -32767), 32767);
        const i32 curved = (inside * sigmoid(inside, table) + 1024) >> 11;
        const i32 straight = least(most(g, 0), 1 << 26) * 16;
        gate[i] = g == inside ? curved : straight;
    }
    const i32 a_shift = normalize_row(gate, n, 15, gate), b_shift = normalize_row(up, n, 15, up);
    for (i64 i = 0; i < n; ++i) gate[i] *= up[i];
    const s7::Pair scale = quantize_row(gate, n, codes);
    return {scale.m, scale.e - a_shift - b_shift};
}

void shift_row(i32 *o, i64 n, i32 s) {
    if (s > kMaxShift) {
        for (i64 i = 0; i < n; ++i) o[i] = 0;
        return;
    }
    for (i64 i = 0; i < n; ++i) o[i] = static_cast<i32>(rshift(o[i], s));
}

// The table of this instruction set.
template <class Product>
constexpr s7::Kernels table_of(u8 code_xor, Product product) {
    return {code_xor,  product,    rescale_row, units_row,   rms_norm_row, quantize_row,
            rotate_row, scores_row, weights_row, swiglu_row, shift_row};
}

}  // namespace
