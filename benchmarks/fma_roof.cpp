// What a loop of fused multiply-adds on registers alone reaches: the roof of FP32 products. For
// benchmarks/products.py.

#include <immintrin.h>

namespace {

template <class Vector, class Fma> float spin(long rounds, Vector start, const Fma &fma) {
    // Twelve chains that begin apart: of equal ones the compiler would make one.
    Vector s0 = start, s1 = s0 + 1, s2 = s0 + 2, s3 = s0 + 3, s4 = s0 + 4, s5 = s0 + 5, s6 = s0 + 6,
           s7 = s0 + 7, s8 = s0 + 8, s9 = s0 + 9, s10 = s0 + 10, s11 = s0 + 11;
    for (long i = 0; i < rounds; ++i) {
        s0 = fma(s0), s1 = fma(s1), s2 = fma(s2), s3 = fma(s3), s4 = fma(s4), s5 = fma(s5);
        s6 = fma(s6), s7 = fma(s7), s8 = fma(s8), s9 = fma(s9), s10 = fma(s10), s11 = fma(s11);
    }
    const Vector all = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
    return all[0];
}

}  // namespace

// FLOPs of one call are rounds * 12 * 2 * the floats of a register.
#ifdef __AVX512F__
extern "C" float fma_roof(long rounds, float start) {
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    return spin(rounds, _mm512_set1_ps(start), [&](__m512 s) { return _mm512_fmadd_ps(s, a, b); });
}
#else
extern "C" float fma_roof(long rounds, float start) {
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    return spin(rounds, _mm256_set1_ps(start), [&](__m256 s) { return _mm256_fmadd_ps(s, a, b); });
}
#endif
