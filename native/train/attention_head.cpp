// Causal attention of one head in blocks of rows. Compiled once for each instruction set.
//
// Blocks have kRows rows, so that the scores of a block stay in the second-level cache. Columns
// after a block's last row are not computed. The weights are not stored. The backward loop computes
// them again from the log-sums of the rows (arXiv 2205.14135).

#include "attention_tiles.h"
#include "operators_set.h"

#include <tuple>

namespace s7train {
namespace {

// The columns behind a row's own position weigh nothing.
inline void hide_future(float *row, std::size_t position, std::size_t n_columns) {
    std::fill(row + position + 1, row + n_columns, -INFINITY);
}

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
            for (std::size_t r = 0; r < n_rows; ++r) {
                float *row = s.scores + r * s.stride;
                hide_future(row, start + r, n_columns);
                std::tie(log_sum[start + r], sums[r]) = soften(row, n_columns, scale);
            }
            product<false>({s.scores, s.stride, 1}, head.v, dim, y + start * dim, dim, n_rows, dim,
                           start + n_rows);
            for (std::size_t r = 0; r < n_rows; ++r) divide(y + (start + r) * dim, dim, sums[r]);
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
                hide_future(s.scores + r * s.stride, start + r, n_columns);
                soften_slopes(s.scores + r * s.stride, s.slopes + r * s.stride, n_columns, scale,
                              head.log_sum_in[query * length + start + r],
                              dot(y + r * dim, grad + r * dim, dim));
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
