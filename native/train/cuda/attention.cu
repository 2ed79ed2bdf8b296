// Causal attention of specs/training-arithmetic.md on a GPU.
//
// The scores of some heads at once lie in memory, and every sum is a product over them. Rows come
// in the page's blocks of 48, so that the rows of a tile end at one column.

#include "../attention.h"
#include "row_sum.h"
#include "tile.h"

#include <algorithm>

namespace s7train {
namespace {

constexpr std::int64_t kBlock = 48;
// Floats of scores that exist at once, unless one head has more.
constexpr std::int64_t kScores = std::int64_t{1} << 27;

typedef ProductTile<48, 64, 6, 4> BlockTile;

std::int64_t parts_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// Key/value heads that one launch works through, and the query heads that share each.
struct Heads {
    std::int64_t length, dim, n_queries;

    // The column before which the block of a row ends.
    __device__ std::int64_t end(std::int64_t row) const {
        const std::int64_t end = (row / kBlock + 1) * kBlock;
        return end < length ? end : length;
    }
};

// scores[head, i, j] = a[head, i] . b[head / n_queries, j], up to the end of the block of i.
__global__ void __launch_bounds__(BlockTile::kThreads)
    score_tiles(Heads heads, const float *a, const float *b, float *scores) {
    const std::int64_t length = heads.length, dim = heads.dim, head = blockIdx.z,
                       row = blockIdx.y * kBlock,
                       column = std::int64_t{blockIdx.x} * BlockTile::kWidth, end = heads.end(row);
    if (column >= end) return;
    BlockTile tile(row, column);
    tile.add({a + head * length * dim, dim, 1, length},
             {b + head / heads.n_queries * length * dim, dim, 1, end}, 0, dim);
    float *to = scores + head * length * length;
    tile.each(length, end,
              [&](float &sum, std::int64_t i, std::int64_t j) { to[i * length + j] = sum; });
}

// Scores to weights that are not yet divided by their sum.
__global__ void weigh_rows(Heads heads, float *scores, float scale, float *log_sum, float *sums,
                           std::int64_t n_rows) {
    const RowOfBlock row(n_rows);
    const std::int64_t position = row.number % heads.length, seen = position + 1;
    float *own = scores + row.number * heads.length;
    const float top = row.highest(seen, [&](std::int64_t j) { return own[j]; }) * scale;
    const float sum = row.sum(seen, [&](std::int64_t j, float sum) {
        own[j] = exponential(own[j] * scale - top);
        return sum + own[j];
    });
    if (!row.is_there) return;
    for (std::int64_t j = seen + row.lane; j < heads.end(position); j += RowOfBlock::kLanes)
        own[j] = 0.0f;
    if (row.lane) return;
    sums[row.number] = sum;
    log_sum[row.number] = static_cast<float>(logarithm(static_cast<double>(sum))) + top;
}

// y[head, i] = sum over j of weights[head, i, j] v[head / n_queries, j], over sums[head, i] where
// it is told.
__global__ void __launch_bounds__(BlockTile::kThreads)
    gather_tiles(Heads heads, const float *weights, const float *v, const float *sums, float *y) {
    const std::int64_t length = heads.length, dim = heads.dim, head = blockIdx.z,
                       row = blockIdx.y * kBlock;
    BlockTile tile(row, std::int64_t{blockIdx.x} * BlockTile::kWidth);
    tile.add({weights + head * length * length, length, 1, length},
             {v + head / heads.n_queries * length * dim, 1, dim, dim}, 0, heads.end(row));
    tile.each(length, dim, [&](float &sum, std::int64_t i, std::int64_t e) {
        const std::int64_t at = head * length + i;
        y[at * dim + e] = sums ? sum / sums[at] : sum;
    });
}

// Scores and slopes of weights to weights and slopes of scores.
__global__ void slope_rows(Heads heads, float *weights, float *slopes, float scale,
                           const float *log_sum, const float *y, const float *grad,
                           std::int64_t n_rows) {
    const RowOfBlock row(n_rows);
    const std::int64_t at = row.number * heads.dim;
    const float mean = row.sum(
        heads.dim, [&](std::int64_t e, float sum) { return fused(y[at + e], grad[at + e], sum); });
    if (!row.is_there) return;
    const std::int64_t position = row.number % heads.length;
    float *own = weights + row.number * heads.length, *slope = slopes + row.number * heads.length;
    row.each(heads.end(position), [&](std::int64_t j) {
        const float weight =
            j > position ? 0.0f : exponential(own[j] * scale - log_sum[row.number]);
        own[j] = weight;
        slope[j] = (weight * (slope[j] - mean)) * scale;
    });
}

// to[head, j] = sum over query heads and rows i of weights[., i, j] from[., i].
__global__ void __launch_bounds__(BlockTile::kThreads)
    scatter_tiles(Heads heads, const float *weights, const float *from, float *to) {
    const std::int64_t length = heads.length, dim = heads.dim, own = blockIdx.z,
                       column = blockIdx.y * kBlock;
    BlockTile tile(column, std::int64_t{blockIdx.x} * BlockTile::kWidth);
    for (std::int64_t query = 0; query < heads.n_queries; ++query) {
        const std::int64_t head = own * heads.n_queries + query;
        tile.add({weights + head * length * length, 1, length, length},
                 {from + head * length * dim, 1, dim, dim}, column, length);
    }
    tile.each(length, dim, [&](float &sum, std::int64_t j, std::int64_t e) {
        to[(own * length + j) * dim + e] = sum;
    });
}

bool sound(const s7_attention_shape *s) {
    return s && s->n_batch >= 0 && s->n_heads > 0 && s->n_kv_heads > 0 && s->length > 0 &&
           s->n_heads % s->n_kv_heads == 0 && s->head_dim >= 16 && s->head_dim <= 256 &&
           s->head_dim % 16 == 0 && s->scaled_dim > 0 && s->scaled_dim <= s->head_dim;
}

// `work(first, count, scores)` for the key/value heads of a batch, some of them at once; `scores`
// has n_copies times length^2 floats for each of their query heads.
template <class Work>
int32_t each_heads(const s7_attention_shape &s, std::int64_t n_copies, const Work &work) {
    const std::int64_t length = s.length, n_queries = s.n_heads / s.n_kv_heads,
                       n_heads = std::int64_t{s.n_batch} * s.n_kv_heads,
                       floats = n_queries * length * length * n_copies;
    // The third side of a grid has at most 65,535 blocks.
    const std::int64_t at_once =
        std::clamp<std::int64_t>(kScores / floats, 1, std::max<std::int64_t>(1, 65535 / n_queries));
    if (!n_heads) return S7_TRAIN_OK;
    const Scratch scratch(
        static_cast<std::size_t>(std::min(at_once, n_heads) * (floats + n_queries * length)) *
        sizeof(float));
    if (!scratch.as<float>()) return S7_TRAIN_MEMORY;
    for (std::int64_t first = 0; first < n_heads; first += at_once)
        work(first, std::min(at_once, n_heads - first), scratch.as<float>());
    return outcome();
}

dim3 tiles(std::int64_t n_columns, std::int64_t length, std::int64_t n_heads) {
    return dim3(static_cast<unsigned>(parts_of(n_columns, BlockTile::kWidth)),
                static_cast<unsigned>(parts_of(length, kBlock)), static_cast<unsigned>(n_heads));
}

dim3 rows(std::int64_t n_rows) {
    return dim3(static_cast<unsigned>(parts_of(n_rows, RowOfBlock::kRows)));
}

float scale_of(const s7_attention_shape &s) {
    return 1.0f / std::sqrt(static_cast<float>(s.scaled_dim));
}

}  // namespace
}  // namespace s7train

