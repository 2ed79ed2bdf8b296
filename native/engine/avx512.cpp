// AVX-512 with VNNI. vpdpbusd needs one unsigned factor. Acts are therefore increased by 128, and
// `start` subtracts 128 times the sum of an output's codes. The limbs of P are unsigned. Sums may
// wrap, but the exact result fits i32, so the result is right.
#include "kernels.h"

#if defined(__AVX512VNNI__)
#define S7_ACT_XOR 0x80
#include "registers512.h"

namespace {

// acc += the dots of four unsigned and four signed bytes. In assembly, because GCC 12 copies each
// sum before it adds to it.
[[gnu::always_inline]] inline void add_dots(__m512i &acc, __m512i acts, __m512i codes) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(acts), "v"(codes));
}

template <int MR, int NP> struct Tile {  // MR rows by NP panels of sums
    __m512i acc[MR][NP];

    [[gnu::always_inline]] void begin(const i32 *start) {
        each<NP>(S7_EACH(p) {
            const __m512i from =
                start == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(start + p * kPanel);
            each<MR>(S7_EACH(t) { acc[t][p] = from; });
        });
    }

    // `ahead`: prefetch the next panels. The processor does not predict the step from one panel to
    // the next.
    template <bool ahead = false>
    [[gnu::always_inline]] void add(const i8 *panels, i64 panel_bytes, i64 n_groups, const u8 *acts,
                                    i64 stride) {
        for (i64 g = 0; g < n_groups; ++g) {
            __m512i w[NP];
            each<NP>(S7_EACH(p) {
                const i8 *cell = panels + p * panel_bytes + g * kCell;
                w[p] = _mm512_load_si512(cell);
                if (ahead)
                    _mm_prefetch(reinterpret_cast<const char *>(cell + NP * panel_bytes),
                                 _MM_HINT_T1);
            });
            each<MR>(S7_EACH(t) {
                i32 four;
                __builtin_memcpy(&four, acts + t * stride + g * kGroup, 4);
                const __m512i x = _mm512_set1_epi32(four);
                each<NP>(S7_EACH(p) { add_dots(acc[t][p], x, w[p]); });
            });
        }
    }
};

// Rescales the sums of a tile.
template <int MR, int NP>
[[gnu::always_inline]] inline void store_rescaled(const Tile<MR, NP> &tile, const s7::Projection &w,
                                                  i64 panel, i32 *y, i64 y_stride) {
    const __m128i lift = _mm_cvtsi32_si128(w.lift);
    each<NP>(S7_EACH(p) {
        const i64 o = (panel + p) * kPanel;
        const __m512i m = widen_u16(w.m + o);
        const __m512i s =
            _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(w.s + o)));
        each<MR>(S7_EACH(t) {
            const __m512i lifted = _mm512_sll_epi32(tile.acc[t][p], lift);
            const __m512i narrow =
                mulsh_lanes(lifted, m, _mm512_sub_epi32(s, _mm512_set1_epi32(17)));
            _mm512_storeu_si512(y + t * y_stride + o, w.narrow ? narrow : lifted);
        });
    });
}

template <int MR, int NP, bool ahead = true>
void linear_tile(const s7::Projection &w, i64 panel, const u8 *acts, i64 acts_stride, i32 *y,
                 i64 y_stride) {
    const i64 panel_bytes = w.n_groups * kCell;
    Tile<MR, NP> tile;
    tile.begin(w.start + panel * kPanel);
    tile.template add<ahead>(w.panels + panel * panel_bytes, panel_bytes, w.n_groups, acts,
                             acts_stride);
    store_rescaled(tile, w, panel, y, y_stride);
}

// Calls f with n as a compile-time constant, 1 <= n <= N.
template <int N, class F> [[gnu::always_inline]] inline void with_rows(i64 n, const F &f) {
    if constexpr (N > 1) {
        if (n < N) return with_rows<N - 1>(n, f);
    }
    f(Index<N>{});
}

