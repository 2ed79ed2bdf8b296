/* The BF16 loops for the calls of bf16.cpp: one key/value head, or some rows. */
#ifndef S7_TRAIN_BF16_KERNELS_H
#define S7_TRAIN_BF16_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace s7train::bf16 {

/* Vectors of one key/value head (or of the query heads that share it). Strides are in elements. */
struct Vectors {
    std::uint16_t *data;
    std::size_t token, head;
    std::uint16_t *at(std::size_t query, std::size_t position) const {
        return data + query * head + position * token;
    }
};

struct Head {
    Vectors q, k, v, y, grad_y, grad_q, grad_k, grad_v;
    const float *cosine, *sine; /* null: not turned */
    float *log_sum;             /* [n_queries, length]; backward reads it */
    std::size_t length, head_dim, n_queries;
};

/* The bytes of scratch memory for either loop, aligned to 64 bytes. */
std::size_t scratch_bytes(std::size_t length, std::size_t head_dim);
void attention_forward(const Head &, char *scratch);
void attention_backward(const Head &, char *scratch);

/* Rows [begin, end) of n columns. */
struct Range {
    std::size_t begin, end, n;
};

void norm_forward(Range, const float *x, const float *weight, float eps, std::uint16_t *y,
                  float *inverse);
/* `partial` [n] gets the gradient of the weight over these rows. */
void norm_backward(Range, const float *x, const float *weight, const float *inverse,
                   const std::uint16_t *grad_y, const float *beside, float *grad_x, float *partial);
void swiglu_forward(Range, std::size_t stride, const std::uint16_t *gate, const std::uint16_t *up,
                    std::uint16_t *y);
void swiglu_backward(Range, std::size_t stride, const std::uint16_t *gate, const std::uint16_t *up,
                     const std::uint16_t *grad_y, std::size_t grad_stride, std::uint16_t *grad_gate,
                     std::uint16_t *grad_up);
/* `row` holds n floats. */
void cross_entropy(Range, std::uint16_t *logits, const std::int64_t *target, const float *counted,
                   float *loss, float *row);
void add(Range, const float *x, const std::uint16_t *y, float *sum);

}  // namespace s7train::bf16
#endif
