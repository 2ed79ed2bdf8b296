// Row operations of specs/arithmetic.md, section 3, in portable C++ and, where speed matters, in
// 32-bit lanes (section 5). The file of each instruction set includes it once. The compiler flags
// decide how the loops are vectorised. The source is the same, and so is every bit.
//
// The including file defines S7_ACT_XOR first.
#pragma once

#include "row_base.h"

namespace {

// Instruction sets whose lanes are written out bring one of their own: the rows of heads are short,
// and a compiler's loop spends as much on their ends.
#if defined(S7_OWN_QUANTIZE)
s7::Pair quantize_row(const i32 *v, i64 n, u8 *acts);
#else
s7::Pair quantize_row(const i32 *v, i64 n, u8 *acts) {
    const Quantizer quantizer(peak_of(v, n));
    for (i64 i = 0; i < n; ++i) acts[i] = quantizer.act(v[i]);
    return quantizer.scale();
}
#endif

void units_row(const i32 *y, i64 n, i32 m, i32 s, bool add, i32 *out) {
    const u32 wide = static_cast<u32>(m), shift = static_cast<u32>(s);
    if (s >= 17 && add) {
        for (i64 i = 0; i < n; ++i) out[i] = add_saturated(out[i], mulsh_narrow(y[i], wide, shift));
    } else if (s >= 17) {
        for (i64 i = 0; i < n; ++i) out[i] = mulsh_narrow(y[i], wide, shift);
    } else {
        for (i64 i = 0; i < n; ++i)
            out[i] = add ? add_saturated(out[i], mulsh(y[i], m, s)) : mulsh(y[i], m, s);
    }
}

s7::Pair rms_norm_row(const i32 *x, i64 n, const i16 *gain, i64 eps, const i32 *table, i32 *scratch,
                      u8 *acts) {
    const i32 length = bits(peak_of(x, n)), down = most(length - 14, 0), up = 30 - length;
    u32 low = 0, high = 0;  // the sum of squares in two words (R5)
    for (i64 i = 0; i < n; ++i) {
        const i32 q = down > 0 ? rshift_narrow(x[i], down) : x[i];
        const u32 square = static_cast<u32>(q * q);
        low += square & 0xFFFF;
        high += square >> 16;
    }
    const i64 sum = (i64{high} << 16) + low + (eps >> (2 * down));
    const Scale root = rsqrt(most(sum, i64{1}), table);
    for (i64 i = 0; i < n; ++i) {
        const i32 u =
            up >= 0 ? static_cast<i32>(static_cast<u32>(x[i]) << up) : rshift_narrow(x[i], -up);
        // The sign of a gain is applied to u before rounding.
        const i32 g = gain[i];
        scratch[i] = mulsh_narrow(g < 0 ? -u : u, static_cast<u32>(g < 0 ? -g : g), 17);
    }
    const s7::Pair own = quantize_row(scratch, n, acts);
    const Scale scale = multiply({own.m, own.e}, root);
    return {scale.m, scale.e - 17 + up + down};
}

s7::Pair rotate_row(const i32 *head, i64 half, const i16 *cosine, const i16 *sine, i32 *u,
                    u8 *acts) {
    const i32 shift = normalize_row(head, 2 * half, 14, u);
    for (i64 i = 0; i < half; ++i) {
        const i32 a = u[i], b = u[i + half], c = cosine[i], s = sine[i];
        u[i] = (a * c - b * s + 16384) >> 15;
        u[i + half] = (b * c + a * s + 16384) >> 15;
    }
    const s7::Pair scale = quantize_row(u, 2 * half, acts);
    return {scale.m, scale.e - shift};
}

// SiLU of a row with 11 fraction bits, in place. `found` is scratch memory.
void silu_row(i32 *row, i64 n, const u32 *steps, i32 *found) {
    for (i64 i = 0; i < n; ++i)
        found[i] = static_cast<i32>(sigmoid_index(least(most(row[i], -32767), 32767)));
    for (i64 i = 0; i < n; ++i) found[i] = static_cast<i32>(steps[found[i]]);
    for (i64 i = 0; i < n; ++i) {
        const i32 g = row[i];
        const i32 inside = least(most(g, -32767), 32767);
        const i32 curved = (inside * sigmoid(inside, static_cast<u32>(found[i])) + 1024) >> 11;
        const i32 straight = least(most(g, 0), 1 << 26) * 16;
        row[i] = g == inside ? curved : straight;
    }
}

s7::Pair swiglu_row(const i32 *gate, const i32 *up, i64 n, i32 m, i32 s, const u32 *steps, i32 *a,
                    i32 *b, u8 *acts) {
    units_row(gate, n, m, s, false, a);
    silu_row(a, n, steps, b);
    const i32 a_shift = normalize_row(a, n, 15, a), b_shift = normalize_row(up, n, 15, b);
    for (i64 i = 0; i < n; ++i) a[i] *= b[i];
    const s7::Pair scale = quantize_row(a, n, acts);
    return {scale.m, scale.e - a_shift - b_shift};
}

// ARGMAX: the lowest index of the largest.
i32 argmax_row(const i32 *v, i64 n) {
    i32 largest = v[0];
    for (i64 i = 1; i < n; ++i) largest = most(largest, v[i]);
    i64 at = 0;
    while (v[at] != largest) ++at;
    return static_cast<i32>(at);
}

void shift_row(const i32 *o, i64 n, i32 s, i32 *out) {
    for (i64 i = 0; i < n; ++i) out[i] = s == 0 ? o[i] : s > 32 ? 0 : rshift_narrow(o[i], s);
}

template <class T> const T *array(const u8 *page, i64 offset) {
    return reinterpret_cast<const T *>(page + offset);
}

// RSHIFT of P by the excess of its sum over 24 bits (23 in a long context). Returns the new sum.
u32 drop_excess(u64 sum, i64 n, i32 *p) {
    const i32 drop = most(bits(sum) - (n > kLongContext ? 23 : 24), 0);
    if (drop == 0) return static_cast<u32>(sum);
    u32 total = 0;
    for (i64 j = 0; j < n; ++j) {
        p[j] = rshift_narrow(p[j], drop);
        total += static_cast<u32>(p[j]);
    }
    return total;
}

}  // namespace
