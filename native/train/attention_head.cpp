// Attention of one head in blocks of rows: a product in register tiles, and the softmax between two
// of them.
//
// Compiled once for each instruction set. An element of a product is one chain of fused
// multiply-adds in the order of the inner index, and a sum over a row is the sixteen chains of a
// `Wide` (specs/training-arithmetic.md).
//
// Blocks have kRows rows, so that the scores of a block stay in the second-level cache; columns
// behind a block's last row are not computed. The weights are not kept: the backward loop computes
// them again from the rows' log-sums (arXiv 2205.14135).

#include "lanes.h"
#include "logarithm.h"
#include "operators_set.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

namespace s7train {
namespace {

constexpr std::size_t kRows = 48, kTileRows = 6,
                      kTileRegisters = S7_WIDTH == 16 || S7_WIDTH == 4 ? 4 : 2;

// A matrix by rows: element (i, j) is at data[i * row + j * column].
struct View {
    const float *data;
    std::size_t row, column;
};

// C[R, N registers] (+)= A[R, n_inner] * B[n_inner, N registers]. Indexes are constants of the
// text, or GCC keeps the sums in memory.
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

// out[head_dim, stride] = in[length, head_dim] transposed; the columns from `length` on are zero.
void transpose(const float *in, std::size_t length, std::size_t head_dim, float *out,
               std::size_t stride) {
    for (std::size_t e = 0; e < head_dim; ++e) {
        for (std::size_t t = 0; t < length; ++t) out[e * stride + t] = in[t * head_dim + e];
        std::fill(out + e * stride + length, out + (e + 1) * stride, 0.0f);
    }
}

// The columns behind a row's own position weigh nothing.
inline void hide_future(float *row, std::size_t position, std::size_t n_columns) {
    std::fill(row + position + 1, row + n_columns, -INFINITY);
}

// Scores to weights that are not yet divided by their sum; returns log(sum) + highest, and the sum.
std::pair<float, float> soften(float *row, std::size_t position, std::size_t n_columns,
                               float scale) {
    hide_future(row, position, n_columns);
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

inline std::size_t rounded(std::size_t n) { return (n + kWide - 1) / kWide * kWide; }

inline float scale_of(const Head &head) {
    return 1.0f / std::sqrt(static_cast<float>(head.scaled_dim));
}

struct Scratch {
    float *k, *v, *scores, *slopes;
    std::size_t stride;
    Scratch(float *base, std::size_t length, std::size_t head_dim) : stride(rounded(length)) {
        k = base;
        v = k + head_dim * stride;
        scores = v + head_dim * stride;
        slopes = scores + kRows * stride;
    }
};

// Scores and slopes of a row's weights to weights and slopes of scores.
void soften_slopes(float *weights, float *slopes, std::size_t n_columns, float scale, float log_sum,
                   float mean) {
    const Wide factor = wide(scale), shift = wide(log_sum), share = wide(mean);
    for (std::size_t j = 0; j < n_columns; j += kWide) {
        const Wide weight = exponential(load(weights + j) * factor - shift);
        store(weights + j, weight);
        store(slopes + j, (weight * (load(slopes + j) - share)) * factor);
    }
}

}  // namespace

namespace S7_SET {

void attend(const Head &head, float *base) {
    const std::size_t length = head.length, dim = head.head_dim;
    const Scratch s(base, length, dim);
    const float scale = scale_of(head);
    transpose(head.k, length, dim, s.k, s.stride);
    for (std::size_t query = 0; query < head.n_queries; ++query) {
        const float *q = head.q + query * length * dim;
        float *y = head.y + query * length * dim, *log_sum = head.log_sum + query * length;
        for (std::size_t start = 0; start < length; start += kRows) {
            const std::size_t n_rows = std::min(kRows, length - start),
                              n_columns = rounded(start + n_rows);
            product<false>({q + start * dim, dim, 1}, s.k, s.stride, s.scores, s.stride, n_rows,
                           n_columns, dim);
            float sums[kRows];
            for (std::size_t r = 0; r < n_rows; ++r)
                std::tie(log_sum[start + r], sums[r]) =
                    soften(s.scores + r * s.stride, start + r, n_columns, scale);
            product<false>({s.scores, s.stride, 1}, head.v, dim, y + start * dim, dim, n_rows, dim,
                           start + n_rows);
            for (std::size_t r = 0; r < n_rows; ++r)
                for (std::size_t e = 0; e < dim; e += kWide) {
                    float *at = y + (start + r) * dim + e;
                    store(at, load(at) / wide(sums[r]));
                }
        }
    }
}

void attend_slope(const Head &head, float *base) {
    const std::size_t length = head.length, dim = head.head_dim;
    const Scratch s(base, length, dim);
    const float scale = scale_of(head);
    transpose(head.k, length, dim, s.k, s.stride);
    transpose(head.v, length, dim, s.v, s.stride);
    std::fill(head.grad_k, head.grad_k + length * dim, 0.0f);
    std::fill(head.grad_v, head.grad_v + length * dim, 0.0f);
    for (std::size_t query = 0; query < head.n_queries; ++query) {
        const std::size_t offset = query * length * dim;
        for (std::size_t start = 0; start < length; start += kRows) {
            const std::size_t n_rows = std::min(kRows, length - start),
                              n_columns = rounded(start + n_rows);
            const std::size_t at = offset + start * dim, end = start + n_rows;
            const float *q = head.q + at, *y = head.y_in + at, *grad = head.grad_y + at;
            product<false>({q, dim, 1}, s.k, s.stride, s.scores, s.stride, n_rows, n_columns, dim);
            product<false>({grad, dim, 1}, s.v, s.stride, s.slopes, s.stride, n_rows, n_columns,
                           dim);
            for (std::size_t r = 0; r < n_rows; ++r) {
                Wide both = wide(0.0f);
                for (std::size_t e = 0; e < dim; e += kWide)
                    both = fused(load(y + r * dim + e), load(grad + r * dim + e), both);
                hide_future(s.scores + r * s.stride, start + r, n_columns);
                soften_slopes(s.scores + r * s.stride, s.slopes + r * s.stride, n_columns, scale,
                              head.log_sum_in[query * length + start + r], total(both));
            }
            product<false>({s.slopes, s.stride, 1}, head.k, dim, head.grad_q + at, dim, n_rows, dim,
                           end);
            product<true>({s.scores, 1, s.stride}, grad, dim, head.grad_v, dim, end, dim, n_rows);
            product<true>({s.slopes, 1, s.stride}, q, dim, head.grad_k, dim, end, dim, n_rows);
        }
    }
}

}  // namespace S7_SET
}  // namespace s7train
