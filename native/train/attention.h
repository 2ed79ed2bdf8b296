/* Exact causal attention for training, forward and backward, in float32. One call computes all
 * heads of a batch.
 *
 * Every sum has the order of specs/training-arithmetic.md, so the bits do not depend on the number
 * of threads or on the instruction set (any with fused multiply-add). Arrays are dense: q, y,
 * grad_y, grad_q [n_batch, n_heads, length, head_dim]; k, v, grad_k, grad_v with n_kv_heads instead
 * of n_heads; log_sum [n_batch, n_heads, length]. */
#ifndef S7_TRAIN_ATTENTION_H
#define S7_TRAIN_ATTENTION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S7_TRAIN_CALL __attribute__((visibility("default"))) int32_t

enum {
    S7_TRAIN_ABI = 4,
    S7_TRAIN_OK = 0,
    S7_TRAIN_SHAPE = 1,
    S7_TRAIN_MEMORY = 2,
    S7_TRAIN_NOT_HERE = 3,
    S7_TRAIN_MODE = 4,
    S7_TRAIN_GPU = 5
};

/* n_heads is a multiple of n_kv_heads, head_dim a multiple of 16 up to 256; n_threads from 1 to 64.
 * Scores are divided by the square root of scaled_dim, which is less than head_dim when vectors are
 * padded with zeros. BF16 calls use head_dim. */
typedef struct {
    int32_t n_batch, n_heads, n_kv_heads, length, head_dim, n_threads, scaled_dim;
} s7_attention_shape;

/* The version of this header with which the library was built. */
S7_TRAIN_CALL s7_train_abi(void);
/* Returns 1 if this processor has the instructions of the kernels. */
S7_TRAIN_CALL s7_train_available(void);

/* y = softmax(q k^T / sqrt(scaled_dim), causal) v. The backward call needs log_sum. */
S7_TRAIN_CALL s7_attention_forward(const s7_attention_shape *shape, const float *q, const float *k,
                                   const float *v, float *y, float *log_sum);
/* The three gradients from grad_y. */
S7_TRAIN_CALL s7_attention_backward(const s7_attention_shape *shape, const float *q, const float *k,
                                    const float *v, const float *y, const float *log_sum,
                                    const float *grad_y, float *grad_q, float *grad_k,
                                    float *grad_v);

#ifdef __cplusplus
}
#endif
#endif
