// Dot products of INT8 codes: one query with all rows. Sums of integers do not depend on their
// order, so every instruction set gives the same numbers.
#include "s7memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

void scalar_dots(const int8_t *rows, uint64_t n_rows, uint32_t width, const int8_t *query,
                 int32_t *out) {
    for (uint64_t i = 0; i < n_rows; ++i) {
        const int8_t *row = rows + i * width;
        int32_t sum = 0;
        for (uint32_t j = 0; j < width; ++j) sum += int32_t{row[j]} * query[j];
        out[i] = sum;
    }
}

#if defined(__x86_64__)
// A sum of two 16-bit products is exact, because 2 * 127 * 127 is far below 2^31.
__attribute__((target("avx2"))) void avx2_dots(const int8_t *rows, uint64_t n_rows, uint32_t width,
                                               const int8_t *query, int32_t *out) {
    const uint32_t whole = width / 32 * 32;
    for (uint64_t i = 0; i < n_rows; ++i) {
        const int8_t *row = rows + i * width;
        __m256i sums = _mm256_setzero_si256();
        for (uint32_t j = 0; j < whole; j += 32) {
            for (uint32_t half = 0; half < 32; half += 16) {
                const auto *a = reinterpret_cast<const __m128i *>(row + j + half);
                const auto *b = reinterpret_cast<const __m128i *>(query + j + half);
                const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(a));
                const __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128(b));
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x, y));
            }
        }
        alignas(32) int32_t lanes[8];
        _mm256_store_si256(reinterpret_cast<__m256i *>(lanes), sums);
        int32_t sum = 0;
        for (const int32_t lane : lanes) sum += lane;
        for (uint32_t j = whole; j < width; ++j) sum += int32_t{row[j]} * query[j];
        out[i] = sum;
    }
}

__attribute__((target("avx512bw"))) void avx512_dots(const int8_t *rows, uint64_t n_rows,
                                                     uint32_t width, const int8_t *query,
                                                     int32_t *out) {
    const uint32_t whole = width / 32 * 32;
    for (uint64_t i = 0; i < n_rows; ++i) {
        const int8_t *row = rows + i * width;
        __m512i sums = _mm512_setzero_si512();
        for (uint32_t j = 0; j < whole; j += 32) {
            const auto *a = reinterpret_cast<const __m256i *>(row + j);
            const auto *b = reinterpret_cast<const __m256i *>(query + j);
            const __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256(a));
            const __m512i y = _mm512_cvtepi8_epi16(_mm256_loadu_si256(b));
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(x, y));
        }
        alignas(64) int32_t lanes[16];
        _mm512_store_si512(lanes, sums);
        int32_t sum = 0;
        for (const int32_t lane : lanes) sum += lane;
        for (uint32_t j = whole; j < width; ++j) sum += int32_t{row[j]} * query[j];
        out[i] = sum;
    }
}
#endif

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int32_t s7_memory_abi(void) { return S7_MEMORY_ABI; }

__attribute__((visibility("default"))) int32_t s7_memory_isa(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bw")) return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

__attribute__((visibility("default"))) void s7_memory_dots(const int8_t *rows, uint64_t n_rows,
                                                           uint32_t width, const int8_t *query,
                                                           int32_t isa, int32_t *out) {
    const int32_t widest = s7_memory_isa();
    const int32_t chosen = isa < 0 || isa > widest ? widest : isa;
#if defined(__x86_64__)
    if (chosen == 2) return avx512_dots(rows, n_rows, width, query, out);
    if (chosen == 1) return avx2_dots(rows, n_rows, width, query, out);
#endif
    (void)chosen;
    scalar_dots(rows, n_rows, width, query, out);
}

}  // extern "C"
