/* A tile of a product's outputs in one block of threads. Each output is one chain of fused
 * multiply-adds over the inner index, in ascending order, in one register of one thread. */
#ifndef S7_TRAIN_CUDA_TILE_H
#define S7_TRAIN_CUDA_TILE_H

#include "grid.h"
#include "scalar.h"

namespace s7train {

/* Element (i, k) of a left operand, or (k, j) of a right one, is from[i * outer + k * inner].
 * `count` is how many i (or j) there are. */
struct Operand {
    const float *from;
    std::int64_t outer, inner, count;
};

/* Rows and columns of the tile, and those of a thread. */
template <unsigned kRows, unsigned kColumns, unsigned kThreadRows, unsigned kThreadColumns>
class ProductTile {
  public:
    static constexpr unsigned kHeight = kRows, kWidth = kColumns,
                              kAcross = kColumns / kThreadColumns,
                              kThreads = kRows / kThreadRows * kAcross;

    /* `row` and `column` are the tile's first. */
    __device__ ProductTile(std::int64_t row, std::int64_t column)
        : row_(row),
          column_(column),
          own_row_(threadIdx.x / kAcross * kThreadRows),
          own_column_(threadIdx.x % kAcross * kThreadColumns) {
        for (unsigned r = 0; r < kThreadRows; ++r)
            for (unsigned c = 0; c < kThreadColumns; ++c) sum_[r][c] = 0.0f;
    }

    /* Calls `use(sum, row, column)` for each output of this thread that is below the bounds. */
    template <class Use>
    __device__ void each(std::int64_t n_rows, std::int64_t n_columns, const Use &use) {
        for (unsigned r = 0; r < kThreadRows; ++r)
            for (unsigned c = 0; c < kThreadColumns; ++c) {
                const std::int64_t row = row_ + own_row_ + r, column = column_ + own_column_ + c;
                if (row < n_rows && column < n_columns) use(sum_[r][c], row, column);
            }
    }

    /* Lets the chains go on over the inner indices from `first` to before `end`. Every thread of
     * the block calls it. */
    __device__ void add(const Operand &a, const Operand &b, std::int64_t first, std::int64_t end) {
        alignas(16) __shared__ float left[kDepth][kRows + 4];
        alignas(16) __shared__ float right[kDepth][kColumns + 4];
        for (std::int64_t k = first; k < end; k += kDepth) {
            const auto depth = static_cast<unsigned>(end - k < kDepth ? end - k : kDepth);
            gather<kRows>(a, row_, k, depth, left);
            gather<kColumns>(b, column_, k, depth, right);
            __syncthreads();
            if (depth == kDepth) {
#pragma unroll
                for (unsigned i = 0; i < kDepth; ++i) step(left[i], right[i]);
            } else {
                for (unsigned i = 0; i < depth; ++i) step(left[i], right[i]);
            }
            __syncthreads();
        }
    }

  private:
    static constexpr unsigned kDepth = 16;

    __device__ void step(const float *left, const float *right) {
        float a[kThreadRows], b[kThreadColumns];
        for (unsigned r = 0; r < kThreadRows; ++r) a[r] = left[own_row_ + r];
        for (unsigned c = 0; c < kThreadColumns; ++c) b[c] = right[own_column_ + c];
        for (unsigned r = 0; r < kThreadRows; ++r)
            for (unsigned c = 0; c < kThreadColumns; ++c)
                sum_[r][c] = fused(a[r], b[c], sum_[r][c]);
    }

    /* Copies a slice of an operand. Neighbouring threads read neighbouring floats. */
    template <unsigned kCount>
    __device__ static void gather(const Operand &from, std::int64_t start, std::int64_t k,
                                  unsigned depth, float (*to)[kCount + 4]) {
        const bool is_inner = from.inner == 1;
        for (unsigned at = threadIdx.x; at < kCount * kDepth; at += kThreads) {
            const unsigned i = is_inner ? at / kDepth : at % kCount,
                           d = is_inner ? at % kDepth : at / kCount;
            const bool is_there = start + i < from.count && d < depth;
            to[d][i] = is_there ? from.from[(start + i) * from.outer + (k + d) * from.inner] : 0.0f;
        }
    }

    std::int64_t row_, column_;
    unsigned own_row_, own_column_;
    float sum_[kThreadRows][kThreadColumns];
};

}  // namespace s7train
#endif
