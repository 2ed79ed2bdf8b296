/* Hybrid attention (specs/attention.md) for training, forward and backward, in float32 under
 * specs/training-arithmetic.md: a local window and summaries of strides under one softmax. One call
 * computes all heads of a batch of documents with one length. */
#ifndef S7_TRAIN_HYBRID_H
#define S7_TRAIN_HYBRID_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `heads` as in attention.h. Tokens read `window` positions, and the `ring` newest summaries of
 * `stride` positions each. `temper` multiplies the scores of summaries. */
typedef struct {
    s7_attention_shape heads;
    int32_t window, stride, ring;
    float temper;
} s7_hybrid_shape;

/* Arrays as in attention.h. Those named `_turned` are rotated by position, the others are not.
 * score and its gradient are [n_batch, 2 * n_kv_heads, length]: first those of keys, then those of
 * values. */
typedef struct {
    const float *q, *q_turned, *k, *k_turned, *v, *score;
} s7_hybrid_inputs;
typedef struct {
    float *q, *q_turned, *k, *k_turned, *v, *score;
} s7_hybrid_slopes;

S7_TRAIN_CALL s7_hybrid_forward(const s7_hybrid_shape *shape, const s7_hybrid_inputs *in, float *y,
                                float *log_sum);
/* The gradients from grad_y. That of q comes only from the summaries, and that of q_turned only
 * from the window; the same holds for keys. */
S7_TRAIN_CALL s7_hybrid_backward(const s7_hybrid_shape *shape, const s7_hybrid_inputs *in,
                                 const float *y, const float *log_sum, const float *grad_y,
                                 const s7_hybrid_slopes *out);

#ifdef __cplusplus
}
#endif
#endif
