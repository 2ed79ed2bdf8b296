// AVX2: |a| is unsigned, its sign goes to the code. Pairs reach 2 * 128 * 127 = 32512, so 16 bits
// never saturate.
#include "kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

#include "generic_kernels.h"

namespace {

// MR tokens by NP panels, 2 registers of 8 outputs a panel.
template <int MR, int NP>
void block(const i8 *panels, i64 panel_bytes, i64 n_groups, const i8 *acts, i64 acts_stride,
           i32 *out, i64 out_stride) {
    __m256i acc[MR][2 * NP];
    for (int t = 0; t < MR; ++t) {
        for (int p = 0; p < 2 * NP; ++p) acc[t][p] = _mm256_setzero_si256();
    }
    const __m256i ones = _mm256_set1_epi16(1);
    for (i64 g = 0; g < n_groups; ++g) {
        for (int p = 0; p < 2 * NP; ++p) {
            const i8 *cell = panels + (p / 2) * panel_bytes + g * s7::kCell + (p % 2) * 32;
            const __m256i w = _mm256_load_si256(reinterpret_cast<const __m256i *>(cell));
            for (int t = 0; t < MR; ++t) {
                i32 four;
                __builtin_memcpy(&four, acts + t * acts_stride + g * s7::kGroup, 4);
                const __m256i x = _mm256_set1_epi32(four);
                const __m256i pairs =
                    _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
                acc[t][p] = _mm256_add_epi32(acc[t][p], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    for (int t = 0; t < MR; ++t) {
        for (int p = 0; p < 2 * NP; ++p) {
            _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + t * out_stride + p * 8),
                                acc[t][p]);
        }
    }
}

template <int NP>
void column(const i8 *panels, i64 panel_bytes, i64 n_groups, const i8 *acts, i64 acts_stride, i64 n,
            i32 *out, i64 out_stride) {
    i64 t = 0;
    for (; t + 4 <= n; t += 4) {
        block<4, NP>(panels, panel_bytes, n_groups, acts + t * acts_stride, acts_stride,
                     out + t * out_stride, out_stride);
    }
    for (; t < n; ++t) {
        block<1, NP>(panels, panel_bytes, n_groups, acts + t * acts_stride, acts_stride,
                     out + t * out_stride, out_stride);
    }
}

void dot(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups, const i8 *acts,
         i64 acts_stride, i64 n, i32 *out, i64 out_stride) {
    for (i64 p = 0; p < n_panels; ++p) {
        column<1>(panels + p * panel_bytes, panel_bytes, n_groups, acts, acts_stride, n,
                  out + p * s7::kPanel, out_stride);
    }
}

constexpr s7::Kernels kTable = table_of<dot>();

}  // namespace

const s7::Kernels *s7::avx2_kernels() { return &kTable; }
#else
const s7::Kernels *s7::avx2_kernels() { return nullptr; }
#endif
