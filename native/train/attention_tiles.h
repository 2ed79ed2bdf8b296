/* Products in register tiles, and the softmax between two of them (specs/training-arithmetic.md),
 * for attention_head.cpp and hybrid_head.cpp.
 *
 * An element of a product is one chain of fused multiply-adds in the order of the inner index, and
 * a sum over a row is the sixteen chains of a `Wide`. */
#ifndef S7_TRAIN_ATTENTION_TILES_H
#define S7_TRAIN_ATTENTION_TILES_H

#include "lanes.h"
#include "logarithm.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace s7train {
namespace { /* a copy for each instruction set */

constexpr std::size_t kRows = 48, kTileRows = 6,
                      kTileRegisters = S7_WIDTH == 16 || S7_WIDTH == 4 ? 4 : 2;

// A matrix by rows: element (i, j) is at data[i * row + j * column].
struct View {
    const float *data;
    std::size_t row, column;
};

// C[R, N registers] (+)= A[R, n_inner] * B[n_inner, N registers]. Indexes are compile-time
// constants, because GCC would otherwise keep the sums in memory.
template <bool kAdd, std::size_t... R, std::size_t... N>
inline void tile(View a, const float *b, std::size_t b_row, float *c, std::size_t c_row,
                 std::size_t n_inner, std::index_sequence<R...>, std::index_sequence<N...>) {
    constexpr std::size_t n_registers = sizeof...(N);
    Register sum[sizeof...(R)][n_registers];
    const auto load = [&]<std::size_t r>() {
        if constexpr (kAdd) {
            ((sum[r][N] = get(c + r * c_row + N * S7_WIDTH)), ...);
        } else {
            ((sum[r][N] = spread(0.0f)), ...);
        }
    };
    (load.template operator()<R>(), ...);
    for (std::size_t i = 0; i < n_inner; ++i) {
        Register row[n_registers];
        ((row[N] = get(b + i * b_row + N * S7_WIDTH)), ...);
        const auto step = [&]<std::size_t r>() {
            const Register value = spread(a.data[r * a.row + i * a.column]);
            ((sum[r][N] = fused(value, row[N], sum[r][N])), ...);
        };
        (step.template operator()<R>(), ...);
    }
    const auto store = [&]<std::size_t r>() {
        (put(c + r * c_row + N * S7_WIDTH, sum[r][N]), ...);
    };
    (store.template operator()<R>(), ...);
}

template <bool kAdd, std::size_t kR>
void rows(View a, const float *b, std::size_t b_row, float *c, std::size_t c_row,
          std::size_t n_registers, std::size_t n_inner) {
    std::size_t n = 0;
    for (; n + kTileRegisters <= n_registers; n += kTileRegisters)
        tile<kAdd>(a, b + n * S7_WIDTH, b_row, c + n * S7_WIDTH, c_row, n_inner,
                   std::make_index_sequence<kR>{}, std::make_index_sequence<kTileRegisters>{});
    for (; n < n_registers; ++n)
        tile<kAdd>(a, b + n * S7_WIDTH, b_row, c + n * S7_WIDTH, c_row, n_inner,
                   std::make_index_sequence<kR>{}, std::make_index_sequence<1>{});
}

// C[n_rows, n_columns] (+)= A[n_rows, n_inner] * B[n_inner, n_columns]; n_columns is a multiple
// of 16.
template <bool kAdd>
void product(View a, const float *b, std::size_t b_row, float *c, std::size_t c_row,
             std::size_t n_rows, std::size_t n_columns, std::size_t n_inner) {
    const std::size_t n_registers = n_columns / S7_WIDTH;
    std::size_t r = 0;
    const auto at = [&] { return View{a.data + r * a.row, a.row, a.column}; };
    for (; r + kTileRows <= n_rows; r += kTileRows)
        rows<kAdd, kTileRows>(at(), b, b_row, c + r * c_row, c_row, n_registers, n_inner);
    for (; r < n_rows; ++r)
        rows<kAdd, 1>(at(), b, b_row, c + r * c_row, c_row, n_registers, n_inner);
}

// out[head_dim, stride] = in[length, head_dim] transposed. The columns from `length` are zero.
inline void transpose(const float *in, std::size_t length, std::size_t head_dim, float *out,
                      std::size_t stride) {
    for (std::size_t e = 0; e < head_dim; ++e) {
        for (std::size_t t = 0; t < length; ++t) out[e * stride + t] = in[t * head_dim + e];
        std::fill(out + e * stride + length, out + (e + 1) * stride, 0.0f);
    }
}

inline std::size_t rounded(std::size_t n) { return (n + kWide - 1) / kWide * kWide; }

// Replaces scores by weights that are not yet divided by their sum. Returns log(sum) + highest, and
// the sum.
inline std::pair<float, float> soften(float *row, std::size_t n_columns, float scale) {
    Wide most = load(row);
    for (std::size_t j = kWide; j < n_columns; j += kWide) most = largest(most, load(row + j));
    const float top = highest(most) * scale;
    const Wide shift = wide(top), factor = wide(scale);
    Wide sum = wide(0.0f);
    for (std::size_t j = 0; j < n_columns; j += kWide) {
        const Wide weights = exponential(load(row + j) * factor - shift);
        store(row + j, weights);
        sum = sum + weights;
    }
    const float all = total(sum);
    return {static_cast<float>(logarithm(all)) + top, all};
}

// Divides each of `n` floats by `divisor`; n is a multiple of 16.
inline void divide(float *row, std::size_t n, float divisor) {
    for (std::size_t e = 0; e < n; e += kWide) store(row + e, load(row + e) / wide(divisor));
}

// The sum of the products of two rows of `n` floats; n is a multiple of 16.
inline float dot(const float *x, const float *y, std::size_t n) {
    Wide sum = wide(0.0f);
    for (std::size_t e = 0; e < n; e += kWide) sum = fused(load(x + e), load(y + e), sum);
    return total(sum);
}

// Replaces the scores and the gradients of weights of a row by the weights and the gradients of
// scores.
inline void soften_slopes(float *weights, float *slopes, std::size_t n_columns, float scale,
                          float log_sum, float mean) {
    const Wide factor = wide(scale), shift = wide(log_sum), share = wide(mean);
    for (std::size_t j = 0; j < n_columns; j += kWide) {
        const Wide weight = exponential(load(weights + j) * factor - shift);
        store(weights + j, weight);
        store(slopes + j, (weight * (load(slopes + j) - share)) * factor);
    }
}

}  // namespace
}  // namespace s7train
#endif