template <int NP>
void linear_column(const s7::Projection &w, i64 panel, const u8 *acts, i64 acts_stride, i64 n,
                   i32 *y, i64 y_stride) {
    constexpr int most_rows = 6;
    i64 left = n;
    for (i64 blocks = (n + most_rows - 1) / most_rows; blocks > 0; --blocks) {
        const i64 rows = (left + blocks - 1) / blocks;  // blocks of nearly equal size
        with_rows<most_rows>(rows, [&](auto count) __attribute__((always_inline)) {
            linear_tile<count, NP>(w, panel, acts, acts_stride, y, y_stride);
        });
        left -= rows;
        acts += rows * acts_stride;
        y += rows * y_stride;
    }
}

// Seven or eight rows read the codes once, three panels at a time. More rows read codes again from
// the first-level cache. There the wider tile is faster, because it loads less. Returns the first
// panel that is left.
template <int MR>
i64 linear_once(const s7::Projection &w, i64 p, i64 p1, const u8 *acts, i64 acts_stride, i32 *y,
                i64 y_stride) {
    for (; p + 3 <= p1; p += 3) linear_tile<MR, 3>(w, p, acts, acts_stride, y, y_stride);
    for (; p + 2 <= p1; p += 2) linear_tile<MR, 2>(w, p, acts, acts_stride, y, y_stride);
    return p;
}

void linear(const s7::Projection &w, i64 p0, i64 p1, const u8 *acts, i64 acts_stride, i64 n, i32 *y,
            i64 y_stride) {
    i64 p = p0;
    if (n == 1) {  // limited by memory, so a prefetch does not help
        for (; p + 8 <= p1; p += 8) linear_tile<1, 8, false>(w, p, acts, acts_stride, y, y_stride);
    }
    if (n == 7) p = linear_once<7>(w, p, p1, acts, acts_stride, y, y_stride);
    if (n == 8) p = linear_once<8>(w, p, p1, acts, acts_stride, y, y_stride);
    for (; p + 4 <= p1; p += 4) linear_column<4>(w, p, acts, acts_stride, n, y, y_stride);
    for (; p < p1; ++p) linear_column<1>(w, p, acts, acts_stride, n, y, y_stride);
    if (w.narrow) return;
    for (i64 t = 0; t < n; ++t) {  // rare: shifts that 32-bit lanes cannot do
        i32 *row = y + t * y_stride;
        for (i64 o = p0 * kPanel; o < p1 * kPanel; ++o) row[o] = mulsh(row[o], w.m[o], w.s[o]);
    }
}

// The scores of MR rows on the first NP panels of a page.
template <int MR, int NP>
[[gnu::always_inline]] inline void score_page(const s7::HeadLayout &at, const u8 *page, i64 first,
                                              i64 n_keys, i32 lift, const u8 *acts, i64 acts_stride,
                                              s7::Query *queries, __m512i *largest, i32 *scores,
                                              i64 stride) {
    Tile<MR, NP> tile;
    tile.begin(array<i32>(page, at.start));
    tile.add(array<i8>(page, at.k), at.k_groups * kCell, at.k_groups, acts, acts_stride);
    __m512i k_m[NP], k_e[NP], low = _mm512_set1_epi32(1 << 30);
    each<NP>(S7_EACH(p) {
        k_m[p] = widen_u16(array<u16>(page, at.k_m) + p * kPanel);
        k_e[p] = widen_i16(array<i16>(page, at.k_e) + p * kPanel);
        // Mask exponents of positions that are not written yet.
        low = _mm512_mask_min_epi32(low, first_lanes(n_keys - first - p * kPanel), low, k_e[p]);
    });
    const i32 least_e = _mm512_reduce_min_epi32(low);
    const __m128i up = _mm_cvtsi32_si128(lift);
    each<MR>(S7_EACH(t) {
        const i32 base = queries[t].scale.e + lift - 32;
        const i64 seen = queries[t].n_keys - first;
        const bool narrow = least_e + base >= 17;
        const __m512i m = _mm512_set1_epi32(queries[t].scale.m),
                      base17 = _mm512_set1_epi32(base - 17);
        i32 *row = scores + t * stride;
        each<NP>(S7_EACH(p) {
            const __m512i half = mulsh_16_lanes(_mm512_sll_epi32(tile.acc[t][p], up), k_m[p]);
            const __m512i score =
                narrow ? mulsh_lanes(half, m, _mm512_add_epi32(k_e[p], base17)) : half;
            _mm512_storeu_si512(row + p * kPanel, score);
            if (narrow)
                largest[t] = _mm512_mask_max_epi32(largest[t], first_lanes(seen - p * kPanel),
                                                   largest[t], score);
        });
        if (narrow) return;
        const i16 *e = array<i16>(page, at.k_e);  // rare: shifts that 32-bit lanes cannot do
        i32 peak = static_cast<i32>(kMin32);
        for (i64 j = 0; j < least(seen, kPage); ++j) {
            row[j] = mulsh(row[j], queries[t].scale.m, e[j] + base);
            peak = most(peak, row[j]);
        }
        largest[t] = _mm512_max_epi32(largest[t], _mm512_set1_epi32(peak));
    });
}

