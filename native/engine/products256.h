// Products of packed codes, scores and weights in registers of 256 bits. Each instruction set of
// that width includes this file once and defines before it:
//
//     S7_ACT_XOR         0: acts are i8; 0x80: they are unsigned
//     kTileRows          rows by one panel, whose sums, factors and constants are 16 registers
//     Rows, Prepared     rows of acts, and what is computed of them once for all panels
//     add_products       the sums of a tile
//     store_weights      16 weights of P, as this instruction set's `values` reads them
#pragma once

#include "registers256.h"

namespace {

// MR rows by NP panels of sums, two registers a panel.
template <int MR, int NP> struct Tile {
    __m256i acc[MR][2 * NP];

    [[gnu::always_inline]] void begin(const i32 *start) {
        each<2 * NP>(S7_EACH(q) {
            const __m256i from =
                start == nullptr ? _mm256_setzero_si256() : load(start + q * kLanes);
            each<MR>(S7_EACH(t) { acc[t][q] = from; });
        });
    }

    [[gnu::always_inline]] void add(const i8 *panels, i64 panel_bytes, i64 n_groups,
                                    const Rows &rows) {
        add_products<MR, NP>(acc, panels, panel_bytes, n_groups, rows);
    }
};

template <int MR, int NP>
void linear_tile(const s7::Projection &w, i64 panel, const Rows &rows, i32 *y, i64 y_stride) {
    const i64 panel_bytes = w.n_groups * kCell;
    Tile<MR, NP> tile;
    tile.begin(w.start == nullptr ? nullptr : w.start + panel * kPanel);
    tile.add(w.panels + panel * panel_bytes, panel_bytes, w.n_groups, rows);
    const __m128i lift = _mm_cvtsi32_si128(w.lift);
    each<2 * NP>(S7_EACH(q) {
        const i64 o = panel * kPanel + q * kLanes;
        const __m256i m = widen_u16(w.m + o),
                      s17 = _mm256_sub_epi32(widen_u8(w.s + o), _mm256_set1_epi32(17));
        each<MR>(S7_EACH(t) {
            const __m256i lifted = _mm256_sll_epi32(tile.acc[t][q], lift);
            store(y + t * y_stride + o, w.narrow ? mulsh_lanes(lifted, m, s17) : lifted);
        });
    });
}

// Calls f with n as a compile-time constant, 1 <= n <= N.
template <int N, class F> [[gnu::always_inline]] inline void with_rows(i64 n, const F &f) {
    if constexpr (N > 1) {
        if (n < N) return with_rows<N - 1>(n, f);
    }
    f(Index<N>{});
}

void linear_rows(const s7::Projection &w, i64 p0, i64 p1, const Rows &rows, i64 n, i32 *y,
                 i64 y_stride) {
    i64 p = p0;
    if (n == 1 && rows.is_prepared()) {
        for (; p + 4 <= p1; p += 4) linear_tile<1, 4>(w, p, rows, y, y_stride);
    }
    for (; p < p1; ++p) {
        i64 done = 0;
        for (i64 blocks = (n + kTileRows - 1) / kTileRows; blocks > 0; --blocks) {
            const i64 here = (n - done + blocks - 1) / blocks;  // blocks of nearly equal size
            with_rows<kTileRows>(
                here, S7_EACH(count) {
                    linear_tile<count, 1>(w, p, rows.from(done), y + done * y_stride, y_stride);
                });
            done += here;
        }
    }
}

void linear(const s7::Projection &w, i64 p0, i64 p1, const u8 *acts, i64 acts_stride, i64 n, i32 *y,
            i64 y_stride) {
    Prepared prepared;
    for (i64 t = 0; t < n;) {
        const i64 here = least(n - t, prepared.most_rows(w.n_groups));
        const Rows rows = prepared.rows(acts + t * acts_stride, acts_stride, here, w.n_groups);
        linear_rows(w, p0, p1, rows, here, y + t * y_stride, y_stride);
        t += here;
    }
    if (w.narrow) return;
    for (i64 t = 0; t < n; ++t) {  // rare: shifts that 32-bit lanes cannot do
        i32 *row = y + t * y_stride;
        for (i64 o = p0 * kPanel; o < p1 * kPanel; ++o) row[o] = mulsh(row[o], w.m[o], w.s[o]);
    }
}

// The scores of MR rows on the keys of panels `panel` .. panel + NP - 1 of a page that begins at
// `first`.
template <int MR, int NP>
[[gnu::always_inline]] inline void score_tile(const s7::HeadLayout &at, const u8 *page, i64 panel,
                                              i64 first, i32 lift, i32 least_e, const Rows &rows,
                                              s7::Query *queries, __m256i *largest, i32 *scores,
                                              i64 stride) {
    Tile<MR, NP> tile;
    const i64 key = panel * kPanel, panel_bytes = at.k_groups * kCell;
    tile.begin(kActXor == 0 ? nullptr : array<i32>(page, at.start) + key);
    tile.add(array<i8>(page, at.k) + panel * panel_bytes, panel_bytes, at.k_groups, rows);
    const __m128i up = _mm_cvtsi32_si128(lift);
    each<MR>(S7_EACH(t) {
        const i32 base = queries[t].scale.e + lift - 32;
        const i64 seen = queries[t].n_keys - first - key;
        const bool narrow = least_e + base >= 17;
        const __m256i m = _mm256_set1_epi32(queries[t].scale.m),
                      base17 = _mm256_set1_epi32(base - 17);
        i32 *row = scores + t * stride + first + key;
        each<2 * NP>(S7_EACH(q) {
            const i64 j = key + q * kLanes;
            const __m256i half = mulsh_16_lanes(_mm256_sll_epi32(tile.acc[t][q], up),
                                                widen_u16(array<u16>(page, at.k_m) + j));
            if (!narrow) {
                store(row + q * kLanes, half);
                return;
            }
            const __m256i e = widen_i16(array<i16>(page, at.k_e) + j);
            const __m256i score = mulsh_lanes(half, m, _mm256_add_epi32(e, base17));
            store(row + q * kLanes, score);
            const __m256i seen_score = _mm256_blendv_epi8(
                _mm256_set1_epi32(static_cast<i32>(kMin32)), score, first_lanes(seen - q * kLanes));
            largest[t] = _mm256_max_epi32(largest[t], seen_score);
        });
        if (narrow) return;
        i32 peak = static_cast<i32>(kMin32);  // rare: shifts that 32-bit lanes cannot do
        for (i64 j = 0; j < least(seen, NP * kPanel); ++j) {
            row[j] = mulsh(row[j], queries[t].scale.m, array<i16>(page, at.k_e)[key + j] + base);
            peak = most(peak, row[j]);
        }
        largest[t] = _mm256_max_epi32(largest[t], _mm256_set1_epi32(peak));
    });
}

template <int MR>
void score_rows(const s7::Head &head, i32 lift, const Rows &rows, s7::Query *queries, i32 *scores,
                i64 stride) {
    const s7::HeadLayout &at = *head.layout;
    __m256i largest[MR];
    i64 n_keys = 0;
    for (int t = 0; t < MR; ++t) {
        largest[t] = _mm256_set1_epi32(static_cast<i32>(kMin32));
        n_keys = most(n_keys, queries[t].n_keys);
    }
    for (i64 first = 0; first < n_keys; first += kPage) {
        const u8 *page = head.page(first / kPage);
        const i64 n_panels = s7::round_up(least(n_keys - first, kPage), kPanel) / kPanel;
        // Mask exponents of positions that are not written yet.
        __m256i low = _mm256_set1_epi32(1 << 30);
        for (i64 j = 0; j < n_panels * kPanel; j += kLanes)
            low = _mm256_min_epi32(low, _mm256_blendv_epi8(_mm256_set1_epi32(1 << 30),
                                                           widen_i16(array<i16>(page, at.k_e) + j),
                                                           first_lanes(n_keys - first - j)));
        const i32 least_e = least_lane(low);
        i64 p = 0;
        if constexpr (MR == 1) {
            for (; p + 4 <= n_panels; p += 4)
                score_tile<1, 4>(at, page, p, first, lift, least_e, rows, queries, largest, scores,
                                 stride);
        }
        for (; p < n_panels; ++p)
            score_tile<MR, 1>(at, page, p, first, lift, least_e, rows, queries, largest, scores,
                              stride);
    }
    for (int t = 0; t < MR; ++t) queries[t].largest = largest_lane(largest[t]);
}

void scores(const s7::Head &head, i32 lift, const u8 *acts, i64 acts_stride, s7::Query *queries,
            i64 n, i32 *out, i64 stride) {
    Prepared prepared;
    for (i64 t = 0; t < n;) {
        const i64 here = least(least(n - t, kTileRows), prepared.most_rows(head.layout->k_groups));
        const Rows rows =
            prepared.rows(acts + t * acts_stride, acts_stride, here, head.layout->k_groups);
        with_rows<kTileRows>(here, [&](auto count) {
            score_rows<count>(head, lift, rows, queries + t, out + t * stride, stride);
        });
        t += here;
    }
}

// EXP2: the table of 64 words in eight registers. Three bits of an index select the register.
struct Exp2Table {
    const u32 *steps;

