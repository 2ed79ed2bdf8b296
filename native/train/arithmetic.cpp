// The calls of arithmetic.h: checks, and the distribution of work over threads. Threads split
// outputs and never the terms of a sum.

#include "arithmetic.h"

#include "mode.h"
#include "operators.h"
#include "threads.h"
#if defined(__x86_64__)
#include "../engine/processor.h"
#endif

#include <algorithm>
#include <cstring>

namespace s7train {

namespace {

constexpr std::size_t kElements = 1 << 14;  // of a task
constexpr std::size_t kPacked =
    256 << 10;  // floats of B that are packed at once, few enough to stay in the caches
constexpr std::size_t kPackedRows = 32;  // rows of B that a task packs
constexpr std::size_t kPanelsAtOnce =
    128 << 10;  // floats of B that a task reads, which fit its second-level cache

bool here(const char *name) {
#if defined(__x86_64__)
    const Processor processor;
    if (!processor.fma()) return false;
    if (!std::strcmp(name, "avx2")) return processor.avx2();
    if (!std::strcmp(name, "avx512")) return processor.avx512_without_vnni();
    return !std::strcmp(name, "scalar");
#else
    return !std::strcmp(name, "neon") || !std::strcmp(name, "scalar");
#endif
}

struct Named {
    const char *name;
    const Operators *operators;
    int32_t number;
};
// From wide to narrow. The first available one is chosen.
constexpr Named kNamed[] = {
#if defined(__x86_64__)
    {"avx512", &avx512_operators, 3},
    {"avx2", &avx2_operators, 2},
#else
    {"neon", &neon_operators, 4},
#endif
    {"scalar", &scalar_operators, 1},
};

const Named *chosen() {
    const char *forced = std::getenv("S7_ISA");
    for (const Named &named : kNamed)
        if ((!forced || !std::strcmp(forced, named.name)) && here(named.name)) return &named;
    return nullptr;
}

bool sound_threads(int32_t n_threads) { return n_threads > 0 && n_threads <= 64; }

// Calls `work(task)` for every task in the floating-point mode of the page. Returns S7_TRAIN_MODE
// if the mode of a thread cannot be set.
template <class Work> int32_t deal(std::size_t n_tasks, int32_t n_threads, const Work &work) {
    std::atomic<bool> is_lost{false};
    const auto one = [&](std::size_t task, std::size_t) {
        const FloatMode mode;
        if (!mode.is_set()) is_lost = true;
        work(task);
    };
    if (n_tasks == 1 || n_threads == 1) {
        for (std::size_t task = 0; task < n_tasks; ++task) one(task, 0);
    } else {
        each(n_tasks, n_threads, one);
    }
    return is_lost ? S7_TRAIN_MODE : S7_TRAIN_OK;
}

// Calls `work(operators, span)` for `n` elements, `size` of them in each task.
template <class Work>
int32_t spans(int64_t n, std::size_t size, int32_t n_threads, bool is_sound, const Work &work) {
    const Operators *all = operators();
    if (!all) return S7_TRAIN_NOT_HERE;
    if (!is_sound || n < 0 || !sound_threads(n_threads)) return S7_TRAIN_SHAPE;
    const auto count = static_cast<std::size_t>(n);
    return deal((count + size - 1) / size, n_threads, [&](std::size_t task) {
        work(*all, Span{task * size, std::min(count, (task + 1) * size)});
    });
}

std::size_t rows_of(int64_t n) {
    return std::max<std::size_t>(1, kElements / static_cast<std::size_t>(std::max<int64_t>(n, 1)));
}

struct Memory {
    float *floats;
    explicit Memory(std::size_t n)
        : floats(static_cast<float *>(std::aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64))) {
    }
    ~Memory() { std::free(floats); }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
};

void clear(const s7_product_of &p) {
    for (int64_t i = 0; i < p.m; ++i) std::fill(p.c + i * p.c_row, p.c + i * p.c_row + p.n, 0.0f);
}

std::size_t parts_of(std::size_t n, std::size_t size) { return (n + size - 1) / size; }

// Packs blocks of B, then distributes blocks of outputs. Blocks of the inner index run one after
// the other.
int32_t multiply(const Operators &all, const s7_product_of &p) {
    const auto m = static_cast<std::size_t>(p.m), n = static_cast<std::size_t>(p.n),
               k = static_cast<std::size_t>(p.k);
    const std::size_t n_panels = parts_of(n, all.panel), width = n_panels * all.panel;
    // Equal blocks of whole chunks (product.h).
    const std::size_t block = parts_of(parts_of(k, parts_of(k, all.inner)), 16) * 16,
                      n_blocks = parts_of(k, block);
    const std::size_t at_once =
        std::min(n_blocks, std::max<std::size_t>(1, kPacked / (width * block)));
    const std::size_t n_passes = parts_of(block * width, kPanelsAtOnce);
    const std::size_t columns = parts_of(n_panels, n_passes) * all.panel;
    const std::size_t n_columns = parts_of(width, columns), n_slivers = parts_of(m, all.tile_rows);
    // At least four tasks for each thread, so that threads do not wait at the end. Many rows in a
    // task, so that B is read few times. Tasks of equal size, as far as tiles allow.
    const std::size_t wanted =
        parts_of(n_slivers * n_columns, 4 * static_cast<std::size_t>(p.n_threads));
    const std::size_t n_parts = parts_of(n_slivers, std::clamp<std::size_t>(wanted, 1, 12)),
                      rows = parts_of(n_slivers, n_parts) * all.tile_rows,
                      n_rows = parts_of(m, rows);
    const Memory panels(at_once * n_panels * all.panel_floats(block)),
        scratch(all.sliver * static_cast<std::size_t>(p.n_threads));
    if (!panels.floats || !scratch.floats) return S7_TRAIN_MEMORY;
    for (std::size_t first = 0; first < n_blocks; first += at_once) {
        const std::size_t last = std::min(n_blocks, first + at_once);
        const auto inner = [&](std::size_t number) {
            return Span{number * block, std::min(k, (number + 1) * block)};
        };
        const auto place = [&](std::size_t number) {
            return panels.floats + (number - first) * n_panels * all.panel_floats(block);
        };
        const bool by_rows = p.b_column == 1;
        const std::size_t n_packed = by_rows ? parts_of(block, kPackedRows) : n_panels;
        int32_t code = deal((last - first) * n_packed, p.n_threads, [&](std::size_t task) {
            const std::size_t number = first + task / n_packed, part = task % n_packed,
                              column = part * all.panel;
            const Span span = inner(number);
            const std::size_t start = span.begin + part * kPackedRows;
            if (!by_rows) {
                all.pack_panel(p, column, span,
                               place(number) + part * all.panel_floats(span.end - span.begin));
            } else if (start < span.end) {
                all.pack_rows(p, span, Span{start, std::min(span.end, start + kPackedRows)},
                              place(number));
            }
        });
        if (code) return code;
        std::atomic<bool> is_lost{false};
        each(n_rows * n_columns, p.n_threads, [&](std::size_t task, std::size_t thread) {
            const FloatMode mode;
            if (!mode.is_set()) is_lost = true;
            // Rows before columns, because the panels of the task before are still in the cache.
            const std::size_t row = task % n_rows * rows, column = task / n_rows * columns;
            const Span own_rows{row, std::min(m, row + rows)},
                own_columns{column, std::min(n, column + columns)};
            for (std::size_t number = first; number < last; ++number)
                all.multiply(p, own_rows, own_columns, inner(number), place(number),
                             scratch.floats + thread * all.sliver);
        });
        if (is_lost) return S7_TRAIN_MODE;
    }
    return S7_TRAIN_OK;
}

}  // namespace

