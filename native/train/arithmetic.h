/* The operators of a training step in FP32. specs/training-arithmetic.md defines every bit of a
 * result, and neither the instruction set nor the number of threads changes one.
 *
 * Arrays are dense rows unless a stride is given. Each call sets the floating-point mode of every
 * thread that it uses (round to nearest, subnormals kept), reads it back, and restores the mode
 * that it found. */
#ifndef S7_TRAIN_ARITHMETIC_H
#define S7_TRAIN_ARITHMETIC_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the page. */
enum { S7_ARITHMETIC = 1 };

/* Returns 1 if this processor has one of the instruction sets, and the one that S7_ISA names, if it
 * names one. */
S7_TRAIN_CALL s7_arithmetic_available(void);
/* The instruction set in use: 1 scalar, 2 AVX2, 3 AVX-512, 4 NEON; 0: none. */
S7_TRAIN_CALL s7_arithmetic_isa(void);

/* c[m, n] = a[m, k] b[k, n], or c + a b. Element (i, j) of a is a[i * a_row + j * a_column], and so
 * for b; c is stored by rows. */
typedef struct {
    const float *a, *b;
    float *c;
    int64_t m, n, k, a_row, a_column, b_row, b_column, c_row;
    int32_t is_added, n_threads;
} s7_product_of;
S7_TRAIN_CALL s7_product(const s7_product_of *product);

/* y = x * scale * gain, scale = 1 / sqrt(mean(x^2) + eps) of each row; x, y [n_rows, n], gain [n],
 * scale [n_rows]. */
S7_TRAIN_CALL s7_norm(const float *x, const float *gain, float eps, float *y, float *scale,
                      int64_t n_rows, int64_t n, int32_t n_threads);
/* From grad [n_rows, n]: grad_x [n_rows, n], with `beside` added if it is not null, and grad_gain
 * [n]. Each may be null. */
S7_TRAIN_CALL s7_norm_slope(const float *x, const float *gain, const float *scale,
                            const float *grad, const float *beside, float *grad_x, float *grad_gain,
                            int64_t n_rows, int64_t n, int32_t n_threads);

/* y = silu(gate) * up, element by element, and its two gradients. */
S7_TRAIN_CALL s7_gate(const float *gate, const float *up, float *y, int64_t n, int32_t n_threads);
S7_TRAIN_CALL s7_gate_slope(const float *gate, const float *up, const float *grad, float *grad_gate,
                            float *grad_up, int64_t n, int32_t n_threads);

/* Rotates the pairs (i, i + n_pairs) of each head's vector by its position; direction -1 rotates
 * back. Strides are in floats, for batch, head and position; cosine and sine are [length, n_pairs].
 */
typedef struct {
    const float *x, *cosine, *sine;
    float *y;
    int64_t n_batch, n_heads, length, n_pairs;
    int64_t x_batch, x_head, x_position, y_batch, y_head, y_position;
    int32_t direction, n_threads;
} s7_turn;
S7_TRAIN_CALL s7_rotate(const s7_turn *turn);
/* cosine and sine [length, n_pairs] of position * frequency, times temperature. */
S7_TRAIN_CALL s7_rotation_tables(const double *frequency, double temperature, float *cosine,
                                 float *sine, int64_t length, int64_t n_pairs);

/* The losses [n_rows] (nats) of the logits [n_rows, n]. With `factor` [n_rows] the logits become
 * their gradients times the factor; without it they are unchanged. */
typedef struct {
    float *logits;
    const int64_t *target;
    const float *factor;
    float *loss;
    int64_t n_rows, n;
    int32_t n_threads;
} s7_losses_of;
S7_TRAIN_CALL s7_losses(const s7_losses_of *losses);

/* grad_table[ids[i]] += grad[i], i ascending; grad [n_ids, n], ids below n_rows. */
S7_TRAIN_CALL s7_scatter_add(const int64_t *ids, const float *grad, float *grad_table,
                             int64_t n_ids, int64_t n_rows, int64_t n, int32_t n_threads);

/* z = x + y; z = x * factor. z may be x. */
S7_TRAIN_CALL s7_add(const float *x, const float *y, float *z, int64_t n, int32_t n_threads);
S7_TRAIN_CALL s7_scale(const float *x, float factor, float *z, int64_t n, int32_t n_threads);

/* The sum of the squares of each row of x [n_rows, n], in sums [n_rows]. */
S7_TRAIN_CALL s7_row_squares(const float *x, float *sums, int64_t n_rows, int64_t n,
                             int32_t n_threads);
/* The sum of x [n] in binary64, in ascending order. */
S7_TRAIN_CALL s7_sum(const float *x, int64_t n, double *sum);

/* One update of n elements. decay 1: no decoupled decay; added_decay 0: no decay in the gradient.
 */
typedef struct {
    float *weight, *mean, *square;
    const float *grad;
    int64_t n;
    float beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, root_correction, eps, decay,
        added_decay;
    int32_t n_threads;
} s7_adam_of;
S7_TRAIN_CALL s7_adam(const s7_adam_of *adam);

/* Normal deviates with standard deviation std: elements of stream `stream` under `key`, from
 * element `first`. */
S7_TRAIN_CALL s7_normal(uint64_t key, uint64_t stream, uint64_t first, double std, float *to,
                        int64_t n, int32_t n_threads);
/* y = x * factor if the draw of an element is not below `threshold`, else 0. The same call computes
 * the gradient. */
S7_TRAIN_CALL s7_dropout(uint64_t key, uint64_t stream, uint32_t threshold, float factor,
                         const float *x, float *y, int64_t n, int32_t n_threads);

#ifdef __cplusplus
}
#endif
#endif
