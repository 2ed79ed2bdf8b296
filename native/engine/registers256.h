// Registers of 256 bits: loads, lanes and MULSH in 32 bits. The files of that width (avx2.cpp,
// avxvnni.cpp) include it.
#pragma once

#include <immintrin.h>

#define S7_OWN_QUANTIZE
#include "row_ops.h"

namespace {

using s7::kCell;
using s7::kGroup;
using s7::kPage;
using s7::kPanel;

constexpr i64 kLanes = 8, kPageGroups = kPage / kGroup, kPagePanel = kPageGroups * kCell;

// Calls f(0), .. f(N - 1) with compile-time indexes, because a loop would keep the sums in memory.
template <int I> struct Index {
    constexpr operator int() const { return I; }
};
template <int N, int I = 0, class F> [[gnu::always_inline]] inline void each(const F &f) {
    if constexpr (I < N) {
        f(Index<I>{});
        each<N, I + 1>(f);
    }
}

#define S7_EACH(index) [&](auto index) __attribute__((always_inline))

inline __m256i load(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
inline void store(void *p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i *>(p), v); }
inline __m256i broadcast_group(const u8 *acts) {
    i32 four;
    __builtin_memcpy(&four, acts, 4);
    return _mm256_set1_epi32(four);
}
inline __m256i widen_u16(const void *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i *>(p)));
}
inline __m256i widen_i16(const void *p) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(static_cast<const __m128i *>(p)));
}
inline __m256i widen_u8(const void *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i *>(p)));
}

// All bits of the first n lanes.
inline __m256i first_lanes(i64 n) {
    const i32 count = static_cast<i32>(least(most(n, i64{0}), kLanes));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline i32 least_lane(__m256i v) {
    __m128i half = _mm_min_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    half = _mm_min_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    return _mm_cvtsi128_si32(_mm_min_epi32(half, _mm_shuffle_epi32(half, 0xB1)));
}
inline u32 largest_unsigned_lane(__m256i v) {
    __m128i half = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4E));
    return static_cast<u32>(_mm_cvtsi128_si32(_mm_max_epu32(half, _mm_shuffle_epi32(half, 0xB1))));
}
inline i32 largest_lane(__m256i v) {
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(half, _mm_shuffle_epi32(half, 0xB1)));
}

// MULSH in 32-bit lanes: `mulsh_narrow` and `mulsh_16` of fixed.h; s17 is s - 17.
inline __m256i mulsh_lanes(__m256i a, __m256i m, __m256i s17) {
    const __m256i high = _mm256_mullo_epi32(_mm256_srai_epi32(a, 16), m);
    const __m256i low = _mm256_mullo_epi32(_mm256_and_si256(a, _mm256_set1_epi32(0xFFFF)), m);
    const __m256i t = _mm256_srav_epi32(_mm256_add_epi32(high, _mm256_srli_epi32(low, 16)), s17);
    return _mm256_srai_epi32(_mm256_add_epi32(t, _mm256_set1_epi32(1)), 1);
}
inline __m256i mulsh_16_lanes(__m256i a, __m256i m) {
    const __m256i high = _mm256_mullo_epi32(_mm256_srai_epi32(a, 16), m);
    const __m256i low = _mm256_mullo_epi32(_mm256_and_si256(a, _mm256_set1_epi32(0xFFFF)), m);
    return _mm256_add_epi32(
        high, _mm256_srli_epi32(_mm256_add_epi32(low, _mm256_set1_epi32(0x8000)), 16));
}

// The bytes of 16 lanes of -128 .. 127, in order.
inline __m128i narrow_to_codes(__m256i first, __m256i second) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xD8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// QUANT of eight values at a time.
struct QuantizerLanes {
    Quantizer quantizer;
    __m256i reciprocal, s17;
    __m128i up, flip;

    explicit QuantizerLanes(u32 peak)
        : quantizer(peak),
          reciprocal(_mm256_set1_epi32(static_cast<i32>(quantizer.reciprocal))),
          s17(_mm256_set1_epi32(39 - 17)),
          up(_mm_cvtsi32_si128(quantizer.zeros - 1)),
          flip(_mm_set1_epi8(static_cast<char>(kActXor))) {}
    __m256i codes(__m256i v) const { return mulsh_lanes(_mm256_sll_epi32(v, up), reciprocal, s17); }
    void put(u8 *acts, __m256i first, __m256i second) const {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(acts),
                         _mm_xor_si128(narrow_to_codes(codes(first), codes(second)), flip));
    }
};