const Operators *operators() {
    const Named *named = chosen();
    return named ? named->operators : nullptr;
}

}  // namespace s7train

using namespace s7train;

int32_t s7_arithmetic_available(void) { return chosen() != nullptr; }

int32_t s7_arithmetic_isa(void) { return chosen() ? chosen()->number : 0; }

int32_t s7_product(const s7_product_of *product) {
    const Operators *all = operators();
    if (!all) return S7_TRAIN_NOT_HERE;
    if (!product || product->m < 0 || product->n < 0 || product->k < 0 ||
        !sound_threads(product->n_threads))
        return S7_TRAIN_SHAPE;
    if (product->m == 0 || product->n == 0) return S7_TRAIN_OK;
    if (product->k > 0) return multiply(*all, *product);
    if (!product->is_added) clear(*product);
    return S7_TRAIN_OK;
}

int32_t s7_norm(const float *x, const float *gain, float eps, float *y, float *scale,
                int64_t n_rows, int64_t n, int32_t n_threads) {
    return spans(n_rows, rows_of(n), n_threads, n > 0, [&](const Operators &all, Span rows) {
        all.norm(x, gain, eps, y, scale, rows, static_cast<std::size_t>(n));
    });
}

int32_t s7_norm_slope(const float *x, const float *gain, const float *scale, const float *grad,
                      const float *beside, float *grad_x, float *grad_gain, int64_t n_rows,
                      int64_t n, int32_t n_threads) {
    const auto columns = static_cast<std::size_t>(n);
    if (grad_x) {
        const int32_t code =
            spans(n_rows, rows_of(n), n_threads, n > 0, [&](const Operators &all, Span rows) {
                all.norm_slope(x, gain, scale, grad, beside, grad_x, rows, columns);
            });
        if (code) return code;
    }
    if (!grad_gain) return S7_TRAIN_OK;
    return spans(n, 32, n_threads, n > 0 && n_rows >= 0, [&](const Operators &all, Span span) {
        all.norm_gain(x, scale, grad, grad_gain, static_cast<std::size_t>(n_rows), span, columns);
    });
}

