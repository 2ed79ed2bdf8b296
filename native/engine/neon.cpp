// NEON: a register of codes holds four outputs by four inputs. With dot products (SDOT) their
// product is one instruction. With matrix products (SMMLA, i8mm) one instruction computes two rows
// by two outputs by eight inputs. The processor is asked at run time. Without both, the products of
// two groups are added in 16 bits. They are at most 2 * 128 * 127 = 32512, so nothing saturates.
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include "generic_kernels.h"
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#define S7_DOT_PRODUCTS __attribute__((target("arch=armv8.2-a+dotprod")))
#define S7_MATRIX_PRODUCTS __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))

namespace {

constexpr int kQuads = s7::kPanel / 4;  // registers of a panel

inline int8x16_t four_inputs(const i8 *acts) {
    i32 four;
    __builtin_memcpy(&four, acts, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

// MR rows by NP panels.
template <int MR, int NP>
S7_DOT_PRODUCTS void dot_block(const i8 *panels, i64 panel_bytes, i64 n_groups, const i8 *acts,
                               i64 acts_stride, i32 *out, i64 out_stride) {
    int32x4_t acc[MR][NP][kQuads];
    for (auto &row : acc) {
        for (auto &panel : row) {
            for (auto &quad : panel) quad = vdupq_n_s32(0);
        }
    }
    for (i64 g = 0; g < n_groups; ++g) {
        int8x16_t x[MR];
        for (int t = 0; t < MR; ++t) x[t] = four_inputs(acts + t * acts_stride + g * s7::kGroup);
        for (int p = 0; p < NP; ++p) {
            for (int i = 0; i < kQuads; ++i) {
                const int8x16_t w = vld1q_s8(panels + p * panel_bytes + g * s7::kCell + i * 16);
                for (int t = 0; t < MR; ++t) acc[t][p][i] = vdotq_s32(acc[t][p][i], w, x[t]);
            }
        }
    }
    for (int t = 0; t < MR; ++t) {
        for (int p = 0; p < NP; ++p) {
            for (int i = 0; i < kQuads; ++i)
                vst1q_s32(out + t * out_stride + p * s7::kPanel + i * 4, acc[t][p][i]);
        }
    }
}

// One row by a panel. sums[i][0] holds outputs 4 i and 4 i + 1, and sums[i][1] the next two, each
// in two halves.
struct PairBlock {
    int32x4_t sums[kQuads][2];

    template <int GROUPS> void add(const i8 *cell, const i8 *acts) {
        for (int i = 0; i < kQuads; ++i) {
            int8x16_t w = vld1q_s8(cell + i * 16), x = four_inputs(acts);
            int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
            if constexpr (GROUPS == 2) {
                w = vld1q_s8(cell + s7::kCell + i * 16), x = four_inputs(acts + s7::kGroup);
                low = vmlal_s8(low, vget_low_s8(w), vget_low_s8(x)),
                high = vmlal_high_s8(high, w, x);
            }
            sums[i][0] = vpadalq_s16(sums[i][0], low);
            sums[i][1] = vpadalq_s16(sums[i][1], high);
        }
    }
};

void pair_dot(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups, const i8 *acts,
              i64 acts_stride, i64 n, i32 *out, i64 out_stride) {
    for (i64 p = 0; p < n_panels; ++p, panels += panel_bytes) {
        for (i64 t = 0; t < n; ++t) {
            const i8 *row = acts + t * acts_stride;
            PairBlock block;
            for (auto &quad : block.sums) quad[0] = quad[1] = vdupq_n_s32(0);
            i64 g = 0;
            for (; g + 2 <= n_groups; g += 2)
                block.add<2>(panels + g * s7::kCell, row + g * s7::kGroup);
            if (g < n_groups) block.add<1>(panels + g * s7::kCell, row + g * s7::kGroup);
            i32 *to = out + t * out_stride + p * s7::kPanel;
            for (int i = 0; i < kQuads; ++i)
                vst1q_s32(to + i * 4, vpaddq_s32(block.sums[i][0], block.sums[i][1]));
        }
    }
}

template <int NP>
S7_DOT_PRODUCTS void column(const i8 *panels, i64 panel_bytes, i64 n_groups, const i8 *acts,
                            i64 acts_stride, i64 n, i32 *out, i64 out_stride) {
    constexpr int most_rows = 4 / NP;  // 16 sums leave registers for codes and acts
    i64 t = 0;
    for (; t + most_rows <= n; t += most_rows) {
        dot_block<most_rows, NP>(panels, panel_bytes, n_groups, acts + t * acts_stride, acts_stride,
                                 out + t * out_stride, out_stride);
    }
    for (; t < n; ++t) {
        dot_block<1, NP>(panels, panel_bytes, n_groups, acts + t * acts_stride, acts_stride,
                         out + t * out_stride, out_stride);
    }
}

S7_DOT_PRODUCTS void dot(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups,
                         const i8 *acts, i64 acts_stride, i64 n, i32 *out, i64 out_stride) {
    i64 p = 0;
    if (n == 1) {  // one row: the sums of four panels hide the latency of an instruction
        for (; p + 4 <= n_panels; p += 4) {
            column<4>(panels + p * panel_bytes, panel_bytes, n_groups, acts, acts_stride, n,
                      out + p * s7::kPanel, out_stride);
        }
    }
    for (; p < n_panels; ++p) {
        column<1>(panels + p * panel_bytes, panel_bytes, n_groups, acts, acts_stride, n,
                  out + p * s7::kPanel, out_stride);
    }
}

// 2 MP rows by a panel: acc[m][i] holds outputs 2 i and 2 i + 1 of rows 2 m and 2 m + 1, as
// (0, 0), (0, 1), (1, 0), (1, 1) of output and row.
template <int MP>
S7_MATRIX_PRODUCTS void matrix_block(const i8 *panel, i64 n_groups, const i8 *acts, i64 acts_stride,
                                     i32 *out, i64 out_stride) {
    int32x4_t acc[MP][2 * kQuads];
    for (auto &rows : acc) {
        for (auto &pair : rows) pair = vdupq_n_s32(0);
    }
    // Two groups are eight inputs. Zeros follow the last group.
    const auto add = [&](i64 g, bool two) S7_MATRIX_PRODUCTS {
        int8x16_t x[MP];
        for (int m = 0; m < MP; ++m) {
            i64 row[2] = {};
            for (int t = 0; t < 2; ++t)
                __builtin_memcpy(&row[t], acts + (2 * m + t) * acts_stride + g * s7::kGroup,
                                 two ? 8 : 4);
            x[m] = vreinterpretq_s8_s64(vld1q_s64(row));
        }
        for (int i = 0; i < kQuads; ++i) {
            const i8 *cell = panel + g * s7::kCell + i * 16;
            const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(cell)),
                            second = two ? vreinterpretq_s32_s8(vld1q_s8(cell + s7::kCell))
                                         : vdupq_n_s32(0);
            const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(first, second)),
                            high = vreinterpretq_s8_s32(vzip2q_s32(first, second));
            for (int m = 0; m < MP; ++m) {
                acc[m][2 * i] = vmmlaq_s32(acc[m][2 * i], low, x[m]);
                acc[m][2 * i + 1] = vmmlaq_s32(acc[m][2 * i + 1], high, x[m]);
            }
        }
    };
    i64 g = 0;
    for (; g + 2 <= n_groups; g += 2) add(g, true);
    if (g < n_groups) add(g, false);
    for (int m = 0; m < MP; ++m) {
        i32 *row = out + 2 * m * out_stride;
        for (int i = 0; i < kQuads; ++i) {
            vst1q_s32(row + i * 4, vuzp1q_s32(acc[m][2 * i], acc[m][2 * i + 1]));
            vst1q_s32(row + out_stride + i * 4, vuzp2q_s32(acc[m][2 * i], acc[m][2 * i + 1]));
        }
    }
}

S7_MATRIX_PRODUCTS void matrix_dot(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups,
                                   const i8 *acts, i64 acts_stride, i64 n, i32 *out,
                                   i64 out_stride) {
    const i64 whole = n / 2 * 2;
    for (i64 p = 0; whole > 0 && p < n_panels; ++p) {
        const i8 *panel = panels + p * panel_bytes;
        i32 *to = out + p * s7::kPanel;
        i64 t = 0;
        for (; t + 4 <= whole; t += 4)
            matrix_block<2>(panel, n_groups, acts + t * acts_stride, acts_stride,
                            to + t * out_stride, out_stride);
        if (t < whole)
            matrix_block<1>(panel, n_groups, acts + t * acts_stride, acts_stride,
                            to + t * out_stride, out_stride);
    }
    if (whole < n)  // the last row of an odd number
        dot(panels, panel_bytes, n_panels, n_groups, acts + whole * acts_stride, acts_stride, 1,
            out + whole * out_stride, out_stride);
}

bool has_matrix_products() {
#if defined(__ARM_FEATURE_MATMUL_INT8)
    return true;
#elif defined(__linux__)
    constexpr u64 i8mm = u64{1} << 13;  // HWCAP2_I8MM
    return (getauxval(AT_HWCAP2) & i8mm) != 0;
#else
    return false;
#endif
}

bool has_dot_products() {
#if defined(__ARM_FEATURE_DOTPROD)
    return true;
#elif defined(__linux__)
    constexpr u64 asimd_dp = u64{1} << 20;  // HWCAP_ASIMDDP
    return (getauxval(AT_HWCAP) & asimd_dp) != 0;
#else
    return false;
#endif
}

constexpr s7::Kernels kPairs = table_of<pair_dot>(), kDots = table_of<dot>(),
                      kMatrices = table_of<matrix_dot>();

}  // namespace

const s7::Kernels *s7::neon_kernels() {
    if (has_matrix_products()) return &kMatrices;
    return has_dot_products() ? &kDots : &kPairs;
}
#else
const s7::Kernels *s7::neon_kernels() { return nullptr; }
#endif
