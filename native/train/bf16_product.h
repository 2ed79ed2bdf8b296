/* Products of BF16 pairs in register tiles, summed in float32 (VDPBF16PS). Each element of C is one
 * chain in the order of the pairs. */
#ifndef S7_TRAIN_BF16_PRODUCT_H
#define S7_TRAIN_BF16_PRODUCT_H

#include "bf16_wide.h"

#include <utility>

namespace s7train {
namespace {

/* Two adjacent BF16, which one lane multiplies at a time. */
typedef std::uint32_t Pair __attribute__((may_alias, aligned(2)));

/* A matrix whose inner index advances by pairs. Pair p of row i is at data[i * row + p * column].
 */
struct Pairs {
    const Pair *data;
    std::size_t row, column;
};

constexpr std::size_t kStripRows = 6, kTileVectors = 4;

/* C[R, N vectors] (+)= A[R, n_pairs] * B[n_pairs, N vectors]. Indexes are compile-time constants,
 * because GCC would otherwise keep the sums in memory. */
template <bool kAdd, std::size_t... R, std::size_t... N>
inline void tile(Pairs a, const Pair *b, std::size_t b_row, float *c, std::size_t c_row,
                 std::size_t n_pairs, std::index_sequence<R...>, std::index_sequence<N...>) {
    __m512 sum[sizeof...(R)][sizeof...(N)];
    const auto load_row = [&]<std::size_t r>() {
        ((sum[r][N] = kAdd ? _mm512_loadu_ps(c + r * c_row + N * kLanes) : _mm512_setzero_ps()),
         ...);
    };
    (load_row.template operator()<R>(), ...);
    for (std::size_t p = 0; p < n_pairs; ++p) {
        __m512bh row[sizeof...(N)];
        ((row[N] = (__m512bh)_mm512_loadu_si512(b + p * b_row + N * kLanes)), ...);
        const auto step = [&]<std::size_t r>() {
            const __m512bh value =
                (__m512bh)_mm512_set1_epi32(static_cast<int>(a.data[r * a.row + p * a.column]));
            ((sum[r][N] = _mm512_dpbf16_ps(sum[r][N], value, row[N])), ...);
        };
        (step.template operator()<R>(), ...);
    }
    const auto store_row = [&]<std::size_t r>() {
        (_mm512_storeu_ps(c + r * c_row + N * kLanes, sum[r][N]), ...);
    };
    (store_row.template operator()<R>(), ...);
}

/* The same for N vectors of columns and any number of rows. */
template <bool kAdd, std::size_t kN>
void strips(Pairs a, const Pair *b, std::size_t b_row, float *c, std::size_t c_row,
            std::size_t n_rows, std::size_t n_pairs) {
    std::size_t r = 0;
    const auto some = [&]<std::size_t kR>() {
        tile<kAdd>({a.data + r * a.row, a.row, a.column}, b, b_row, c + r * c_row, c_row, n_pairs,
                   std::make_index_sequence<kR>{}, std::make_index_sequence<kN>{});
        r += kR;
    };
    while (r + kStripRows <= n_rows) some.template operator()<kStripRows>();
    if (n_rows - r >= 4) some.template operator()<4>();
    if (n_rows - r >= 2) some.template operator()<2>();
    if (n_rows - r >= 1) some.template operator()<1>();
}

/* C[n_rows, n_columns] (+)= A[n_rows, n_pairs] * B[n_pairs, n_columns]; n_columns is a multiple
 * of 16. */
template <bool kAdd>
void product(Pairs a, const Pair *b, std::size_t b_row, float *c, std::size_t c_row,
             std::size_t n_rows, std::size_t n_columns, std::size_t n_pairs) {
    std::size_t n = 0;
    for (; n + kTileVectors * kLanes <= n_columns; n += kTileVectors * kLanes)
        strips<kAdd, kTileVectors>(a, b + n, b_row, c + n, c_row, n_rows, n_pairs);
    for (; n < n_columns; n += kLanes)
        strips<kAdd, 1>(a, b + n, b_row, c + n, c_row, n_rows, n_pairs);
}

}  // namespace
}  // namespace s7train
#endif
