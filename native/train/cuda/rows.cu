// Row and element operators of specs/training-arithmetic.md on a GPU.

#include "../arithmetic.h"
#include "../philox.h"
#include "row_sum.h"

namespace s7train {
namespace {

constexpr unsigned kThreads = 256;

std::int64_t parts_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

dim3 blocks(std::int64_t n, std::int64_t size) {
    return dim3(static_cast<unsigned>(parts_of(n, size)));
}

__device__ inline std::int64_t element() {
    return std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
}

__global__ void norm_rows(const float *x, const float *gain, float eps, float *y, float *scale,
                          std::int64_t n_rows, std::int64_t n) {
    const RowOfBlock row(n_rows);
    const float *from = x + row.number * n;
    const float sum =
        row.sum(n, [&](std::int64_t i, float sum) { return fused(from[i], from[i], sum); });
    if (!row.is_there) return;
    const float factor = 1.0f / root(sum / static_cast<float>(n) + eps);
    if (row.lane == 0) scale[row.number] = factor;
    row.each(n, [&](std::int64_t i) { y[row.number * n + i] = (from[i] * factor) * gain[i]; });
}

__global__ void norm_slope_rows(const float *x, const float *gain, const float *scale,
                                const float *grad, const float *beside, float *grad_x,
                                std::int64_t n_rows, std::int64_t n) {
    const RowOfBlock row(n_rows);
    const std::int64_t at = row.number * n;
    const float sum = row.sum(n, [&](std::int64_t i, float sum) {
        return fused(grad[at + i] * gain[i], x[at + i], sum);
    });
    if (!row.is_there) return;
    const float factor = scale[row.number];
    const float share = ((sum * factor) * factor) / static_cast<float>(n) * -1.0f;
    row.each(n, [&](std::int64_t i) {
        float slope = fused(x[at + i], share, grad[at + i] * gain[i]) * factor;
        if (beside) slope = slope + beside[at + i];
        grad_x[at + i] = slope;
    });
}

// A thread a column: the slope of a gain is one chain over the rows.
__global__ void norm_gain_columns(const float *x, const float *scale, const float *grad,
                                  float *grad_gain, std::int64_t n_rows, std::int64_t n) {
    const std::int64_t column = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (column >= n) return;
    float sum = 0.0f;
    for (std::int64_t row = 0; row < n_rows; ++row) {
        const std::int64_t at = row * n + column;
        sum = fused(grad[at], x[at] * scale[row], sum);
    }
    grad_gain[column] = sum;
}

__global__ void gate_elements(const float *gate, const float *up, float *y, std::int64_t n) {
    const std::int64_t i = element();
    if (i < n) y[i] = (gate[i] * sigmoid(gate[i])) * up[i];
}

__global__ void gate_slope_elements(const float *gate, const float *up, const float *grad,
                                    float *grad_gate, float *grad_up, std::int64_t n) {
    const std::int64_t i = element();
    if (i >= n) return;
    const float share = sigmoid(gate[i]), silu = gate[i] * share, slope = grad[i];
    const float turned = share + silu * (1.0f - share);
    grad_gate[i] = (slope * up[i]) * turned;
    grad_up[i] = slope * silu;
}

__global__ void turn_pairs(s7_turn t) {
    const std::int64_t pair = element();
    if (pair >= t.n_batch * t.n_heads * t.length * t.n_pairs) return;
    const std::int64_t i = pair % t.n_pairs, row = pair / t.n_pairs, position = row % t.length,
                       head = row / t.length % t.n_heads, batch = row / t.length / t.n_heads;
    const float *x = t.x + batch * t.x_batch + head * t.x_head + position * t.x_position;
    float *y = t.y + batch * t.y_batch + head * t.y_head + position * t.y_position;
    const float sign = static_cast<float>(t.direction), a = x[i], b = x[t.n_pairs + i],
                c = t.cosine[position * t.n_pairs + i], s = t.sine[position * t.n_pairs + i];
    y[i] = fused(a, c, b * (s * -sign));
    y[t.n_pairs + i] = fused(b, c, a * (s * sign));
}

__global__ void add_elements(const float *x, const float *y, float *z, std::int64_t n) {
    const std::int64_t i = element();
    if (i < n) z[i] = x[i] + y[i];
}

__global__ void scale_elements(const float *x, float factor, float *z, std::int64_t n) {
    const std::int64_t i = element();
    if (i < n) z[i] = x[i] * factor;
}

__global__ void square_rows(const float *x, float *sums, std::int64_t n_rows, std::int64_t n) {
    const RowOfBlock row(n_rows);
    const float *from = x + row.number * n;
    const float sum =
        row.sum(n, [&](std::int64_t i, float sum) { return fused(from[i], from[i], sum); });
    if (row.is_there && row.lane == 0) sums[row.number] = n == 1 ? from[0] * from[0] : sum;
}

// One chain in binary64. The block reads ahead; its first thread adds.
__global__ void sum_in_order(const float *x, std::int64_t n, double *sum) {
    __shared__ float values[kThreads];
    double all = 0.0;
    for (std::int64_t start = 0; start < n; start += kThreads) {
        const std::int64_t i = start + threadIdx.x;
        values[threadIdx.x] = i < n ? x[i] : 0.0f;
        __syncthreads();
        if (threadIdx.x == 0)
            for (std::int64_t j = 0; j < kThreads && start + j < n; ++j)
                all = all + static_cast<double>(values[j]);
        __syncthreads();
    }
    if (threadIdx.x == 0) *sum = all;
}

__global__ void adam_elements(s7_adam_of a) {
    const std::int64_t i = element();
    if (i >= a.n) return;
    const float weight = a.weight[i], old_mean = a.mean[i];
    const float slope = fused(a.added_decay, weight, a.grad[i]);
    const float mean = fused(a.one_minus_beta1, slope - old_mean, old_mean);
    const float square = fused(slope * a.one_minus_beta2, slope, a.beta2 * a.square[i]);
    const float width = root(square) / a.root_correction + a.eps;
    a.mean[i] = mean;
    a.square[i] = square;
    a.weight[i] = fused(a.step_size * -1.0f, mean / width, weight * a.decay);
}

__global__ void dropout_elements(std::uint64_t key, std::uint64_t stream, std::uint32_t threshold,
                                 float factor, const float *x, float *y, std::int64_t n) {
    const std::int64_t block = element();
    if (4 * block >= n) return;
    const Words words = philox(key, stream, static_cast<std::uint64_t>(block));
    for (std::int64_t i = 4 * block; i < 4 * block + 4 && i < n; ++i)
        y[i] = words.of[i & 3] < threshold ? 0.0f : x[i] * factor;
}

// A block a row of the table: it goes through all tokens in their order and adds those that are
// its own.
__global__ void scatter_rows(const std::int64_t *ids, const float *grad, float *table,
                             std::int64_t n_ids, std::int64_t n) {
    __shared__ std::int64_t known[kThreads];
    const std::int64_t own = blockIdx.x;
    for (std::int64_t start = 0; start < n_ids; start += kThreads) {
        if (start + threadIdx.x < n_ids) known[threadIdx.x] = ids[start + threadIdx.x];
        __syncthreads();
        for (std::int64_t j = 0; j < kThreads && start + j < n_ids; ++j) {
            if (known[j] != own) continue;
            for (std::int64_t i = threadIdx.x; i < n; i += kThreads)
                table[own * n + i] = table[own * n + i] + grad[(start + j) * n + i];
        }
        __syncthreads();
    }
}

}  // namespace
}  // namespace s7train