template <int MR>
void score_rows(const s7::Head &head, i32 lift, const u8 *acts, i64 acts_stride, s7::Query *queries,
                i32 *scores, i64 stride) {
    __m512i largest[MR];
    i64 n_keys = 0;
    for (int t = 0; t < MR; ++t) {
        largest[t] = _mm512_set1_epi32(static_cast<i32>(kMin32));
        n_keys = most(n_keys, queries[t].n_keys);
    }
    for (i64 first = 0; first < n_keys; first += kPage) {
        const u8 *page = head.page(first / kPage);
        const auto score = [&](auto n_panels) __attribute__((always_inline)) {
            score_page<MR, n_panels>(*head.layout, page, first, n_keys, lift, acts, acts_stride,
                                     queries, largest, scores + first, stride);
        };
        if (MR == 1 && n_keys - first <= kPanel) {
            score(Index<1>{});
        } else if (MR == 1 && n_keys - first <= 2 * kPanel) {
            score(Index<2>{});
        } else {
            score(Index<4>{});
        }
    }
    for (int t = 0; t < MR; ++t) queries[t].largest = _mm512_reduce_max_epi32(largest[t]);
}

void scores(const s7::Head &head, i32 lift, const u8 *acts, i64 acts_stride, s7::Query *queries,
            i64 n, i32 *out, i64 stride) {
    i64 t = 0;
    for (; t + 6 <= n; t += 6)
        score_rows<6>(head, lift, acts + t * acts_stride, acts_stride, queries + t,
                      out + t * stride, stride);
    for (; t + 2 <= n; t += 2)
        score_rows<2>(head, lift, acts + t * acts_stride, acts_stride, queries + t,
                      out + t * stride, stride);
    for (; t < n; ++t)
        score_rows<1>(head, lift, acts + t * acts_stride, acts_stride, queries + t,
                      out + t * stride, stride);
}

// The table of EXP2 as two sets of 64 words: the entries, and the distances to the next entries.
struct Exp2Table {
    __m512i entry[2], distance[2];

    explicit Exp2Table(const u32 *steps) {
        for (int half = 0; half < 2; ++half) {
            const __m512i a = _mm512_loadu_si512(steps + 32 * half),
                          b = _mm512_loadu_si512(steps + 32 * half + 16);
            entry[half] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)),
                                             _mm512_cvtepi32_epi16(b), 1);
            distance[half] = _mm512_inserti64x4(
                _mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16))),
                _mm512_cvtepi32_epi16(_mm512_srli_epi32(b, 16)), 1);
        }
    }

    // EXP2 of 16 lanes. The last 6 bits of a lane's lower word select the entry, and the upper word
    // is cleared.
    __m512i operator()(__m512i d) const {
        const __m512i index = _mm512_srli_epi32(d, 10);
        const __m512i y0 = _mm512_maskz_permutex2var_epi16(0x55555555, entry[0], index, entry[1]);
        const __m512i step =
            _mm512_maskz_permutex2var_epi16(0x55555555, distance[0], index, distance[1]);
        const __m512i part = _mm512_madd_epi16(step, _mm512_and_si512(d, _mm512_set1_epi32(1023)));
        const __m512i y = _mm512_sub_epi32(
            y0, _mm512_srai_epi32(_mm512_add_epi32(part, _mm512_set1_epi32(512)), 10));
        const __m512i shifted = _mm512_srlv_epi32(_mm512_add_epi32(y, y), _mm512_srli_epi32(d, 16));
        return _mm512_srli_epi32(_mm512_add_epi32(shifted, _mm512_set1_epi32(1)), 1);
    }
};

