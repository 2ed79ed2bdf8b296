/* One key/value head, the argument of the loops of each instruction set (attention_head.cpp,
 * hybrid_head.cpp). */
#ifndef S7_TRAIN_KERNELS_H
#define S7_TRAIN_KERNELS_H

#include "attention.h"

#include <cstddef>

namespace s7train {

/* One key/value head and the query heads that share it. Pointers are as in attention.h and point to
 * this head. */
struct Head {
    const float *q, *k, *v, *grad_y;
    const float *y_in, *log_sum_in;
    float *y, *log_sum, *grad_q, *grad_k, *grad_v;
    std::size_t length, head_dim, n_queries; /* n_queries heads lie one behind the other */
    std::size_t scaled_dim;                  /* whose root divides the scores */
};

/* The same for hybrid attention. Pointers are as in hybrid.h. */
struct HybridHead {
    const float *q, *q_turned, *k, *k_turned, *v, *key_score, *value_score;
    const float *grad_y, *y_in, *log_sum_in;
    float *y, *log_sum;
    float *grad_q, *grad_q_turned, *grad_k, *grad_k_turned, *grad_v;
    float *grad_key_score, *grad_value_score;
    std::size_t length, head_dim, n_queries, scaled_dim, window, stride, ring;
    float temper;

    /* The offset of the scores of key/value head `index` of the whole batch. */
    std::size_t score_at(std::size_t n_kv_heads, std::size_t index, bool is_value) const {
        const std::size_t row = index / n_kv_heads * 2 * n_kv_heads + index % n_kv_heads;
        return (row + (is_value ? n_kv_heads : 0)) * length;
    }
};

/* Whether a shape is within the bounds of attention.h. */
bool sound(const s7_attention_shape *shape);

/* Whether S7_ISA, which forces an instruction set as for the inference engine, permits AVX-512. */
bool wide_allowed();

/* The floats of scratch memory for either loop, aligned to 64 bytes. */
std::size_t scratch_floats(std::size_t length, std::size_t head_dim);

}  // namespace s7train
#endif
