// Products of specs/training-arithmetic.md: packing, and tiles of outputs. Compiled once for each
// instruction set.
//
// B is packed in panels of as many columns as a tile has, zeros behind the last; a sliver of A (the
// rows of a tile) is packed when it is needed and then meets every panel. A tile's sums stay in
// registers over a block of inner indices and are stored and loaded again between two blocks, which
// rounds nothing.

#include "product.h"

#include "operators_set.h"

#include <algorithm>

namespace s7train {
namespace {

// The rows of a sliver by rows (kStride apart), or by columns where A's columns are what is dense.
void pack_sliver(const s7_product_of &p, std::size_t first, std::size_t n_rows, Span inner,
                 bool by_column, float *to) {
    const std::size_t n = inner.end - inner.begin;
    const float *from = p.a + static_cast<int64_t>(first) * p.a_row +
                        static_cast<int64_t>(inner.begin) * p.a_column;
    if (by_column) {
        for (std::size_t i = 0; i < n; ++i, from += p.a_column, to += kTileRows)
            for (std::size_t r = 0; r < n_rows; ++r) to[r] = from[r];
        return;
    }
    for (std::size_t r = 0; r < n_rows; ++r, from += p.a_row, to += kStride) {
        if (p.a_column == 1) {
            std::memcpy(to, from, n * sizeof(float));
        } else {
            for (std::size_t i = 0; i < n; ++i) to[i] = from[static_cast<int64_t>(i) * p.a_column];
        }
    }
}

// The same for a sliver that is whole: the number of floats to copy is a constant.
void pack_whole_sliver(const s7_product_of &p, std::size_t first, Span inner, float *to) {
    const float *from = p.a + static_cast<int64_t>(first) * p.a_row +
                        static_cast<int64_t>(inner.begin) * p.a_column;
    for (std::size_t i = inner.begin; i < inner.end; ++i, from += p.a_column, to += kTileRows)
        std::memcpy(to, from, kTileRows * sizeof(float));
}

constexpr std::size_t kBatch = 16;  // inner indices that are transposed at once

void pack_transposed(const s7_product_of &p, const float *from, std::size_t n_columns,
                     std::size_t n, float *to) {
    for (std::size_t start = 0; start < n; start += kBatch) {
        const std::size_t end = std::min(n, start + kBatch);
        for (std::size_t j = 0; j < n_columns; ++j) {
            const float *row = from + static_cast<int64_t>(j) * p.b_column;
            for (std::size_t i = start; i < end; ++i)
                to[i * kTileColumns + j] = row[static_cast<int64_t>(i) * p.b_row];
        }
    }
}

}  // namespace

namespace S7_SET {

const std::size_t panel_columns = kTileColumns, tile_rows = kTileRows, inner_block = kInner;
const std::size_t sliver_floats = kTileRows * kStride + kTileRows * kTileColumns;

void pack_panel(const s7_product_of &p, std::size_t first, Span inner, float *to) {
    const std::size_t n_columns = std::min(kTileColumns, static_cast<std::size_t>(p.n) - first),
                      n = inner.end - inner.begin;
    const float *from = p.b + static_cast<int64_t>(inner.begin) * p.b_row +
                        static_cast<int64_t>(first) * p.b_column;
    if (n_columns < kTileColumns) std::fill(to, to + n * kTileColumns, 0.0f);
    pack_transposed(p, from, n_columns, n, to);
}

void pack_rows(const s7_product_of &p, Span inner, Span part, float *to) {
    const std::size_t n = inner.end - inner.begin, n_columns = static_cast<std::size_t>(p.n),
                      whole = n_columns / kTileColumns;
    for (std::size_t i = part.begin; i < part.end; ++i) {
        const float *from = p.b + static_cast<int64_t>(i) * p.b_row;
        float *at = to + (i - inner.begin) * kTileColumns;
        for (std::size_t panel = 0; panel < whole;
             ++panel, from += kTileColumns, at += n * kTileColumns)
            std::memcpy(at, from, kTileColumns * sizeof(float));
        const std::size_t rest = n_columns - whole * kTileColumns;
        if (!rest) continue;
        std::fill(at + rest, at + kTileColumns, 0.0f);
        std::memcpy(at, from, rest * sizeof(float));
    }
}

void multiply(const s7_product_of &p, Span rows, Span columns, Span inner, const float *panels,
              float *scratch) {
    const std::size_t n = inner.end - inner.begin;
    const bool by_column = p.a_row == 1 && p.a_column != 1,
               is_added = p.is_added || inner.begin > 0;
    float *sliver = scratch, *edge = scratch + kTileRows * kStride;
    for (std::size_t first = rows.begin; first < rows.end; first += kTileRows) {
        const std::size_t n_rows = std::min(kTileRows, rows.end - first);
        if (by_column && n_rows == kTileRows) {
            pack_whole_sliver(p, first, inner, sliver);
        } else {
            pack_sliver(p, first, n_rows, inner, by_column, sliver);
        }
        const Tile tile = by_column ? kTilesByColumn.of[n_rows - 1] : kTiles.of[n_rows - 1];
        float *c = p.c + static_cast<int64_t>(first) * p.c_row;
        for (std::size_t j = columns.begin; j < columns.end; j += kTileColumns) {
            const float *panel = panels + j * n;
            const std::size_t n_columns = std::min(kTileColumns, static_cast<std::size_t>(p.n) - j);
            if (n_columns == kTileColumns) {
                tile(sliver, panel, c + j, p.c_row, n, is_added);
                continue;
            }
            for (std::size_t r = 0; is_added && r < n_rows; ++r)
                std::memcpy(edge + r * kTileColumns, c + j + static_cast<int64_t>(r) * p.c_row,
                            n_columns * sizeof(float));
            tile(sliver, panel, edge, kTileColumns, n, is_added);
            for (std::size_t r = 0; r < n_rows; ++r)
                std::memcpy(c + j + static_cast<int64_t>(r) * p.c_row, edge + r * kTileColumns,
                            n_columns * sizeof(float));
        }
    }
}

}  // namespace S7_SET
}  // namespace s7train
