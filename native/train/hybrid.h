/* Hybrid attention (specs/attention.md) for training, forward and backward, float32, under
 * specs/training-arithmetic.md: a local window and summaries of strides under one softmax. One call
 * works through every head of a batch of documents of one length. */
#ifndef S7_TRAIN_HYBRID_H
#define S7_TRAIN_HYBRID_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `heads` as in attention.h. Tokens read `window` positions, and the `ring` newest summaries of
 * `stride` positions each; `temper` multiplies the scores of summaries. */
typedef struct {
    s7_attention_shape heads;
    int32_t window, stride, ring;
    float temper;
} s7_hybrid_shape;

/* Arrays as in attention.h; `_turned` ones are rotated by position, the others are not. score, and
 * its slope, are [n_batch, 2 * n_kv_heads, length]: those of keys, then those of values. */
typedef struct {
    const float *q, *q_turned, *k, *k_turned, *v, *score;
} s7_hybrid_inputs;
typedef struct {
    float *q, *q_turned, *k, *k_turned, *v, *score;
} s7_hybrid_slopes;

S7_TRAIN_CALL s7_hybrid_forward(const s7_hybrid_shape *shape, const s7_hybrid_inputs *in, float *y,
                                float *log_sum);
/* The slopes from grad_y. That of q is what came through the summaries alone, that of q_turned what
 * came through the window; of keys likewise. */
S7_TRAIN_CALL s7_hybrid_backward(const s7_hybrid_shape *shape, const s7_hybrid_inputs *in,
                                 const float *y, const float *log_sum, const float *grad_y,
                                 const s7_hybrid_slopes *out);

#ifdef __cplusplus
}
#endif
#endif
