/* Rows of sixteen threads, which are the sixteen chains of a row sum. */
#ifndef S7_TRAIN_CUDA_ROW_SUM_H
#define S7_TRAIN_CUDA_ROW_SUM_H

#include "grid.h"
#include "scalar.h"

namespace s7train {

/* The row of the calling thread; a block has kRows of them. Every thread of a block calls `sum` and
 * `highest`, those behind the last row as well: both hold barriers. */
struct RowOfBlock {
    static constexpr unsigned kLanes = 16, kRows = 16;
    static dim3 block() { return dim3(kLanes, kRows); }

    std::int64_t number;
    unsigned lane;
    bool is_there;

    __device__ explicit RowOfBlock(std::int64_t n_rows)
        : number(std::int64_t{blockIdx.x} * kRows + threadIdx.y),
          lane(threadIdx.x),
          is_there(number < n_rows) {}

    /* `work(i)` for each element of the row that is in the chain of this thread. */
    template <class Work> __device__ void each(std::int64_t n, const Work &work) const {
        for (std::int64_t i = lane; i < n; i += kLanes) work(i);
    }

    /* The row sum of `n` terms; `add(i, sum)` is a chain that has gone on over term i. */
    template <class Add> __device__ float sum(std::int64_t n, const Add &add) const {
        float own = 0.0f;
        if (is_there) each(n, [&](std::int64_t i) { own = add(i, own); });
        // A lane behind the end of a row adds +0, which is what makes -0 a +0.
        if (n % kLanes && lane >= n % kLanes) own = own + 0.0f;
        return folded(own, [](float a, float b) { return a + b; });
    }

    template <class Value> __device__ float highest(std::int64_t n, const Value &value) const {
        float own = -INFINITY;
        if (is_there) each(n, [&](std::int64_t i) { own = largest(own, value(i)); });
        return folded(own, [](float a, float b) { return largest(a, b); });
    }

  private:
    /* Lanes in pairs: l and l + 8, then + 4, + 2, + 1. Each thread gets lane 0. */
    template <class Pair> __device__ float folded(float own, const Pair &pair) const {
        __shared__ float lanes[kRows][kLanes + 1];
        float *row = lanes[threadIdx.y];
        row[lane] = own;
        for (unsigned half = kLanes / 2; half; half /= 2) {
            __syncthreads();
            if (lane < half) row[lane] = pair(row[lane], row[lane + half]);
        }
        __syncthreads();
        const float result = row[0];
        __syncthreads();
        return result;
    }
};

}  // namespace s7train
#endif
