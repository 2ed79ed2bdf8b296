// Registers of 512 bits: lanes, MULSH in 32 bits, and QUANT and ROTATE of heads. avx512.cpp
// includes it.
#pragma once

#include <immintrin.h>

#define S7_OWN_QUANTIZE
#include "row_ops.h"

namespace {

using s7::kCell;
using s7::kGroup;
using s7::kPage;
using s7::kPanel;

constexpr i64 kPageGroups = kPage / kGroup, kPagePanel = kPageGroups * kCell;

// Calls f(0), .. f(N - 1) with compile-time indexes. The compiler would unroll a loop only after it
// has decided to keep a tile of more than 16 sums in memory, which halves the speed.
template <int I> struct Index {
    constexpr operator int() const { return I; }
};
template <int N, int I = 0, class F> [[gnu::always_inline]] inline void each(const F &f) {
    if constexpr (I < N) {
        f(Index<I>{});
        each<N, I + 1>(f);
    }
}
// The argument names a parameter.
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define S7_EACH(index) [&](auto index) __attribute__((always_inline))

// MULSH in 32-bit lanes: `mulsh_narrow` and `mulsh_16` of fixed.h; s17 is s - 17.
inline __m512i mulsh_lanes(__m512i a, __m512i m, __m512i s17) {
    const __m512i high = _mm512_mullo_epi32(_mm512_srai_epi32(a, 16), m);
    const __m512i low = _mm512_mullo_epi32(_mm512_and_si512(a, _mm512_set1_epi32(0xFFFF)), m);
    const __m512i t = _mm512_srav_epi32(_mm512_add_epi32(high, _mm512_srli_epi32(low, 16)), s17);
    return _mm512_srai_epi32(_mm512_add_epi32(t, _mm512_set1_epi32(1)), 1);
}

inline __m512i mulsh_16_lanes(__m512i a, __m512i m) {
    const __m512i high = _mm512_mullo_epi32(_mm512_srai_epi32(a, 16), m);
    const __m512i low = _mm512_mullo_epi32(_mm512_and_si512(a, _mm512_set1_epi32(0xFFFF)), m);
    return _mm512_add_epi32(
        high, _mm512_srli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(0x8000)), 16));
}

inline __m512i widen_u16(const void *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
}
inline __m512i widen_i16(const void *p) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(static_cast<const __m256i *>(p)));
}
inline __mmask16 first_lanes(i64 n) {
    return static_cast<__mmask16>(n >= 16 ? 0xFFFF : n <= 0 ? 0 : (1 << n) - 1);
}

// QUANT of 16 values at a time.
struct QuantizerLanes {
    Quantizer quantizer;
    __m512i reciprocal, s17;
    __m128i up, flip;

    explicit QuantizerLanes(__m512i peaks)
        : quantizer(_mm512_reduce_max_epu32(peaks)),
          reciprocal(_mm512_set1_epi32(static_cast<i32>(quantizer.reciprocal))),
          s17(_mm512_set1_epi32(39 - 17)),
          up(_mm_cvtsi32_si128(quantizer.zeros - 1)),
          flip(_mm_set1_epi8(static_cast<char>(kActXor))) {}
    __m128i acts(__m512i v) const {
        const __m512i codes = mulsh_lanes(_mm512_sll_epi32(v, up), reciprocal, s17);
        return _mm_xor_si128(_mm512_cvtepi32_epi8(codes), flip);
    }
};

// A row of whole registers, such as a head.
template <int N> [[gnu::always_inline]] inline s7::Pair quantize_lanes(const __m512i *v, u8 *acts) {
    __m512i peaks = _mm512_set1_epi32(1);
    each<N>(S7_EACH(i) { peaks = _mm512_max_epu32(peaks, _mm512_abs_epi32(v[i])); });
    const QuantizerLanes lanes(peaks);
    each<N>(S7_EACH(i) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(acts + i * kPanel), lanes.acts(v[i]));
    });
    return lanes.quantizer.scale();
}

constexpr i64 kHead = 64;  // dimensions of a head that is computed in registers

s7::Pair quantize_row(const i32 *v, i64 n, u8 *acts) {
    if (n == kHead) {
        __m512i row[4];
        each<4>(S7_EACH(i) { row[i] = _mm512_loadu_si512(v + i * kPanel); });
        return quantize_lanes<4>(row, acts);
    }
    __m512i peaks = _mm512_set1_epi32(1);
    for (i64 i = 0; i < n; i += kPanel)
        peaks = _mm512_max_epu32(
            peaks, _mm512_abs_epi32(_mm512_maskz_loadu_epi32(first_lanes(n - i), v + i)));
    const QuantizerLanes lanes(peaks);
    for (i64 i = 0; i < n; i += kPanel) {
        const __mmask16 there = first_lanes(n - i);
        _mm_mask_storeu_epi8(acts + i, there, lanes.acts(_mm512_maskz_loadu_epi32(there, v + i)));
    }
    return lanes.quantizer.scale();
}

// ROTATE of a head of 64 in registers. Any other size goes through memory.
s7::Pair rotate(const i32 *head, i64 half, const i16 *cosine, const i16 *sine, i32 *scratch,
                u8 *acts) {
    if (half != kHead / 2) return rotate_row(head, half, cosine, sine, scratch, acts);
    __m512i u[4], peaks = _mm512_set1_epi32(1);
    each<4>(S7_EACH(i) {
        u[i] = _mm512_loadu_si512(head + i * kPanel);
        peaks = _mm512_max_epu32(peaks, _mm512_abs_epi32(u[i]));
    });
    const i32 shift = bits(_mm512_reduce_max_epu32(peaks)) - 14;
    // RSHIFT by s >= 1 is a shift by s - 1, plus 1, halved.
    const __m128i left = _mm_cvtsi32_si128(most(-shift, 0)),
                  right = _mm_cvtsi32_si128(most(shift - 1, 0));
    const __m512i one = _mm512_set1_epi32(1), rounding = _mm512_set1_epi32(16384);
    each<4>(S7_EACH(i) {
        const __m512i above = _mm512_sra_epi32(u[i], right);
        const __m512i rounded =
            _mm512_add_epi32(_mm512_srai_epi32(above, 1), _mm512_and_si512(above, one));
        u[i] = shift > 0 ? rounded : _mm512_sll_epi32(u[i], left);
    });
    each<2>(S7_EACH(i) {
        const __m512i a = u[i], b = u[i + 2], c = widen_i16(cosine + i * kPanel),
                      s = widen_i16(sine + i * kPanel);
        const __m512i first = _mm512_sub_epi32(_mm512_mullo_epi32(a, c), _mm512_mullo_epi32(b, s));
        const __m512i second = _mm512_add_epi32(_mm512_mullo_epi32(b, c), _mm512_mullo_epi32(a, s));
        u[i] = _mm512_srai_epi32(_mm512_add_epi32(first, rounding), 15);
        u[i + 2] = _mm512_srai_epi32(_mm512_add_epi32(second, rounding), 15);
    });
    const s7::Pair scale = quantize_lanes<4>(u, acts);
    return {scale.m, scale.e - shift};
}

}  // namespace
