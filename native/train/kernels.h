/* The two loops of one key/value head, as each instruction set compiles them (kernels.cpp). */
#ifndef S7_TRAIN_KERNELS_H
#define S7_TRAIN_KERNELS_H

#include "attention.h"

#include <cstddef>

namespace s7train {

/* One key/value head and the query heads that share it; pointers as in attention.h, at this head's place. */
struct Head {
    const float *q, *k, *v, *grad_y;
    const float *y_in, *log_sum_in;
    float *y, *log_sum, *grad_q, *grad_k, *grad_v;
    std::size_t length, head_dim, n_queries; /* n_queries heads lie one behind the other */
};

/* Whether a shape is within the bounds of attention.h. */
bool sound(const s7_attention_shape *shape);

/* S7_ISA forces an instruction set, as it does for the inference engine; whether it leaves AVX-512. */
bool wide_allowed();

struct Kernels {
    void (*forward)(const Head &, float *scratch);
    void (*backward)(const Head &, float *scratch);
};

/* Floats of scratch for either loop; aligned to 64 bytes. */
std::size_t scratch_floats(std::size_t length, std::size_t head_dim);

extern const Kernels avx2, avx512;

} // namespace s7train
#endif
