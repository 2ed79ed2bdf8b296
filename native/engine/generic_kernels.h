// The kernels that consist of a product of packed codes and row operations around it, for
// instruction sets that define `dot`:
//
//     dot(panels, panel_bytes, n_panels, n_groups, acts, acts_stride, n, out, out_stride)
//     out[t, 16 p + o] = sum over i of acts[t, i] * code[16 p + o, i], i < 4 n_groups; acts are i8
//     (S7_ACT_XOR 0)
#pragma once

#define S7_ACT_XOR 0
#include "row_ops.h"

namespace {

using Dot = void(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups, const i8 *acts,
                 i64 acts_stride, i64 n, i32 *out, i64 out_stride);

inline const i8 *codes_of(const u8 *bytes) { return reinterpret_cast<const i8 *>(bytes); }

template <Dot dot>
void linear(const s7::Projection &w, i64 p0, i64 p1, const u8 *acts, i64 acts_stride, i64 n, i32 *y,
            i64 y_stride) {
    const i64 panel_bytes = w.n_groups * s7::kCell;
    dot(w.panels + p0 * panel_bytes, panel_bytes, p1 - p0, w.n_groups, codes_of(acts), acts_stride,
        n, y + p0 * s7::kPanel, y_stride);
    for (i64 t = 0; t < n; ++t) {
        i32 *row = y + t * y_stride;
        if (w.narrow) {
            for (i64 o = p0 * s7::kPanel; o < p1 * s7::kPanel; ++o) {
                row[o] = mulsh_narrow(static_cast<i32>(static_cast<u32>(row[o]) << w.lift), w.m[o],
                                      w.s[o]);
            }
        } else {
            for (i64 o = p0 * s7::kPanel; o < p1 * s7::kPanel; ++o) {
                row[o] =
                    mulsh(static_cast<i32>(static_cast<u32>(row[o]) << w.lift), w.m[o], w.s[o]);
            }
        }
    }
}

// Replaces the dots of one row with `n` keys of a page by scores. Returns the largest. base = q_e +
// lift - 32.
i32 score_row(const s7::HeadLayout &at, const u8 *page, i32 lift, s7::Pair query, i64 n, i32 *row) {
    const u16 *k_m = array<u16>(page, at.k_m);
    const i16 *k_e = array<i16>(page, at.k_e);
    const i32 base = query.e + lift - 32;
    i32 least_e = 1 << 30, largest = static_cast<i32>(kMin32);
    for (i64 j = 0; j < n; ++j) {
        row[j] = mulsh_16(static_cast<i32>(static_cast<u32>(row[j]) << lift), k_m[j]);
        least_e = least(least_e, i32{k_e[j]});
    }
    const u32 m = static_cast<u32>(query.m);
    if (least_e + base >= 17) {
        for (i64 j = 0; j < n; ++j)
            row[j] = mulsh_narrow(row[j], m, static_cast<u32>(k_e[j] + base));
    } else {
        for (i64 j = 0; j < n; ++j) row[j] = mulsh(row[j], query.m, k_e[j] + base);
    }
    for (i64 j = 0; j < n; ++j) largest = most(largest, row[j]);
    return largest;
}

// The limbs of `n` weights: f = 256 high + low. They are balanced, so that both are i8.
void limbs_row(const i32 *p, const u16 *v_m, const i16 *v_e, i32 low_e, i64 n, u8 *high, u8 *low) {
    for (i64 j = 0; j < n; ++j) {
        // p * m < 2^31, so a shift above 31 gives 0.
        const u32 s = static_cast<u32>(least(15 + v_e[j] - low_e, 31));
        const i32 f = static_cast<i32>((((static_cast<u32>(p[j]) * v_m[j]) >> s) + 1) >> 1);
        high[j] = static_cast<u8>((f + 128) >> 8);
        low[j] = static_cast<u8>(f);
    }
}

// A panel of weights in balanced limbs, as `limbs_row`.
[[maybe_unused]] void store_panel(const i32 *f, u8 *limbs, i64 stride, i64 position) {
    for (i64 j = 0; j < s7::kPanel; ++j) {
        limbs[position + j] = static_cast<u8>((f[j] + 128) >> 8);
        limbs[stride + position + j] = static_cast<u8>(f[j]);
    }
}

}  // namespace

#include "span_weights.h"

