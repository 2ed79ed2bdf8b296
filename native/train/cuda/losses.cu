// Losses of rows of logits, and their slopes, on a GPU. A block has a row.

#include "../arithmetic.h"
#include "grid.h"
#include "scalar.h"

namespace s7train {
namespace {

constexpr unsigned kThreads = 256, kLanes = 16;
// Exponentials that a block computes before its first threads add them; a multiple of the lanes.
constexpr unsigned kChunk = 2048;

__device__ float highest_of_row(const float *logits, std::int64_t n) {
    __shared__ float found[kThreads];
    float own = -INFINITY;
    for (std::int64_t i = threadIdx.x; i < n; i += kThreads) own = largest(own, logits[i]);
    found[threadIdx.x] = own;
    for (unsigned half = kThreads / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            found[threadIdx.x] = largest(found[threadIdx.x], found[threadIdx.x + half]);
    }
    __syncthreads();
    return found[0];
}

// The row sum of e^(logit - top). With `is_kept` the logits become their exponentials.
__device__ float sum_of_row(float *logits, std::int64_t n, float top, bool is_kept) {
    __shared__ float values[kChunk], lanes[kLanes];
    float own = 0.0f;
    for (std::int64_t start = 0; start < n; start += kChunk) {
        const std::int64_t count = n - start < kChunk ? n - start : kChunk;
        for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
            values[i] = exponential(logits[start + i] - top);
            if (is_kept) logits[start + i] = values[i];
        }
        __syncthreads();
        if (threadIdx.x < kLanes)
            for (std::int64_t i = threadIdx.x; i < count; i += kLanes) own = own + values[i];
        __syncthreads();
    }
    if (threadIdx.x < kLanes) lanes[threadIdx.x] = own;
    for (unsigned half = kLanes / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) lanes[threadIdx.x] = lanes[threadIdx.x] + lanes[threadIdx.x + half];
    }
    __syncthreads();
    return lanes[0];
}

__global__ void loss_rows(s7_losses_of l) {
    const std::int64_t row = blockIdx.x, n = l.n, target = l.target[row];
    float *logits = l.logits + row * n;
    if (target < 0 || target >= n) {
        // No loss is right here, and this one ends the run.
        if (threadIdx.x == 0) l.loss[row] = NAN;
        return;
    }
    const float wanted = logits[target], top = highest_of_row(logits, n),
                all = sum_of_row(logits, n, top, l.factor != nullptr);
    if (threadIdx.x == 0)
        l.loss[row] = (top - wanted) + static_cast<float>(logarithm(static_cast<double>(all)));
    if (!l.factor) return;
    const float factor = l.factor[row], own = ((logits[target] / all) - 1.0f) * factor,
                share = factor / all;
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < n; i += kThreads)
        logits[i] = i == target ? own : logits[i] * share;
}

}  // namespace
}  // namespace s7train

int32_t s7_losses(const s7_losses_of *losses) {
    if (!losses || losses->n_rows < 0 || losses->n < 1) return S7_TRAIN_SHAPE;
    s7train::launch(s7train::loss_rows, dim3(static_cast<unsigned>(losses->n_rows)),
                    dim3(s7train::kThreads), *losses);
    return s7train::outcome();
}