    __m256i word(__m256i index) const {
        const auto at = [&](int i) {
            return _mm256_permutevar8x32_epi32(load(steps + 8 * i), index);
        };
        const auto bit = [&](int b) {
            return _mm256_srai_epi32(_mm256_slli_epi32(index, 31 - b), 31);
        };
        const auto either = [](__m256i a, __m256i b, __m256i upper) {
            return _mm256_blendv_epi8(a, b, upper);
        };
        const __m256i b3 = bit(3), b4 = bit(4);
        const __m256i lower = either(either(at(0), at(1), b3), either(at(2), at(3), b3), b4);
        const __m256i upper = either(either(at(4), at(5), b3), either(at(6), at(7), b3), b4);
        return either(lower, upper, bit(5));
    }

    __m256i operator()(__m256i d) const {
        const __m256i step = word(_mm256_srli_epi32(d, 10));
        const __m256i part = _mm256_madd_epi16(_mm256_srli_epi32(step, 16),
                                               _mm256_and_si256(d, _mm256_set1_epi32(1023)));
        const __m256i y =
            _mm256_sub_epi32(_mm256_and_si256(step, _mm256_set1_epi32(0xFFFF)),
                             _mm256_srai_epi32(_mm256_add_epi32(part, _mm256_set1_epi32(512)), 10));
        const __m256i shifted = _mm256_srlv_epi32(_mm256_add_epi32(y, y), _mm256_srli_epi32(d, 16));
        return _mm256_srli_epi32(_mm256_add_epi32(shifted, _mm256_set1_epi32(1)), 1);
    }
};

// A lane sums at most 131072 keys, which stays below 2^32. The sum of all lanes does not fit.
u64 total_of(__m256i sums) {
    alignas(32) u32 lanes[kLanes];
    _mm256_store_si256(reinterpret_cast<__m256i *>(lanes), sums);
    u64 total = 0;
    for (const u32 lane : lanes) total += lane;
    return total;
}

// The smallest exponent of the first n values.
i32 least_value_exponent(const s7::Head &head, i64 n) {
    const __m256i highest = _mm256_set1_epi32(32767);
    __m256i low = highest;
    for (i64 first = 0; first < n; first += kLanes) {
        const i16 *e = array<i16>(head.page(first / kPage), head.layout->v_e) + first % kPage;
        low = _mm256_min_epi32(low,
                               _mm256_blendv_epi8(highest, widen_i16(e), first_lanes(n - first)));
    }
    return least_lane(low);
}

[[gnu::always_inline]] inline void store_panel(const i32 *f, u8 *limbs, i64 stride, i64 position) {
    store_weights(load(f), load(f + kLanes), limbs, stride, position);
}

}  // namespace