// A lane sums at most 65536 keys, which stays below 2^31. The sum of all lanes does not fit.
u64 total_of(__m512i sums) {
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(sums));
    return static_cast<u64>(_mm512_reduce_add_epi64(
        _mm512_add_epi64(low, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sums, 1)))));
}

// The smallest exponent of the first n values.
i32 least_value_exponent(const s7::Head &head, i64 n) {
    __m512i low = _mm512_set1_epi16(32767);
    for (i64 first = 0; first < n; first += kPage) {
        const i16 *e = array<i16>(head.page(first / kPage), head.layout->v_e);
        const u64 seen = n - first >= kPage ? ~u64{0} : (u64{1} << (n - first)) - 1;
        low = _mm512_mask_min_epi16(low, static_cast<__mmask32>(seen), low, _mm512_loadu_si512(e));
        low = _mm512_mask_min_epi16(low, static_cast<__mmask32>(seen >> 32), low,
                                    _mm512_loadu_si512(e + 32));
    }
    const __m512i even = _mm512_srai_epi32(_mm512_slli_epi32(low, 16), 16),
                  odd = _mm512_srai_epi32(low, 16);
    return _mm512_reduce_min_epi32(_mm512_min_epi32(even, odd));
}

[[maybe_unused]] void store_panel(const i32 *f, u8 *limbs, i64 stride, i64 position) {
    const __m512i lanes = _mm512_loadu_si512(f);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(limbs + stride + position),
                     _mm512_cvtepi32_epi8(lanes));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(limbs + position),
                     _mm512_cvtepi32_epi8(_mm512_srli_epi32(lanes, 8)));
}

}  // namespace

#include "span_weights.h"

