/* A block of a product's outputs, each one chain of fused multiply-adds over the inner index. For
 * product.cpp. */
#ifndef S7_TRAIN_PRODUCT_H
#define S7_TRAIN_PRODUCT_H

#include "lanes.h"

namespace s7train {
namespace {

/* Rows of a tile, registers of a row; what a tile sums must fit in the register file: 32 registers,
 * on AVX2 16. */
#if S7_WIDTH == 16
constexpr std::size_t kTileRows = 14, kTileRegisters = 2;
#elif S7_WIDTH == 8
constexpr std::size_t kTileRows = 6, kTileRegisters = 2;
#elif S7_WIDTH == 4
constexpr std::size_t kTileRows = 6, kTileRegisters = 4;
#else
constexpr std::size_t kTileRows = 4, kTileRegisters = 2;
#endif
constexpr std::size_t kTileColumns = kTileRegisters * S7_WIDTH;
/* Inner indices of a block: its rows of A and its panel of B stay in the caches. A block reloads
 * the sums, so it decides no bit. */
constexpr std::size_t kInner = 336;
constexpr std::size_t kStride =
    kInner + 16; /* between packed rows of A: no power of two, so that they share no cache set */

/* C[R, kTileColumns] (+)= A[R, n] * B[n, kTileColumns]; indexes of the sums are constants, or GCC
 * keeps the sums in memory. */
template <bool kByColumn, std::size_t... R, std::size_t... N>
inline void tile(const float *a, const float *b, float *c, std::size_t c_row, std::size_t n,
                 bool is_added, std::index_sequence<R...>, std::index_sequence<N...>) {
    constexpr std::size_t row = kByColumn ? 1 : kStride, column = kByColumn ? kTileRows : 1;
    Register sum[sizeof...(R)][kTileRegisters];
    const auto begin = [&]<std::size_t r>() {
        if (is_added) {
            ((sum[r][N] = get(c + r * c_row + N * S7_WIDTH)), ...);
        } else {
            ((sum[r][N] = spread(0.0f)), ...);
        }
    };
    (begin.template operator()<R>(), ...);
    for (std::size_t i = 0; i < n; ++i) {
        Register values[kTileRegisters];
        ((values[N] = get(b + i * kTileColumns + N * S7_WIDTH)), ...);
        const auto step = [&]<std::size_t r>() {
            const Register factor = spread(a[r * row + i * column]);
            ((sum[r][N] = fused(factor, values[N], sum[r][N])), ...);
        };
        (step.template operator()<R>(), ...);
    }
    const auto end = [&]<std::size_t r>() { (put(c + r * c_row + N * S7_WIDTH, sum[r][N]), ...); };
    (end.template operator()<R>(), ...);
}

typedef void (*Tile)(const float *a, const float *b, float *c, std::size_t c_row, std::size_t n,
                     bool is_added);

template <bool kByColumn, std::size_t kRows>
void tile_of(const float *a, const float *b, float *c, std::size_t c_row, std::size_t n,
             bool is_added) {
    tile<kByColumn>(a, b, c, c_row, n, is_added, std::make_index_sequence<kRows>{},
                    std::make_index_sequence<kTileRegisters>{});
}

template <bool kByColumn, std::size_t... R> constexpr auto tiles(std::index_sequence<R...>) {
    struct Table {
        Tile of[sizeof...(R)];
    };
    return Table{{tile_of<kByColumn, R + 1>...}};
}

constexpr auto kTiles = tiles<false>(std::make_index_sequence<kTileRows>{});
constexpr auto kTilesByColumn = tiles<true>(std::make_index_sequence<kTileRows>{});

}  // namespace
}  // namespace s7train
#endif
