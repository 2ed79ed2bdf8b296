// The oracle of the native engine: plain portable C++.
#include "generic_kernels.h"

namespace {

void dot(const i8 *panels, i64 panel_bytes, i64 n_panels, i64 n_groups, const i8 *acts,
         i64 acts_stride, i64 n, i32 *out, i64 out_stride) {
    for (i64 t = 0; t < n; ++t) {
        for (i64 p = 0; p < n_panels; ++p) {
            const i8 *cell = panels + p * panel_bytes;
            i32 acc[s7::kPanel] = {};
            for (i64 g = 0; g < n_groups; ++g, cell += s7::kCell) {
                for (i64 o = 0; o < s7::kPanel; ++o) {
                    for (i64 i = 0; i < s7::kGroup; ++i) {
                        acc[o] += i32{cell[o * s7::kGroup + i]} *
                                  acts[t * acts_stride + g * s7::kGroup + i];
                    }
                }
            }
            for (i64 o = 0; o < s7::kPanel; ++o) out[t * out_stride + p * s7::kPanel + o] = acc[o];
        }
    }
}

constexpr s7::Kernels kTable = table_of<dot>();

}  // namespace

const s7::Kernels *s7::scalar_kernels() { return &kTable; }
