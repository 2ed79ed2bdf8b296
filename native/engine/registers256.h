// Registers of 256 bits: loads, lanes and the law's rescale in 32 bits. Included by the files of
// that width (avx2.cpp, avxvnni.cpp).
#pragma once

#include <immintrin.h>

#include "row_ops.h"

namespace {

using s7::kCell;
using s7::kGroup;
using s7::kPage;
using s7::kPanel;

constexpr i64 kLanes = 8, kPageGroups = kPage / kGroup, kPagePanel = kPageGroups * kCell;

// f(0), .. f(N - 1), each index a constant of the text: a loop would leave the sums in memory.
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

}  // namespace
