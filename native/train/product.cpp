// Products of specs/training-arithmetic.md: packing, and tiles of outputs. Compiled once for each
// instruction set.
//
// B is packed in panels with the columns of a tile, padded with zeros. A sliver of A (the rows of a
// tile) is packed when it is needed and then multiplied with every panel. The sums of a tile stay
// in registers over a block of inner indices. They are stored and loaded again between two blocks,
// which rounds nothing.

#include "product.h"

#include "operators_set.h"

#include <algorithm>

namespace s7train {
namespace {

#if S7_WIDTH > 1
// Swaps the off-diagonal blocks of kApart lanes of two rows.
template <std::size_t kApart, std::size_t... I>
inline void exchange(Register &low, Register &high, std::index_sequence<I...>) {
    const Register a = low, b = high;
    low = __builtin_shufflevector(a, b, (I & kApart ? S7_WIDTH + I - kApart : I)...);
    high = __builtin_shufflevector(a, b, (I & kApart ? S7_WIDTH + I : I + kApart)...);
}

template <std::size_t kApart, std::size_t... R>
inline void exchange_all(Register (&rows)[S7_WIDTH], std::index_sequence<R...> all) {
    const auto one = [&]<std::size_t r>() {
        if constexpr (!(r & kApart)) exchange<kApart>(rows[r], rows[r + kApart], all);
    };
    (one.template operator()<R>(), ...);
    if constexpr (kApart > 1) exchange_all<kApart / 2>(rows, all);
}
#endif

// Transposes a square of S7_WIDTH rows of kRows floats with distance `apart` to columns with
// distance kTo. Rows after the kRows-th are zeros.
template <std::size_t kRows, std::size_t kTo, std::size_t... R>
inline void transpose(const float *from, int64_t apart, float *to,
                      [[maybe_unused]] std::index_sequence<R...> all) {
    Register rows[S7_WIDTH];
    ((rows[R] = R < kRows ? get(from + static_cast<int64_t>(R) * apart) : spread(0.0f)), ...);
#if S7_WIDTH > 1
    exchange_all<S7_WIDTH / 2>(rows, all);
#endif
    (put(to + R * kTo, rows[R]), ...);
}

// Transposes kRows rows of n floats to columns with distance kTo. Whole registers are written, so
// up to S7_WIDTH floats after a column are overwritten.
template <std::size_t kRows, std::size_t kTo>
void transpose_rows(const float *from, int64_t apart, std::size_t n, float *to) {
    constexpr auto all = std::make_index_sequence<S7_WIDTH>{};
    constexpr std::size_t rest = kRows % S7_WIDTH, whole = kRows - rest;
    std::size_t i = 0;
    for (; i + S7_WIDTH <= n; i += S7_WIDTH) {
        if constexpr (rest)
            transpose<rest, kTo>(from + static_cast<int64_t>(whole) * apart + i, apart,
                                 to + i * kTo + whole, all);
        for (std::size_t r = 0; r < whole; r += S7_WIDTH)
            transpose<S7_WIDTH, kTo>(from + static_cast<int64_t>(r) * apart + i, apart,
                                     to + i * kTo + r, all);
    }
    for (; i < n; ++i)
        for (std::size_t r = 0; r < kRows; ++r)
            to[i * kTo + r] = from[static_cast<int64_t>(r) * apart + static_cast<int64_t>(i)];
}

constexpr std::size_t kBatch = 16;  // inner indices that are transposed at once

// The same for any strides and fewer rows.
void transpose_any(const float *from, std::size_t n_rows, int64_t row, std::size_t n,
                   int64_t column, float *to, std::size_t apart) {
    for (std::size_t start = 0; start < n; start += kBatch) {
        const std::size_t end = std::min(n, start + kBatch);
        for (std::size_t r = 0; r < n_rows; ++r) {
            const float *at = from + static_cast<int64_t>(r) * row;
            for (std::size_t i = start; i < end; ++i)
                to[i * apart + r] = at[static_cast<int64_t>(i) * column];
        }
    }
}

// Packs the rows of a tile by columns.
void pack_sliver(const s7_product_of &p, std::size_t first, std::size_t n_rows, Span inner,
                 float *to) {
    const std::size_t n = inner.end - inner.begin;
    const float *from = p.a + static_cast<int64_t>(first) * p.a_row +
                        static_cast<int64_t>(inner.begin) * p.a_column;
    if (n_rows < kTileRows)
        return transpose_any(from, n_rows, p.a_row, n, p.a_column, to, kTileRows);
    if (p.a_column == 1) return transpose_rows<kTileRows, kTileRows>(from, p.a_row, n, to);
    if (p.a_row != 1) return transpose_any(from, kTileRows, p.a_row, n, p.a_column, to, kTileRows);
    for (std::size_t i = 0; i < n; ++i, from += p.a_column, to += kTileRows)
        std::memcpy(to, from, kTileRows * sizeof(float));
}

// The prefetches while the sliver before `first` is multiplied with n_panels panels: all lines of
// the next sliver.
Ahead ahead_of(const s7_product_of &p, std::size_t first, Span inner, std::size_t n_panels) {
    const bool by_column = p.a_row == 1;
    Ahead ahead{};
    // When A is by columns, the sliver before has loaded the line of the first row of most columns.
    ahead.from = p.a + static_cast<int64_t>(by_column ? first + kTileRows - 1 : first) * p.a_row +
                 static_cast<int64_t>(inner.begin) * p.a_column;
    ahead.stride = static_cast<std::size_t>(by_column ? p.a_column : p.a_row);
    ahead.step = static_cast<std::size_t>(p.a_column) * kChunk;
    ahead.count = ((by_column ? kChunk : kTileRows) + n_panels - 1) / n_panels;
    return ahead;
}

}  // namespace

namespace S7_SET {

const std::size_t panel_columns = kTileColumns, tile_rows = kTileRows, inner_block = kInner;
const std::size_t sliver_floats = kTileRows * kInner + kWide + kTileRows * kTileColumns;

std::size_t panel_floats(std::size_t n) { return (n | 1) * kTileColumns; }

void pack_panel(const s7_product_of &p, std::size_t first, Span inner, float *to) {
    const std::size_t n_columns = std::min(kTileColumns, static_cast<std::size_t>(p.n) - first),
                      n = inner.end - inner.begin;
    const float *from = p.b + static_cast<int64_t>(inner.begin) * p.b_row +
                        static_cast<int64_t>(first) * p.b_column;
    if (n_columns == kTileColumns && p.b_row == 1)
        return transpose_rows<kTileColumns, kTileColumns>(from, p.b_column, n, to);
    if (n_columns < kTileColumns) std::fill(to, to + n * kTileColumns, 0.0f);
    transpose_any(from, n_columns, p.b_column, n, p.b_row, to, kTileColumns);
}

void pack_rows(const s7_product_of &p, Span inner, Span part, float *to) {
    const std::size_t n = inner.end - inner.begin, n_columns = static_cast<std::size_t>(p.n),
                      whole = n_columns / kTileColumns;
    for (std::size_t i = part.begin; i < part.end; ++i) {
        const float *from = p.b + static_cast<int64_t>(i) * p.b_row;
        float *at = to + (i - inner.begin) * kTileColumns;
        for (std::size_t panel = 0; panel < whole;
             ++panel, from += kTileColumns, at += panel_floats(n))
            std::memcpy(at, from, kTileColumns * sizeof(float));
        const std::size_t rest = n_columns - whole * kTileColumns;
        if (!rest) continue;
        std::fill(at + rest, at + kTileColumns, 0.0f);
        std::memcpy(at, from, rest * sizeof(float));
    }
}

void multiply(const s7_product_of &p, Span rows, Span columns, Span inner, const float *panels,
              float *scratch) {
    const std::size_t n = inner.end - inner.begin,
                      n_panels = (columns.end - columns.begin + kTileColumns - 1) / kTileColumns;
    const bool is_added = p.is_added || inner.begin > 0;
    float *sliver = scratch, *edge = scratch + kTileRows * kInner + kWide;
    for (std::size_t first = rows.begin; first < rows.end; first += kTileRows) {
        const std::size_t n_rows = std::min(kTileRows, rows.end - first);
        pack_sliver(p, first, n_rows, inner, sliver);
        const Tile tile = kTiles.of[n_rows - 1];
        float *c = p.c + static_cast<int64_t>(first) * p.c_row;
        Ahead ahead = ahead_of(p, first + kTileRows, inner, n_panels);
        if (first + 2 * kTileRows > rows.end) ahead.count = 0;
        for (std::size_t j = columns.begin; j < columns.end; j += kTileColumns) {
            const float *panel = panels + j / kTileColumns * panel_floats(n);
            const std::size_t n_columns = std::min(kTileColumns, static_cast<std::size_t>(p.n) - j);
            ahead.sums = j + kTileColumns < columns.end
                             ? c + j + kTileColumns
                             : c + columns.begin + static_cast<int64_t>(kTileRows) * p.c_row;
            if (n_columns == kTileColumns) {
                tile(sliver, panel, c + j, p.c_row, n, is_added, ahead);
                ahead.from += ahead.count * ahead.stride;
                continue;
            }
            for (std::size_t r = 0; is_added && r < n_rows; ++r)
                std::memcpy(edge + r * kTileColumns, c + j + static_cast<int64_t>(r) * p.c_row,
                            n_columns * sizeof(float));
            tile(sliver, panel, edge, kTileColumns, n, is_added, ahead);
            for (std::size_t r = 0; r < n_rows; ++r)
                std::memcpy(c + j + static_cast<int64_t>(r) * p.c_row, edge + r * kTileColumns,
                            n_columns * sizeof(float));
        }
    }
}

}  // namespace S7_SET
}  // namespace s7train