#include "span_weights.h"

namespace {

void weights(const s7::Head &head, s7::Query &query, i32 *scores, const u32 *steps, u8 *limbs,
             i64 stride, i64 end) {
    const s7::HeadLayout &at = *head.layout;
    const Exp2Table exp2{steps};
    const i64 n = query.n_keys, done = s7::round_up(n, kPage);
    const __m256i largest = _mm256_set1_epi32(query.largest);
    __m256i sums = _mm256_setzero_si256();
    for (i64 j = 0; j < done; j += kLanes) {
        const __m256i d = _mm256_sub_epi32(largest, load(scores + j));
        const __m256i p = _mm256_and_si256(first_lanes(n - j), exp2(d));
        store(scores + j, p);
        sums = _mm256_add_epi32(sums, p);
    }
    query.total = drop_excess(total_of(sums), n, scores);
    query.low = least_value_exponent(head, n);
    const __m256i base = _mm256_set1_epi32(15 - query.low);
    const auto weight = [&](const u8 *page, i64 j, const i32 *p) {
        const __m256i product =
            _mm256_mullo_epi32(load(p), widen_u16(array<u16>(page, at.v_m) + j));
        const __m256i shift = _mm256_add_epi32(widen_i16(array<i16>(page, at.v_e) + j), base);
        const __m256i shifted = _mm256_srlv_epi32(product, shift);
        return _mm256_srli_epi32(_mm256_add_epi32(shifted, _mm256_set1_epi32(1)), 1);
    };
    for (i64 first = 0; first < done; first += kPage) {
        const u8 *page = head.page(first / kPage);
        for (i64 j = 0; j < kPage; j += kPanel)
            store_weights(weight(page, j, scores + first + j),
                          weight(page, j + kLanes, scores + first + j + kLanes), limbs, stride,
                          first + j);
    }
    for (i64 j = done; j < end; j += kPanel)
        store_weights(_mm256_setzero_si256(), _mm256_setzero_si256(), limbs, stride, j);
}

}  // namespace