namespace {

void weights_row(const s7::Head &head, s7::Query &query, i32 *scores, const u32 *steps, u8 *limbs,
                 i64 stride, i64 end) {
    const s7::HeadLayout &at = *head.layout;
    const i64 n = query.n_keys, last = (n - 1) / s7::kPage;
    u8 *high = limbs, *low = limbs + stride;
    u64 sum = 0;
    for (i64 first = 0; first < n; first += s7::kPage) {
        const i64 here = least(n - first, s7::kPage);
        i32 *row = scores + first;
        u32 step[s7::kPage];
        for (i64 j = 0; j < here; ++j)
            row[j] = static_cast<i32>(static_cast<u32>(query.largest) - static_cast<u32>(row[j]));
        for (i64 j = 0; j < here; ++j) step[j] = steps[exp2_index(static_cast<u32>(row[j]))];
        u32 part = 0;
        for (i64 j = 0; j < here; ++j) {
            row[j] = static_cast<i32>(exp2_negative(static_cast<u32>(row[j]), step[j]));
            part += static_cast<u32>(row[j]);
        }
        sum += part;
    }
    query.total = drop_excess(sum, n, scores);
    i16 low_e = 32767;
    for (i64 j = 0; j < n; ++j)
        low_e = least(low_e, array<i16>(head.page(j / s7::kPage), at.v_e)[j % s7::kPage]);
    query.low = low_e;
    for (i64 i = 0; i <= last; ++i) {
        const i64 first = i * s7::kPage;
        limbs_row(scores + first, array<u16>(head.page(i), at.v_m),
                  array<i16>(head.page(i), at.v_e), low_e, least(n - first, s7::kPage),
                  high + first, low + first);
    }
    for (i64 j = n; j < end; ++j) high[j] = low[j] = 0;
}

template <Dot dot>
void scores(const s7::Head &head, i32 lift, const u8 *acts, i64 acts_stride, s7::Query *queries,
            i64 n, i32 *out, i64 stride) {
    const s7::HeadLayout &at = *head.layout;
    i64 n_keys = 0;
    for (i64 t = 0; t < n; ++t) {
        n_keys = most(n_keys, queries[t].n_keys);
        queries[t].largest = static_cast<i32>(kMin32);
    }
    for (i64 first = 0; first < n_keys; first += s7::kPage) {
        const u8 *page = head.page(first / s7::kPage);
        const i64 n_panels =
            s7::round_up(least(n_keys - first, s7::kPage), s7::kPanel) / s7::kPanel;
        dot(codes_of(page + at.k), at.k_groups * s7::kCell, n_panels, at.k_groups, codes_of(acts),
            acts_stride, n, out + first, stride);
        for (i64 t = 0; t < n; ++t) {
            const i64 seen = least(queries[t].n_keys - first, s7::kPage);
            if (seen <= 0) continue;
            const i32 largest =
                score_row(at, page, lift, queries[t].scale, seen, out + t * stride + first);
            queries[t].largest = most(queries[t].largest, largest);
        }
    }
}

constexpr i64 kDims = 64;  // dimensions of a head that are summed together; the size of `part`

template <Dot dot>
void values(const s7::Head &head, const u8 *limbs, i64 stride, i64 n, i64 n_keys, i32 *o,
            i64 o_stride) {
    const s7::HeadLayout &at = *head.layout;
    constexpr i64 panel_bytes = s7::kPage / s7::kGroup * s7::kCell;
    for (i64 p = 0; p < at.v_panels; p += kDims / s7::kPanel) {
        const i64 n_panels = least(at.v_panels - p, kDims / s7::kPanel),
                  width = n_panels * s7::kPanel;
        for (i64 t = 0; t < n; ++t) {
            i32 *row = o + t * o_stride + p * s7::kPanel;
            for (i64 i = 0; i < width; ++i) row[i] = 0;
            for (i64 first = 0; first < n_keys; first += s7::kPage) {
                i32 part[2 * kDims];
                const i64 n_groups =
                    s7::round_up(least(n_keys - first, s7::kPage), s7::kGroup) / s7::kGroup;
                dot(codes_of(head.page(first / s7::kPage) + at.v + p * panel_bytes), panel_bytes,
                    n_panels, n_groups, codes_of(limbs + 2 * t * stride + first), stride, 2, part,
                    kDims);
                for (i64 i = 0; i < width; ++i) row[i] += 256 * part[i] + part[kDims + i];
            }
        }
    }
}

// Repeats 64 x 64 multiply-adds.
template <Dot dot> i64 peak() {
    alignas(64) static constexpr i8 panels[4 * 16 * s7::kCell] = {};
    const i8 acts[4 * 64] = {};
    i32 out[4 * 64];
    for (int i = 0; i < 4096; ++i) {
        dot(panels, 16 * s7::kCell, 4, 16, acts, 64, 4, out, 64);
        asm volatile("" : : "r"(out) : "memory");
    }
    return i64{4096} * 4 * 64 * 64;
}

template <Dot dot> constexpr s7::Kernels table_of() {
    return {0,           linear<dot>, units_row,    rms_norm_row, quantize_row,
            rotate_row,  swiglu_row,  shift_row,    argmax_row,   scores<dot>,
            weights_row, values<dot>, span_weights, peak<dot>};
}

}  // namespace