int32_t s7_gate(const float *gate, const float *up, float *y, int64_t n, int32_t n_threads) {
    return spans(n, kElements, n_threads, true,
                 [&](const Operators &all, Span span) { all.gate(gate, up, y, span); });
}

int32_t s7_gate_slope(const float *gate, const float *up, const float *grad, float *grad_gate,
                      float *grad_up, int64_t n, int32_t n_threads) {
    return spans(n, kElements, n_threads, true, [&](const Operators &all, Span span) {
        all.gate_slope(gate, up, grad, grad_gate, grad_up, span);
    });
}

int32_t s7_rotate(const s7_turn *turn) {
    if (!turn) return S7_TRAIN_SHAPE;
    const bool is_sound = turn->n_batch >= 0 && turn->n_heads > 0 && turn->length > 0 &&
                          turn->n_pairs > 0 && (turn->direction == 1 || turn->direction == -1);
    return spans(turn->n_batch * turn->n_heads * turn->length, rows_of(2 * turn->n_pairs),
                 turn->n_threads, is_sound,
                 [&](const Operators &all, Span rows) { all.turn(*turn, rows); });
}

int32_t s7_losses(const s7_losses_of *losses) {
    if (!losses) return S7_TRAIN_SHAPE;
    bool is_sound = losses->n > 0;
    for (int64_t i = 0; is_sound && i < losses->n_rows; ++i)
        is_sound = losses->target[i] >= 0 && losses->target[i] < losses->n;
    return spans(losses->n_rows, rows_of(losses->n), losses->n_threads, is_sound,
                 [&](const Operators &all, Span rows) { all.losses(*losses, rows); });
}

int32_t s7_scatter_add(const int64_t *ids, const float *grad, float *grad_table, int64_t n_ids,
                       int64_t n_rows, int64_t n, int32_t n_threads) {
    bool is_sound = n > 0 && n_ids >= 0 && n_rows >= 0;
    for (int64_t i = 0; is_sound && i < n_ids; ++i) is_sound = ids[i] >= 0 && ids[i] < n_rows;
    const auto size =
        std::max<std::size_t>(1, static_cast<std::size_t>(std::max<int64_t>(n_rows, 0)) / 32);
    return spans(n_rows, size, n_threads, is_sound, [&](const Operators &all, Span rows) {
        for (int64_t i = 0; i < n_ids; ++i) {
            const auto row = static_cast<std::size_t>(ids[i]);
            float *to = grad_table + ids[i] * n;
            if (row >= rows.begin && row < rows.end)
                all.add(to, grad + i * n, to, Span{0, static_cast<std::size_t>(n)});
        }
    });
}

int32_t s7_add(const float *x, const float *y, float *z, int64_t n, int32_t n_threads) {
    return spans(n, kElements, n_threads, true,
                 [&](const Operators &all, Span span) { all.add(x, y, z, span); });
}

int32_t s7_scale(const float *x, float factor, float *z, int64_t n, int32_t n_threads) {
    return spans(n, kElements, n_threads, true,
                 [&](const Operators &all, Span span) { all.scale(x, factor, z, span); });
}

int32_t s7_row_squares(const float *x, float *sums, int64_t n_rows, int64_t n, int32_t n_threads) {
    return spans(n_rows, rows_of(n), n_threads, n > 0, [&](const Operators &all, Span rows) {
        all.squares(x, sums, rows, static_cast<std::size_t>(n));
    });
}

int32_t s7_adam(const s7_adam_of *adam) {
    if (!adam) return S7_TRAIN_SHAPE;
    return spans(adam->n, kElements, adam->n_threads, true,
                 [&](const Operators &all, Span span) { all.adam(*adam, span); });
}
