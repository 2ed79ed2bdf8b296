/* BF16 training on the processor: attention, and the operations between the products of a block. It
 * needs AVX512-BF16.
 *
 * Elements of type uint16_t are BF16 (the upper half of a float32). Products of pairs are summed in
 * float32. Softmax, norm and loss are float32. Every sum has one order, so the bits do not depend
 * on the number of threads. */
#ifndef S7_TRAIN_BF16_H
#define S7_TRAIN_BF16_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Vectors of head_dim adjacent elements. The strides are in elements. */
typedef struct {
    uint16_t *data;
    int64_t batch, token, head;
} s7_bf16_heads;

/* n_rows rows of n_columns. The stride of a matrix is the distance of two rows. n_threads is from 1
 * to 64. */
typedef struct {
    int64_t n_rows, n_columns;
    int32_t n_threads;
} s7_bf16_rows;

/* Returns 1 if this processor has the instructions and S7_ISA does not forbid them. */
S7_TRAIN_CALL s7_bf16_available(void);

/* Attention as in attention.h. Queries and keys are rotated by `cosine` and `sine` [length,
 * head_dim / 2] (pairs i, i + head_dim / 2) while they are read, and their gradients are rotated
 * back. If both are null, nothing is rotated. */
S7_TRAIN_CALL s7_bf16_attention_forward(const s7_attention_shape *shape, const s7_bf16_heads *q,
                                        const s7_bf16_heads *k, const s7_bf16_heads *v,
                                        const float *cosine, const float *sine,
                                        const s7_bf16_heads *y, float *log_sum);
S7_TRAIN_CALL s7_bf16_attention_backward(const s7_attention_shape *shape, const s7_bf16_heads *q,
                                         const s7_bf16_heads *k, const s7_bf16_heads *v,
                                         const float *cosine, const float *sine,
                                         const s7_bf16_heads *y, const float *log_sum,
                                         const s7_bf16_heads *grad_y, const s7_bf16_heads *grad_q,
                                         const s7_bf16_heads *grad_k, const s7_bf16_heads *grad_v);

/* RMSNorm: y = x * inverse * weight, inverse [n_rows] = 1 / sqrt(mean(x^2) + eps). */
S7_TRAIN_CALL s7_bf16_norm_forward(const s7_bf16_rows *rows, const float *x, const float *weight,
                                   float eps, uint16_t *y, float *inverse);
/* grad_x = beside + the gradient through y; grad_weight [n_columns]. */
S7_TRAIN_CALL s7_bf16_norm_backward(const s7_bf16_rows *rows, const float *x, const float *weight,
                                    const float *inverse, const uint16_t *grad_y,
                                    const float *beside, float *grad_x, float *grad_weight);

/* y = silu(gate) * up. gate and up (and their gradients) have `stride`. */
S7_TRAIN_CALL s7_bf16_swiglu_forward(const s7_bf16_rows *rows, int64_t stride, const uint16_t *gate,
                                     const uint16_t *up, uint16_t *y);
S7_TRAIN_CALL s7_bf16_swiglu_backward(const s7_bf16_rows *rows, int64_t stride,
                                      const uint16_t *gate, const uint16_t *up,
                                      const uint16_t *grad_y, int64_t grad_stride,
                                      uint16_t *grad_gate, uint16_t *grad_up);

/* Replaces logits by their gradients (softmax minus the target, times `counted`), and computes the
 * loss of each row (nats) times `counted`, which may be null. Returns S7_TRAIN_SHAPE for a target
 * outside the columns. */
S7_TRAIN_CALL s7_bf16_cross_entropy(const s7_bf16_rows *rows, uint16_t *logits,
                                    const int64_t *target, const float *counted, float *loss);

/* sum = x + y, all dense; sum may be x. */
S7_TRAIN_CALL s7_bf16_add(const s7_bf16_rows *rows, const float *x, const uint16_t *y, float *sum);

#ifdef __cplusplus
}
#endif
#endif
