// WebAssembly SIMD128: codes and acts are widened to 16 bits, and i32x4.dot_i16x8_s multiplies and
// adds pairs. No relaxed instructions are used, because their results differ between machines.
#include "kernels.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#include "generic_kernels.h"

namespace {

// MR rows by half a panel. The sums of the 8 outputs are in two halves until the end.
template <int MR>
void block(const i8 *panel, i64 n_groups, const i8 *acts, i64 acts_stride, i32 *out,
           i64 out_stride) {
    constexpr int pairs = 4;  // pairs of outputs
    v128_t acc[MR][pairs];
    for (auto &row : acc) {
        for (auto &pair : row) pair = wasm_i32x4_splat(0);
    }
    for (i64 g = 0; g < n_groups; ++g) {
        const i8 *cell = panel + g * s7::kCell;
        v128_t w[pairs];
        for (int i = 0; i < pairs; ++i) w[i] = wasm_i16x8_load8x8(cell + i * 8);
        for (int t = 0; t < MR; ++t) {
            const v128_t x = wasm_i16x8_extend_low_i8x16(
                wasm_v128_load32_splat(acts + t * acts_stride + g * s7::kGroup));
            for (int i = 0; i < pairs; ++i)
                acc[t][i] = wasm_i32x4_add(acc[t][i], wasm_i32x4_dot_i16x8(w[i], x));
        }
    }
    for (int t = 0; t < MR; ++t) {
        for (int i = 0; i < pairs; i += 2) {
            const v128_t even = wasm_i32x4_shuffle(acc[t][i], acc[t][i + 1], 0, 2, 4, 6);
            const v128_t odd = wasm_i32x4_shuffle(acc[t][i], acc[t][i + 1], 1, 3, 5, 7);
            wasm_v128_store(out + t * out_stride + 2 * i, wasm_i32x4_add(even, odd));
        }
    }
}

void dot(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups, const i8 *acts,
         i64 acts_stride, i64 n, i32 *out, i64 out_stride) {
    constexpr i64 half = s7::kPanel / 2, half_bytes = s7::kCell / 2;
    for (i64 h = 0; h < 2 * n_panels; ++h) {
        const i8 *panel = panels + h / 2 * panel_bytes + h % 2 * half_bytes;
        i32 *to = out + h * half;
        i64 t = 0;
        for (; t + 2 <= n; t += 2)
            block<2>(panel, n_groups, acts + t * acts_stride, acts_stride, to + t * out_stride,
                     out_stride);
        for (; t < n; ++t)
            block<1>(panel, n_groups, acts + t * acts_stride, acts_stride, to + t * out_stride,
                     out_stride);
    }
}

constexpr s7::Kernels kTable = table_of<dot>();

}  // namespace

const s7::Kernels *s7::wasm_kernels() { return &kTable; }
#else
const s7::Kernels *s7::wasm_kernels() { return nullptr; }
#endif