namespace {

void weights(const s7::Head &head, s7::Query &query, i32 *scores, const u32 *steps, u8 *limbs,
             i64 stride, i64 end) {
    const s7::HeadLayout &at = *head.layout;
    const Exp2Table exp2(steps);
    const i64 n = query.n_keys, last = (n - 1) / kPage;
    u8 *high = limbs, *low = limbs + stride;
    const __m512i largest = _mm512_set1_epi32(query.largest);
    __m512i sums = _mm512_setzero_si512();
    for (i64 j = 0; j < (last + 1) * kPage; j += kPanel) {
        const __m512i d = _mm512_sub_epi32(largest, _mm512_loadu_si512(scores + j));
        const __m512i p = _mm512_maskz_mov_epi32(first_lanes(n - j), exp2(d));
        _mm512_storeu_si512(scores + j, p);
        sums = _mm512_add_epi32(sums, p);
    }
    query.total = drop_excess(total_of(sums), n, scores);
    query.low = least_value_exponent(head, n);
    const __m512i base = _mm512_set1_epi32(15 - query.low);
    for (i64 i = 0; i <= last; ++i) {
        const u16 *v_m = array<u16>(head.page(i), at.v_m);
        const i16 *v_e = array<i16>(head.page(i), at.v_e);
        for (i64 j = 0; j < kPage; j += kPanel) {
            const i64 to = i * kPage + j;
            const __m512i product =
                _mm512_mullo_epi32(_mm512_loadu_si512(scores + to), widen_u16(v_m + j));
            const __m512i shifted =
                _mm512_srlv_epi32(product, _mm512_add_epi32(widen_i16(v_e + j), base));
            const __m512i f = _mm512_srli_epi32(_mm512_add_epi32(shifted, _mm512_set1_epi32(1)), 1);
            _mm_storeu_si128(reinterpret_cast<__m128i *>(low + to), _mm512_cvtepi32_epi8(f));
            _mm_storeu_si128(reinterpret_cast<__m128i *>(high + to),
                             _mm512_cvtepi32_epi8(_mm512_srli_epi32(f, 8)));
        }
    }
    for (i64 j = (last + 1) * kPage; j < end; j += kPage) {
        _mm512_storeu_si512(high + j, _mm512_setzero_si512());
        _mm512_storeu_si512(low + j, _mm512_setzero_si512());
    }
}

// The sums of `MR / 2` rows over all pages for NP panels of dimensions.
template <int MR, int NP>
void value_tile(const s7::Head &head, i64 panel, const u8 *limbs, i64 stride, i64 n_keys, i32 *o,
                i64 o_stride) {
    Tile<MR, NP> tile;
    tile.begin(nullptr);
    for (i64 first = 0; first < n_keys; first += kPage) {
        const i8 *codes = array<i8>(head.page(first / kPage), head.layout->v) + panel * kPagePanel;
        tile.add(codes, kPagePanel, s7::round_up(least(n_keys - first, kPage), kGroup) / kGroup,
                 limbs + first, stride);
    }
    each<MR / 2>(S7_EACH(t) {
        each<NP>(S7_EACH(p) {
            const __m512i sum =
                _mm512_add_epi32(_mm512_slli_epi32(tile.acc[2 * t][p], 8), tile.acc[2 * t + 1][p]);
            _mm512_storeu_si512(o + t * o_stride + (panel + p) * kPanel, sum);
        });
    });
}

template <int NP>
void value_column(const s7::Head &head, i64 panel, const u8 *limbs, i64 stride, i64 n, i64 n_keys,
                  i32 *o, i64 o_stride) {
    i64 t = 0;
    for (; t + 3 <= n; t += 3)
        value_tile<6, NP>(head, panel, limbs + 2 * t * stride, stride, n_keys, o + t * o_stride,
                          o_stride);
    for (; t < n; ++t)
        value_tile<2, NP>(head, panel, limbs + 2 * t * stride, stride, n_keys, o + t * o_stride,
                          o_stride);
}

void values(const s7::Head &head, const u8 *limbs, i64 stride, i64 n, i64 n_keys, i32 *o,
            i64 o_stride) {
    i64 p = 0;
    for (; p + 4 <= head.layout->v_panels; p += 4)
        value_column<4>(head, p, limbs, stride, n, n_keys, o, o_stride);
    for (; p + 2 <= head.layout->v_panels; p += 2)
        value_column<2>(head, p, limbs, stride, n, n_keys, o, o_stride);
    for (; p < head.layout->v_panels; ++p)
        value_column<1>(head, p, limbs, stride, n, n_keys, o, o_stride);
}

i64 peak() {
    constexpr int chains = 24, rounds = 4096 * 16;
    __m512i acc[chains];
    const __m512i a = _mm512_set1_epi32(0x01020304), b = _mm512_set1_epi32(0x04030201);
    each<chains>(S7_EACH(i) { acc[i] = _mm512_set1_epi32(i); });
    for (int r = 0; r < rounds; ++r) {
        each<chains>(S7_EACH(i) { add_dots(acc[i], a, b); });
    }
    __m512i sum = acc[0];
    each<chains>(S7_EACH(i) { sum = _mm512_xor_si512(sum, acc[i]); });
    asm volatile("" : : "v"(sum));
    return i64{rounds} * chains * 64;
}

constexpr s7::Kernels kTable = {kActXor, linear,     units_row,    rms_norm_row, quantize_row,
                                rotate,  swiglu_row, shift_row,    argmax_row,   scores,
                                weights, values,     span_weights, peak};

}  // namespace

const s7::Kernels *s7::avx512_kernels() { return &kTable; }
#else
const s7::Kernels *s7::avx512_kernels() { return nullptr; }
#endif
