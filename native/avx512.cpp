// AVX-512 with VNNI: vpdpbusd takes codes as unsigned (code + 128), so 128 * sum(a) is taken off at the start. Sums wrap to the
// right value, for the exact result fits i32.
#include "rows.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

namespace {

// -128 * the sum of a row, modulo 2^32.
inline i32 correction(const i8 *a, i64 n) {
    u32 sum = 0;
    for (i64 i = 0; i < n; ++i) sum += static_cast<u32>(i32{a[i]});
    return static_cast<i32>(0U - 128U * sum);
}

// MR tokens by NP panels.
template <int MR, int NP>
void block(const u8 *panels, i64 panel_bytes, i64 n_groups, const i8 *a, i64 a_stride, const i32 *start, i32 *out,
           i64 out_stride) {
    __m512i acc[MR][NP];
    for (int t = 0; t < MR; ++t) {
        for (int p = 0; p < NP; ++p) acc[t][p] = _mm512_set1_epi32(start[t]);
    }
    for (i64 g = 0; g < n_groups; ++g) {
        __m512i w[NP];
        for (int p = 0; p < NP; ++p) w[p] = _mm512_load_si512(panels + p * panel_bytes + g * s7::kCell);
        for (int t = 0; t < MR; ++t) {
            i32 four;
            __builtin_memcpy(&four, a + t * a_stride + g * s7::kGroup, 4);
            const __m512i x = _mm512_set1_epi32(four);
            for (int p = 0; p < NP; ++p) acc[t][p] = _mm512_dpbusd_epi32(acc[t][p], w[p], x);
        }
    }
    for (int t = 0; t < MR; ++t) {
        for (int p = 0; p < NP; ++p) _mm512_storeu_si512(out + t * out_stride + p * s7::kPanel, acc[t][p]);
    }
}

// All tokens by NP panels, in blocks of MR and then singly.
template <int MR, int NP>
void column(const u8 *panels, i64 panel_bytes, i64 n_groups, const i8 *a, i64 a_stride, i64 n_tokens, const i32 *start,
            i32 *out, i64 out_stride) {
    i64 t = 0;
    for (; t + MR <= n_tokens; t += MR) {
        block<MR, NP>(panels, panel_bytes, n_groups, a + t * a_stride, a_stride, start + t, out + t * out_stride, out_stride);
    }
    if constexpr (MR > 2) {
        for (; t + 2 <= n_tokens; t += 2) {
            block<2, NP>(panels, panel_bytes, n_groups, a + t * a_stride, a_stride, start + t, out + t * out_stride,
                         out_stride);
        }
    }
    if constexpr (MR > 1) {
        for (; t < n_tokens; ++t) {
            block<1, NP>(panels, panel_bytes, n_groups, a + t * a_stride, a_stride, start + t, out + t * out_stride,
                         out_stride);
        }
    }
}

constexpr i64 kTokens = 60;  // tokens of one pass: what `start` holds, a multiple of the block's 6

void product(const u8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups, const i8 *a, i64 a_stride, i64 n_tokens,
             i32 *out, i64 out_stride) {
    for (i64 first = 0; first < n_tokens; first += kTokens) {
        const i64 n = least(n_tokens - first, kTokens);
        const i8 *rows = a + first * a_stride;
        i32 *to = out + first * out_stride;
        i32 start[kTokens];
        for (i64 t = 0; t < n; ++t) start[t] = correction(rows + t * a_stride, n_groups * s7::kGroup);
        i64 p = 0;
        if (n == 1) {
            for (; p + 8 <= n_panels; p += 8) {
                column<1, 8>(panels + p * panel_bytes, panel_bytes, n_groups, rows, a_stride, n, start, to + p * s7::kPanel,
                             out_stride);
            }
        }
        for (; p + 4 <= n_panels; p += 4) {
            column<6, 4>(panels + p * panel_bytes, panel_bytes, n_groups, rows, a_stride, n, start, to + p * s7::kPanel,
                         out_stride);
        }
        for (; p < n_panels; ++p) {
            column<12, 1>(panels + p * panel_bytes, panel_bytes, n_groups, rows, a_stride, n, start, to + p * s7::kPanel,
                          out_stride);
        }
    }
}

constexpr s7::Kernels kTable = table_of(0x80, product);

}  // namespace

const s7::Kernels *s7::avx512_kernels() { return &kTable; }
#else
const s7::Kernels *s7::avx512_kernels() { return nullptr; }
#endif
