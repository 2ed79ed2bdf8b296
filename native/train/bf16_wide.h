/* BF16 in registers of sixteen, for files that are compiled with AVX512-BF16. */
#ifndef S7_TRAIN_BF16_WIDE_H
#define S7_TRAIN_BF16_WIDE_H

#include "wide.h"

#include <immintrin.h>

#include <algorithm>

namespace s7train {
namespace {

/* The valid lanes of a row when `left` of its columns are left. */
inline __mmask16 lanes(std::size_t left) {
    return static_cast<__mmask16>((1u << std::min(left, kLanes)) - 1);
}

inline __m512 widen(__m256i v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}
inline __m256i narrow(__m512 v) {
    return (__m256i)_mm512_cvtneps_pbh(v);
} /* to the nearest, ties to even */

/* Masked lanes read as 0. */
inline Wide get(const float *p, __mmask16 mask) { return (Wide)_mm512_maskz_loadu_ps(mask, p); }
inline Wide get(const std::uint16_t *p, __mmask16 mask) {
    return (Wide)widen(_mm256_maskz_loadu_epi16(mask, p));
}
inline void put(float *p, __mmask16 mask, Wide v) { _mm512_mask_storeu_ps(p, mask, (__m512)v); }
inline void put(std::uint16_t *p, __mmask16 mask, Wide v) {
    _mm256_mask_storeu_epi16(p, mask, narrow((__m512)v));
}

constexpr float kLog2E = 1.44269504088896341f;

/* 2^x for x <= 0 with a relative error of 2e-7, in half the steps of `exponential`. The result is 0
 * below -126, where numbers would be subnormal and slow. NaN stays NaN. */
inline Wide two_to(Wide x) {
    const __m512 t = (__m512)x;
    const __mmask16 counts = _mm512_cmp_ps_mask(t, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Wide r = (Wide)(t - n); /* 2^r on [-1/2, 1/2] by a polynomial */
    Wide p = Wide{} + 1.326472615e-3f;
    p = p * r + 9.671512991e-3f;
    p = p * r + 5.550733581e-2f;
    p = p * r + 2.402224243e-1f;
    p = p * r + 6.931470037e-1f;
    p = p * r + 1.0f;
    return (Wide)_mm512_maskz_scalef_ps(counts, (__m512)p, n);
}

inline float total(Wide v) { return _mm512_reduce_add_ps((__m512)v); }

}  // namespace
}  // namespace s7train
#endif
