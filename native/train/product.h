/* A block of a product's outputs, each one chain of fused multiply-adds over the inner index. Only
 * product.cpp includes it. */
#ifndef S7_TRAIN_PRODUCT_H
#define S7_TRAIN_PRODUCT_H

#include "lanes.h"

namespace s7train {
namespace {

/* The rows of a tile and the registers of a row. The sums of a tile must fit the register file: 32
 * registers, on AVX2 16. */
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
/* The inner indices of a block. Its rows of A and its panel of B stay in the caches. A block
 * reloads the sums, so it decides no bit. */
constexpr std::size_t kInner = 336;
/* The inner indices between two prefetches, and those of an unrolled step. */
constexpr std::size_t kChunk = 16, kUnrolled = 4;

/* The data that a tile prefetches while it sums. A prefetch decides no bit. */
struct Ahead {
    const float *from;               /* a line of what is packed next */
    std::size_t step, stride, count; /* floats between chunks and between lines; lines of a chunk */
    const float *sums;               /* the tile that is summed next */
};

/* factor[0] * v + sum. AVX-512 can broadcast a factor while it multiplies, which saves an
 * instruction. That matters because two threads of a core share its decoder. A compiler would
 * broadcast once in a separate instruction. */
inline Register fused_spread(const float *factor, Register v, Register sum) {
#if S7_WIDTH == 16
    asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(v), "m"(*factor));
    return sum;
#else
    return fused(spread(*factor), v, sum);
#endif
}

/* C[R, kTileColumns] (+)= A[R, n] * B[n, kTileColumns], A by columns; indexes of the sums are
 * compile-time constants, because GCC would otherwise keep the sums in memory. */
template <std::size_t... R, std::size_t... N>
inline void tile(const float *a, const float *b, float *c, std::size_t c_row, std::size_t n,
                 bool is_added, const Ahead &ahead, std::index_sequence<R...>,
                 std::index_sequence<N...>) {
    constexpr std::size_t n_rows = sizeof...(R);
    Register sum[n_rows][kTileRegisters];
    const auto begin = [&]<std::size_t r>() {
        if (is_added) {
            ((sum[r][N] = get(c + r * c_row + N * S7_WIDTH)), ...);
        } else {
            ((sum[r][N] = spread(0.0f)), ...);
        }
    };
    (begin.template operator()<R>(), ...);
    // It is called five times. Without this attribute, Clang keeps it a function and the sums in
    // memory.
    const auto one = [&]() __attribute__((always_inline)) {
        Register values[kTileRegisters];
        ((values[N] = get(b + N * S7_WIDTH)), ...);
        const auto step = [&]<std::size_t r>() {
            ((sum[r][N] = fused_spread(a + r, values[N], sum[r][N])), ...);
        };
        (step.template operator()<R>(), ...);
        a += kTileRows;
        b += kTileColumns;
    };
    const std::size_t sums_of_chunk = (n_rows * kChunk + n - 1) / n;
    const float *from = ahead.from, *sums = ahead.sums;
    std::size_t i = 0;
    for (; i + kChunk <= n; i += kChunk, from += ahead.step) {
        for (std::size_t line = 0; line < ahead.count; ++line)
            __builtin_prefetch(from + line * ahead.stride, 0, 2);
        for (std::size_t r = 0; i < n_rows * kChunk && r < sums_of_chunk; ++r, sums += c_row)
            for (std::size_t j = 0; j < kTileColumns; j += kWide) __builtin_prefetch(sums + j, 1);
        for (std::size_t part = 0; part < kChunk; part += kUnrolled) one(), one(), one(), one();
    }
    for (; i < n; ++i) one();
    const auto end = [&]<std::size_t r>() { (put(c + r * c_row + N * S7_WIDTH, sum[r][N]), ...); };
    (end.template operator()<R>(), ...);
}

typedef void (*Tile)(const float *a, const float *b, float *c, std::size_t c_row, std::size_t n,
                     bool is_added, const Ahead &ahead);

template <std::size_t kRows>
void tile_of(const float *a, const float *b, float *c, std::size_t c_row, std::size_t n,
             bool is_added, const Ahead &ahead) {
    tile(a, b, c, c_row, n, is_added, ahead, std::make_index_sequence<kRows>{},
         std::make_index_sequence<kTileRegisters>{});
}

template <std::size_t... R> constexpr auto tiles(std::index_sequence<R...>) {
    struct Table {
        Tile of[sizeof...(R)];
    };
    return Table{{tile_of<R + 1>...}};
}

constexpr auto kTiles = tiles(std::make_index_sequence<kTileRows>{});

}  // namespace
}  // namespace s7train
#endif