using namespace s7train;

int32_t s7_norm(const float *x, const float *gain, float eps, float *y, float *scale,
                int64_t n_rows, int64_t n, int32_t) {
    if (n_rows < 0 || n < 1) return S7_TRAIN_SHAPE;
    launch(norm_rows, blocks(n_rows, RowOfBlock::kRows), RowOfBlock::block(), x, gain, eps, y,
           scale, n_rows, n);
    return outcome();
}

int32_t s7_norm_slope(const float *x, const float *gain, const float *scale, const float *grad,
                      const float *beside, float *grad_x, float *grad_gain, int64_t n_rows,
                      int64_t n, int32_t) {
    if (n_rows < 0 || n < 1) return S7_TRAIN_SHAPE;
    if (grad_x)
        launch(norm_slope_rows, blocks(n_rows, RowOfBlock::kRows), RowOfBlock::block(), x, gain,
               scale, grad, beside, grad_x, n_rows, n);
    // Few threads a block, so that the columns spread over the multiprocessors.
    if (grad_gain)
        launch(norm_gain_columns, blocks(n, 32), dim3(32), x, scale, grad, grad_gain, n_rows, n);
    return outcome();
}

int32_t s7_gate(const float *gate, const float *up, float *y, int64_t n, int32_t) {
    launch(gate_elements, blocks(n, kThreads), dim3(kThreads), gate, up, y, n);
    return outcome();
}

