// Hybrid attention of one key/value head: summaries of strides, then blocks of rows over a window
// of keys and a run of summaries, under one softmax. Compiled once for each instruction set.
//
// As in causal attention the weights are not stored. Summaries are not stored either. The backward
// loop computes them again, which costs two products of a position's width for each position.

#include "attention_tiles.h"
#include "operators_set.h"

#include <tuple>

namespace s7train {
namespace {

constexpr float kTiny = 1e-12f;

struct Scratch {
    float *k, *v, *key_t, *value_t, *key, *value, *grad_key, *grad_value, *length_k, *length_v;
    float *weights, *slopes_of_weights, *mean, *slope, *scores, *slopes;
    std::size_t stride, summaries, row;

    Scratch(float *base, const HybridHead &h)
        : stride(rounded(h.length)),
          summaries(rounded(h.length / h.stride)),
          row(stride + summaries) {
        const auto take = [&](std::size_t n) {
            float *found = base;
            base += n;
            return found;
        };
        const std::size_t dim = h.head_dim, run = rounded(2 * h.stride);
        k = take(dim * stride), v = take(dim * stride);
        key_t = take(dim * summaries), value_t = take(dim * summaries);
        key = take(dim * summaries), value = take(dim * summaries);
        grad_key = take(dim * summaries), grad_value = take(dim * summaries);
        length_k = take(stride), length_v = take(stride);
        weights = take(run), slopes_of_weights = take(run);
        mean = take(dim), slope = take(dim);
        scores = take(kRows * row), slopes = take(kRows * row);
    }
};

inline float length_of(const float *x, std::size_t dim) {
    return std::sqrt(dot(x, x, dim) + kTiny);
}

// The positions of summary c: its stride and the one before it.
struct Positions {
    std::size_t first, n;
    Positions(std::size_t c, std::size_t stride)
        : first(c ? (c - 1) * stride : 0), n((c + 1) * stride - first) {}
};

// The softmax of n scores as n weights. `to` has room for whole lanes.
void weigh(const float *score, std::size_t n, float *to) {
    std::fill(to, to + rounded(n), -INFINITY);
    std::memcpy(to, score, n * sizeof(float));
    Wide most = load(to);
    for (std::size_t j = kWide; j < n; j += kWide) most = largest(most, load(to + j));
    const Wide top = wide(highest(most));
    Wide sum = wide(0.0f);
    for (std::size_t j = 0; j < n; j += kWide) {
        const Wide e = exponential(load(to + j) - top);
        store(to + j, e);
        sum = sum + e;
    }
    divide(to, rounded(n), total(sum));
}

// Writes the weighted mean to `mean`. Returns its length, and the factor that gives it the mean
// length.
std::pair<float, float> average(const float *weights, const float *x, const float *lengths,
                                std::size_t n, std::size_t dim, float *mean) {
    for (std::size_t e = 0; e < dim; e += kWide) {
        Wide sum = wide(0.0f);
        for (std::size_t j = 0; j < n; ++j)
            sum = fused(wide(weights[j]), load(x + j * dim + e), sum);
        store(mean + e, sum);
    }
    float share = 0.0f;
    for (std::size_t j = 0; j < n; ++j) share = std::fma(weights[j], lengths[j], share);
    const float length = length_of(mean, dim);
    return {length, share / length};
}

// The summaries of x by rows, and transposed.
void summarize(const HybridHead &h, const Scratch &s, const float *x, const float *score,
               float *lengths, float *to, float *transposed) {
    const std::size_t dim = h.head_dim, n_summaries = h.length / h.stride;
    for (std::size_t t = 0; t < n_summaries * h.stride; ++t)
        lengths[t] = length_of(x + t * dim, dim);
    for (std::size_t c = 0; c < n_summaries; ++c) {
        const Positions of(c, h.stride);
        weigh(score + of.first, of.n, s.weights);
        const float factor =
            average(s.weights, x + of.first * dim, lengths + of.first, of.n, dim, s.mean).second;
        for (std::size_t e = 0; e < dim; e += kWide)
            store(to + c * dim + e, load(s.mean + e) * wide(factor));
    }
    transpose(to, n_summaries, dim, transposed, s.summaries);
}

// Adds the gradients of x and of the scores from those of the summaries, stride by stride.
void summarize_slope(const HybridHead &h, const Scratch &s, const float *x, const float *score,
                     const float *lengths, const float *grad, float *grad_x, float *grad_score) {
    const std::size_t dim = h.head_dim, n_summaries = h.length / h.stride;
    for (std::size_t c = 0; c < n_summaries; ++c, grad += dim) {
        const Positions of(c, h.stride);
        const float *from = x + of.first * dim, *length_of_each = lengths + of.first;
        weigh(score + of.first, of.n, s.weights);
        const auto [length, factor] = average(s.weights, from, length_of_each, of.n, dim, s.mean);
        const float along = dot(grad, s.mean, dim), grad_share = along / length;
        const Wide back = wide((((along * factor) / length) / length) * -1.0f);
        for (std::size_t e = 0; e < dim; e += kWide)
            store(s.slope + e, fused(load(s.mean + e), back, load(grad + e) * wide(factor)));
        float mean = 0.0f;
        for (std::size_t j = 0; j < of.n; ++j) {
            s.slopes_of_weights[j] =
                std::fma(grad_share, length_of_each[j], dot(s.slope, from + j * dim, dim));
            mean = std::fma(s.weights[j], s.slopes_of_weights[j], mean);
        }
        for (std::size_t j = 0; j < of.n; ++j) {
            const float weight = s.weights[j];
            const Wide share = wide((grad_share * weight) / length_of_each[j]);
            float *to = grad_x + (of.first + j) * dim;
            for (std::size_t e = 0; e < dim; e += kWide) {
                const Wide through = fused(wide(weight), load(s.slope + e), load(to + e));
                store(to + e, fused(load(from + j * dim + e), share, through));
            }
            float *slope = grad_score + of.first + j;
            *slope = *slope + weight * (s.slopes_of_weights[j] - mean);
        }
    }
}

// The columns of a block of rows: keys from `first` to `end`, then summaries from `first_summary`
// to `end_summary`. The first of each is a multiple of 16, and each part is padded to a multiple of
// 16.
struct Block {
    std::size_t start, n_rows, end, first, n_keys, first_summary, end_summary, n_summaries;
    Block(const HybridHead &h, std::size_t from)
        : start(from), n_rows(std::min(kRows, h.length - from)), end(from + n_rows) {
        first = (start + 1 > h.window ? start + 1 - h.window : 0) / kWide * kWide;
        n_keys = rounded(end) - first;
        const std::size_t newest = (start + 1) / h.stride;
        first_summary = (newest > h.ring ? newest - h.ring : 0) / kWide * kWide;
        end_summary = end / h.stride;
        n_summaries = rounded(end_summary) - first_summary;
    }
    std::size_t n_columns() const { return n_keys + n_summaries; }
};

// Columns that a row may not read get the weight 0.
void hide(const HybridHead &h, const Block &b, std::size_t position, float *row) {
    const std::size_t oldest = position + 1 > h.window ? position + 1 - h.window : 0;
    if (oldest > b.first) std::fill(row, row + (oldest - b.first), -INFINITY);
    std::fill(row + (position + 1 - b.first), row + b.n_keys, -INFINITY);
    float *summaries = row + b.n_keys;
    const std::size_t n_complete = (position + 1) / h.stride,
                      forgotten = n_complete > h.ring ? n_complete - h.ring : 0;
    if (forgotten > b.first_summary)
        std::fill(summaries, summaries + (forgotten - b.first_summary), -INFINITY);
    std::fill(summaries + (n_complete - b.first_summary), summaries + b.n_summaries, -INFINITY);
}

inline void temper(const HybridHead &h, const Block &b, float *row) {
    for (std::size_t j = b.n_keys; j < b.n_columns(); j += kWide)
        store(row + j, load(row + j) * wide(h.temper));
}

// The scores of a block, with unreadable columns hidden.
void score(const HybridHead &h, const Scratch &s, const Block &b, const float *q,
           const float *q_turned) {
    const std::size_t dim = h.head_dim;
    product<false>({q_turned, dim, 1}, s.k + b.first, s.stride, s.scores, s.row, b.n_rows, b.n_keys,
                   dim);
    product<false>({q, dim, 1}, s.key_t + b.first_summary, s.summaries, s.scores + b.n_keys, s.row,
                   b.n_rows, b.n_summaries, dim);
    for (std::size_t r = 0; r < b.n_rows; ++r) {
        temper(h, b, s.scores + r * s.row);
        hide(h, b, b.start + r, s.scores + r * s.row);
    }
}

void prepare(const HybridHead &h, const Scratch &s) {
    transpose(h.k_turned, h.length, h.head_dim, s.k, s.stride);
    summarize(h, s, h.k, h.key_score, s.length_k, s.key, s.key_t);
    summarize(h, s, h.v, h.value_score, s.length_v, s.value, s.value_t);
}

inline float scale_of(const HybridHead &h) {
    return 1.0f / std::sqrt(static_cast<float>(h.scaled_dim));
}

void slopes_of_block(const HybridHead &h, const Scratch &s, const Block &b, std::size_t query) {
    const std::size_t dim = h.head_dim, at = (query * h.length + b.start) * dim,
                      n_keys = b.end - b.first, n_summaries = b.end_summary - b.first_summary;
    const float *grad = h.grad_y + at, *y = h.y_in + at, *q = h.q + at, *q_turned = h.q_turned + at;
    const float scale = scale_of(h);
    score(h, s, b, q, q_turned);
    product<false>({grad, dim, 1}, s.v + b.first, s.stride, s.slopes, s.row, b.n_rows, b.n_keys,
                   dim);
    product<false>({grad, dim, 1}, s.value_t + b.first_summary, s.summaries, s.slopes + b.n_keys,
                   s.row, b.n_rows, b.n_summaries, dim);
    for (std::size_t r = 0; r < b.n_rows; ++r) {
        soften_slopes(s.scores + r * s.row, s.slopes + r * s.row, b.n_columns(), scale,
                      h.log_sum_in[query * h.length + b.start + r],
                      dot(y + r * dim, grad + r * dim, dim));
        temper(h, b, s.slopes + r * s.row);
    }
    const std::size_t key = b.first * dim, summary = b.first_summary * dim;
    const float *weights = s.scores + b.n_keys, *slopes = s.slopes + b.n_keys;
    product<false>({s.slopes, s.row, 1}, h.k_turned + key, dim, h.grad_q_turned + at, dim, b.n_rows,
                   dim, n_keys);
    product<false>({slopes, s.row, 1}, s.key + summary, dim, h.grad_q + at, dim, b.n_rows, dim,
                   n_summaries);
    product<true>({s.scores, 1, s.row}, grad, dim, h.grad_v + key, dim, n_keys, dim, b.n_rows);
    product<true>({s.slopes, 1, s.row}, q_turned, dim, h.grad_k_turned + key, dim, n_keys, dim,
                  b.n_rows);
    product<true>({weights, 1, s.row}, grad, dim, s.grad_value + summary, dim, n_summaries, dim,
                  b.n_rows);
    product<true>({slopes, 1, s.row}, q, dim, s.grad_key + summary, dim, n_summaries, dim,
                  b.n_rows);
}

}  // namespace

namespace S7_SET {

void attend_hybrid(const HybridHead &h, float *base) {
    const std::size_t dim = h.head_dim;
    const Scratch s(base, h);
    prepare(h, s);
    for (std::size_t query = 0; query < h.n_queries; ++query) {
        for (std::size_t start = 0; start < h.length; start += kRows) {
            const Block b(h, start);
            const std::size_t at = (query * h.length + start) * dim;
            score(h, s, b, h.q + at, h.q_turned + at);
            float sums[kRows];
            for (std::size_t r = 0; r < b.n_rows; ++r)
                std::tie(h.log_sum[query * h.length + start + r], sums[r]) =
                    soften(s.scores + r * s.row, b.n_columns(), scale_of(h));
            product<false>({s.scores, s.row, 1}, h.v + b.first * dim, dim, h.y + at, dim, b.n_rows,
                           dim, b.end - b.first);
            product<true>({s.scores + b.n_keys, s.row, 1}, s.value + b.first_summary * dim, dim,
                          h.y + at, dim, b.n_rows, dim, b.end_summary - b.first_summary);
            for (std::size_t r = 0; r < b.n_rows; ++r) divide(h.y + at + r * dim, dim, sums[r]);
        }
    }
}

void attend_hybrid_slope(const HybridHead &h, float *base) {
    const std::size_t dim = h.head_dim, one = h.length * dim;
    const Scratch s(base, h);
    prepare(h, s);
    transpose(h.v, h.length, dim, s.v, s.stride);
    for (float *to : {h.grad_k, h.grad_k_turned, h.grad_v}) std::fill(to, to + one, 0.0f);
    for (float *to : {h.grad_key_score, h.grad_value_score}) std::fill(to, to + h.length, 0.0f);
    for (float *to : {s.grad_key, s.grad_value}) std::fill(to, to + dim * s.summaries, 0.0f);
    for (std::size_t query = 0; query < h.n_queries; ++query)
        for (std::size_t start = 0; start < h.length; start += kRows)
            slopes_of_block(h, s, Block(h, start), query);
    summarize_slope(h, s, h.k, h.key_score, s.length_k, s.grad_key, h.grad_k, h.grad_key_score);
    summarize_slope(h, s, h.v, h.value_score, s.length_v, s.grad_value, h.grad_v,
                    h.grad_value_score);
}

}  // namespace S7_SET
}  // namespace s7train
