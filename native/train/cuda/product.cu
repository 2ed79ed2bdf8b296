// Products of specs/training-arithmetic.md on a GPU.

#include "../arithmetic.h"
#include "tile.h"

namespace s7train {
namespace {

// Blocks that keep the multiprocessors of a large GPU busy: below it, tiles are smaller.
constexpr std::int64_t kBusy = 132;

std::int64_t parts_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

template <class Tile> __global__ void __launch_bounds__(Tile::kThreads) multiply(s7_product_of p) {
    const std::int64_t row = std::int64_t{blockIdx.x} * Tile::kHeight,
                       column = std::int64_t{blockIdx.y} * Tile::kWidth;
    Tile tile(row, column);
    if (p.is_added)
        tile.each(p.m, p.n,
                  [&](float &sum, std::int64_t i, std::int64_t j) { sum = p.c[i * p.c_row + j]; });
    tile.add({p.a, p.a_row, p.a_column, p.m}, {p.b, p.b_column, p.b_row, p.n}, 0, p.k);
    tile.each(p.m, p.n,
              [&](float &sum, std::int64_t i, std::int64_t j) { p.c[i * p.c_row + j] = sum; });
}

template <class Tile> bool is_busy(const s7_product_of &p) {
    return parts_of(p.m, Tile::kHeight) * parts_of(p.n, Tile::kWidth) >= 2 * kBusy;
}

template <class Tile> int32_t run(const s7_product_of &p) {
    const dim3 grid(static_cast<unsigned>(parts_of(p.m, Tile::kHeight)),
                    static_cast<unsigned>(parts_of(p.n, Tile::kWidth)));
    launch(multiply<Tile>, grid, dim3(Tile::kThreads), p);
    return outcome();
}

}  // namespace
}  // namespace s7train

using namespace s7train;

int32_t s7_product(const s7_product_of *product) {
    // The second side of a grid has at most 65,535 blocks.
    if (!product || product->m < 0 || product->n < 0 || product->k < 0 || product->n > 1 << 20)
        return S7_TRAIN_SHAPE;
    typedef ProductTile<128, 128, 8, 8> Large;
    typedef ProductTile<64, 64, 4, 4> Middle;
    typedef ProductTile<32, 32, 2, 2> Small;
    if (is_busy<Large>(*product)) return run<Large>(*product);
    if (is_busy<Middle>(*product)) return run<Middle>(*product);
    return run<Small>(*product);
}