int32_t s7_gate_slope(const float *gate, const float *up, const float *grad, float *grad_gate,
                      float *grad_up, int64_t n, int32_t) {
    launch(gate_slope_elements, blocks(n, kThreads), dim3(kThreads), gate, up, grad, grad_gate,
           grad_up, n);
    return outcome();
}

int32_t s7_rotate(const s7_turn *turn) {
    if (!turn || turn->n_batch < 0 || turn->n_heads < 1 || turn->length < 1 || turn->n_pairs < 1 ||
        (turn->direction != 1 && turn->direction != -1))
        return S7_TRAIN_SHAPE;
    const std::int64_t n = turn->n_batch * turn->n_heads * turn->length * turn->n_pairs;
    launch(turn_pairs, blocks(n, kThreads), dim3(kThreads), *turn);
    return outcome();
}

int32_t s7_scatter_add(const int64_t *ids, const float *grad, float *grad_table, int64_t n_ids,
                       int64_t n_rows, int64_t n, int32_t) {
    if (n < 1 || n_ids < 0 || n_rows < 0) return S7_TRAIN_SHAPE;
    launch(scatter_rows, blocks(n_rows, 1), dim3(kThreads), ids, grad, grad_table, n_ids, n);
    return outcome();
}

int32_t s7_add(const float *x, const float *y, float *z, int64_t n, int32_t) {
    launch(add_elements, blocks(n, kThreads), dim3(kThreads), x, y, z, n);
    return outcome();
}

int32_t s7_scale(const float *x, float factor, float *z, int64_t n, int32_t) {
    launch(scale_elements, blocks(n, kThreads), dim3(kThreads), x, factor, z, n);
    return outcome();
}

int32_t s7_row_squares(const float *x, float *sums, int64_t n_rows, int64_t n, int32_t) {
    if (n_rows < 0 || n < 1) return S7_TRAIN_SHAPE;
    launch(square_rows, blocks(n_rows, RowOfBlock::kRows), RowOfBlock::block(), x, sums, n_rows, n);
    return outcome();
}

int32_t s7_sum(const float *x, int64_t n, double *sum) {
    const Scratch scratch(sizeof(double));
    if (!scratch.as<double>()) return S7_TRAIN_MEMORY;
    launch(sum_in_order, dim3(1), dim3(kThreads), x, n, scratch.as<double>());
    const int32_t code = outcome();
    return code ? code : fetch(sum, scratch.as<double>(), sizeof(double));
}

int32_t s7_adam(const s7_adam_of *adam) {
    if (!adam || adam->n < 0) return S7_TRAIN_SHAPE;
    launch(adam_elements, blocks(adam->n, kThreads), dim3(kThreads), *adam);
    return outcome();
}

int32_t s7_dropout(uint64_t key, uint64_t stream, uint32_t threshold, float factor, const float *x,
                   float *y, int64_t n, int32_t) {
    launch(dropout_elements, blocks(parts_of(n, 4), kThreads), dim3(kThreads), key, stream,
           threshold, factor, x, y, n);
    return outcome();
}