// The largest magnitude of a row of whole registers, at least 1.
template <int N> [[gnu::always_inline]] inline u32 peak_of_lanes(const __m256i *v) {
    __m256i peaks = _mm256_set1_epi32(1);
    each<N>(S7_EACH(i) { peaks = _mm256_max_epu32(peaks, _mm256_abs_epi32(v[i])); });
    return largest_unsigned_lane(peaks);
}

constexpr i64 kHead = 64, kHeadLanes = kHead / kLanes;  // a head that is computed in registers

[[gnu::always_inline]] inline s7::Pair quantize_head(const __m256i *v, u8 *acts) {
    const QuantizerLanes lanes(peak_of_lanes<kHeadLanes>(v));
    each<kHeadLanes / 2>(S7_EACH(i) { lanes.put(acts + i * kPanel, v[2 * i], v[2 * i + 1]); });
    return lanes.quantizer.scale();
}

s7::Pair quantize_row(const i32 *v, i64 n, u8 *acts) {
    if (n == kHead) {
        __m256i row[kHeadLanes];
        each<kHeadLanes>(S7_EACH(i) { row[i] = load(v + i * kLanes); });
        return quantize_head(row, acts);
    }
    const i64 whole = n / kPanel * kPanel;
    __m256i peaks = _mm256_set1_epi32(1);
    for (i64 i = 0; i < whole; i += kLanes)
        peaks = _mm256_max_epu32(peaks, _mm256_abs_epi32(load(v + i)));
    u32 peak = largest_unsigned_lane(peaks);
    for (i64 i = whole; i < n; ++i) peak = most(peak, magnitude(v[i]));
    const QuantizerLanes lanes(peak);
    for (i64 i = 0; i < whole; i += kPanel) lanes.put(acts + i, load(v + i), load(v + i + kLanes));
    for (i64 i = whole; i < n; ++i) acts[i] = lanes.quantizer.act(v[i]);
    return lanes.quantizer.scale();
}

// ROTATE of a head of 64 in registers. Any other size goes through memory.
s7::Pair rotate(const i32 *head, i64 half, const i16 *cosine, const i16 *sine, i32 *scratch,
                u8 *acts) {
    if (half != kHead / 2) return rotate_row(head, half, cosine, sine, scratch, acts);
    constexpr int n_half = kHeadLanes / 2;
    __m256i u[kHeadLanes];
    each<kHeadLanes>(S7_EACH(i) { u[i] = load(head + i * kLanes); });
    const i32 shift = bits(peak_of_lanes<kHeadLanes>(u)) - 14;
    const __m128i left = _mm_cvtsi32_si128(most(-shift, 0)),
                  right = _mm_cvtsi32_si128(most(shift - 1, 0));
    const __m256i one = _mm256_set1_epi32(1), rounding = _mm256_set1_epi32(16384);
    each<kHeadLanes>(S7_EACH(i) {
        const __m256i above = _mm256_sra_epi32(u[i], right);
        const __m256i rounded =
            _mm256_add_epi32(_mm256_srai_epi32(above, 1), _mm256_and_si256(above, one));
        u[i] = shift > 0 ? rounded : _mm256_sll_epi32(u[i], left);
    });
    each<n_half>(S7_EACH(i) {
        const __m256i a = u[i], b = u[i + n_half], c = widen_i16(cosine + i * kLanes),
                      s = widen_i16(sine + i * kLanes);
        const __m256i first = _mm256_sub_epi32(_mm256_mullo_epi32(a, c), _mm256_mullo_epi32(b, s));
        const __m256i second = _mm256_add_epi32(_mm256_mullo_epi32(b, c), _mm256_mullo_epi32(a, s));
        u[i] = _mm256_srai_epi32(_mm256_add_epi32(first, rounding), 15);
        u[i + n_half] = _mm256_srai_epi32(_mm256_add_epi32(second, rounding), 15);
    });
    const s7::Pair scale = quantize_head(u, acts);
    return {scale.m, scale.e - shift};
}

}  // namespace