using namespace s7train;

int32_t s7_attention_forward(const s7_attention_shape *shape, const float *q, const float *k,
                             const float *v, float *y, float *log_sum) {
    if (!sound(shape)) return S7_TRAIN_SHAPE;
    const Heads heads{shape->length, shape->head_dim, shape->n_heads / shape->n_kv_heads};
    const std::int64_t length = heads.length, vectors = length * heads.dim;
    const dim3 threads(BlockTile::kThreads);
    return each_heads(*shape, 1, [&](std::int64_t first, std::int64_t count, float *scores) {
        const std::int64_t query = first * heads.n_queries, n = count * heads.n_queries;
        float *sums = scores + n * length * length;
        launch(score_tiles, tiles(length, length, n), threads, heads, q + query * vectors,
               k + first * vectors, scores);
        launch(weigh_rows, rows(n * length), RowOfBlock::block(), heads, scores, scale_of(*shape),
               log_sum + query * length, sums, n * length);
        launch(gather_tiles, tiles(heads.dim, length, n), threads, heads,
               static_cast<const float *>(scores), v + first * vectors,
               static_cast<const float *>(sums), y + query * vectors);
    });
}

int32_t s7_attention_backward(const s7_attention_shape *shape, const float *q, const float *k,
                              const float *v, const float *y, const float *log_sum,
                              const float *grad_y, float *grad_q, float *grad_k, float *grad_v) {
    if (!sound(shape)) return S7_TRAIN_SHAPE;
    const Heads heads{shape->length, shape->head_dim, shape->n_heads / shape->n_kv_heads};
    const std::int64_t length = heads.length, vectors = length * heads.dim;
    const dim3 threads(BlockTile::kThreads);
    return each_heads(*shape, 2, [&](std::int64_t first, std::int64_t count, float *weights) {
        const std::int64_t query = first * heads.n_queries, n = count * heads.n_queries;
        float *slopes = weights + n * length * length;
        const float *own_q = q + query * vectors, *grad = grad_y + query * vectors;
        launch(score_tiles, tiles(length, length, n), threads, heads, own_q, k + first * vectors,
               weights);
        launch(score_tiles, tiles(length, length, n), threads, heads, grad, v + first * vectors,
               slopes);
        launch(slope_rows, rows(n * length), RowOfBlock::block(), heads, weights, slopes,
               scale_of(*shape), log_sum + query * length, y + query * vectors, grad, n * length);
        launch(gather_tiles, tiles(heads.dim, length, n), threads, heads,
               static_cast<const float *>(slopes), k + first * vectors,
               static_cast<const float *>(nullptr), grad_q + query * vectors);
        launch(scatter_tiles, tiles(heads.dim, length, count), threads, heads,
               static_cast<const float *>(weights), grad, grad_v + first * vectors);
        launch(scatter_tiles, tiles(heads.dim, length, count), threads, heads,
               static_cast<const float *>(slopes), own_q, grad_k + first * vectors);
    });
}
