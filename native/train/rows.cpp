// Row and element operators of specs/training-arithmetic.md. Compiled once for each instruction
// set.
//
// When a row ends within sixteen lanes, the lanes after it hold zeros (in a softmax: minus
// infinity), which add nothing.

#include "lanes.h"
#include "logarithm.h"
#include "operators_set.h"

#include <algorithm>
#include <cmath>

namespace s7train {
namespace {

template <class Work> inline void each_wide(Span span, const Work &work) {
    std::size_t i = span.begin;
    for (; i + kWide <= span.end; i += kWide) work(i, kWide);
    if (i < span.end) work(i, span.end - i);
}

float sum_of_products(const float *x, const float *y, std::size_t n) {
    Wide sum = wide(0.0f);
    each_wide({0, n}, [&](std::size_t i, std::size_t size) {
        sum = fused(load_some(x + i, size), load_some(y + i, size), sum);
    });
    return total(sum);
}

void norm(const float *x, const float *gain, float eps, float *y, float *scale, Span rows,
          std::size_t n) {
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
        const float *from = x + row * n;
        float *to = y + row * n;
        const float mean = sum_of_products(from, from, n) / static_cast<float>(n);
        scale[row] = 1.0f / std::sqrt(mean + eps);
        const Wide factor = wide(scale[row]);
        each_wide({0, n}, [&](std::size_t i, std::size_t size) {
            store_some(to + i, (load_some(from + i, size) * factor) * load_some(gain + i, size),
                       size);
        });
    }
}

void norm_slope(const float *x, const float *gain, const float *scale, const float *grad,
                const float *beside, float *grad_x, Span rows, std::size_t n) {
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
        const std::size_t at = row * n;
        Wide sum = wide(0.0f);
        each_wide({0, n}, [&](std::size_t i, std::size_t size) {
            sum = fused(load_some(grad + at + i, size) * load_some(gain + i, size),
                        load_some(x + at + i, size), sum);
        });
        const Wide factor = wide(scale[row]);
        const Wide share =
            wide(((total(sum) * scale[row]) * scale[row]) / static_cast<float>(n) * -1.0f);
        each_wide({0, n}, [&](std::size_t i, std::size_t size) {
            const Wide slope = load_some(grad + at + i, size) * load_some(gain + i, size);
            Wide result = fused(load_some(x + at + i, size), share, slope) * factor;
            if (beside) result = result + load_some(beside + at + i, size);
            store_some(grad_x + at + i, result, size);
        });
    }
}

void norm_gain(const float *x, const float *scale, const float *grad, float *grad_gain,
               std::size_t n_rows, Span columns, std::size_t n) {
    each_wide(columns, [&](std::size_t i, std::size_t size) {
        Wide sum = wide(0.0f);
        for (std::size_t row = 0; row < n_rows; ++row) {
            const std::size_t at = row * n + i;
            sum =
                fused(load_some(grad + at, size), load_some(x + at, size) * wide(scale[row]), sum);
        }
        store_some(grad_gain + i, sum, size);
    });
}

inline Wide sigmoid(const Wide &x) {
    return parts([&](std::size_t i) { return sigmoid(x.part[i]); });
}

void gate(const float *gate, const float *up, float *y, Span elements) {
    each_wide(elements, [&](std::size_t i, std::size_t size) {
        const Wide x = load_some(gate + i, size);
        store_some(y + i, (x * sigmoid(x)) * load_some(up + i, size), size);
    });
}

void gate_slope(const float *gate, const float *up, const float *grad, float *grad_gate,
                float *grad_up, Span elements) {
    each_wide(elements, [&](std::size_t i, std::size_t size) {
        const Wide x = load_some(gate + i, size), share = sigmoid(x), silu = x * share,
                   slope = load_some(grad + i, size);
        const Wide turned = share + silu * (wide(1.0f) - share);
        store_some(grad_gate + i, (slope * load_some(up + i, size)) * turned, size);
        store_some(grad_up + i, slope * silu, size);
    });
}

void turn(const s7_turn &t, Span rows) {
    const Wide sign = wide(static_cast<float>(t.direction)),
               other = wide(static_cast<float>(-t.direction));
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
        const auto number = static_cast<int64_t>(row);
        const int64_t position = number % t.length, head = number / t.length % t.n_heads,
                      batch = number / t.length / t.n_heads;
        const float *x = t.x + batch * t.x_batch + head * t.x_head + position * t.x_position;
        float *y = t.y + batch * t.y_batch + head * t.y_head + position * t.y_position;
        const float *cosine = t.cosine + position * t.n_pairs,
                    *sine = t.sine + position * t.n_pairs;
        each_wide({0, static_cast<std::size_t>(t.n_pairs)}, [&](std::size_t i, std::size_t size) {
            const Wide a = load_some(x + i, size), b = load_some(x + t.n_pairs + i, size);
            const Wide c = load_some(cosine + i, size), s = load_some(sine + i, size);
            store_some(y + i, fused(a, c, b * (s * other)), size);
            store_some(y + t.n_pairs + i, fused(b, c, a * (s * sign)), size);
        });
    }
}

inline Wide load_logits(const float *p, std::size_t n) {
    if (n >= kWide) return load(p);
    float all[kWide];
    std::fill(all, all + kWide, -INFINITY);
    std::memcpy(all, p, n * sizeof(float));
    return load(all);
}

void losses(const s7_losses_of &l, Span rows) {
    const auto n = static_cast<std::size_t>(l.n);
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
        float *logits = l.logits + row * n;
        Wide most = wide(-INFINITY), sum = wide(0.0f);
        each_wide({0, n}, [&](std::size_t i, std::size_t size) {
            most = largest(most, load_logits(logits + i, size));
        });
        const float top = highest(most), wanted = logits[l.target[row]];
        const Wide shift = wide(top);
        each_wide({0, n}, [&](std::size_t i, std::size_t size) {
            const Wide e = exponential(load_logits(logits + i, size) - shift);
            sum = sum + e;
            if (l.factor) store_some(logits + i, e, size);
        });
        const float all = total(sum);
        l.loss[row] = (top - wanted) + static_cast<float>(logarithm(all));
        if (!l.factor) continue;
        const float own = ((logits[l.target[row]] / all) - 1.0f) * l.factor[row];
        const Wide share = wide(l.factor[row] / all);
        each_wide({0, n}, [&](std::size_t i, std::size_t size) {
            store_some(logits + i, load_some(logits + i, size) * share, size);
        });
        logits[l.target[row]] = own;
    }
}

void add(const float *x, const float *y, float *z, Span elements) {
    each_wide(elements, [&](std::size_t i, std::size_t size) {
        store_some(z + i, load_some(x + i, size) + load_some(y + i, size), size);
    });
}

void scale(const float *x, float factor, float *z, Span elements) {
    each_wide(elements, [&](std::size_t i, std::size_t size) {
        store_some(z + i, load_some(x + i, size) * wide(factor), size);
    });
}

void squares(const float *x, float *sums, Span rows, std::size_t n) {
    for (std::size_t row = rows.begin; row < rows.end; ++row)
        sums[row] = n == 1 ? x[row] * x[row] : sum_of_products(x + row * n, x + row * n, n);
}

void adam(const s7_adam_of &a, Span elements) {
    each_wide(elements, [&](std::size_t i, std::size_t size) {
        const Wide weight = load_some(a.weight + i, size), old_mean = load_some(a.mean + i, size);
        const Wide slope = fused(wide(a.added_decay), weight, load_some(a.grad + i, size));
        const Wide mean = fused(wide(a.one_minus_beta1), slope - old_mean, old_mean);
        const Wide kept = wide(a.beta2) * load_some(a.square + i, size);
        const Wide square = fused(slope * wide(a.one_minus_beta2), slope, kept);
        const Wide width = root(square) / wide(a.root_correction) + wide(a.eps);
        store_some(a.mean + i, mean, size);
        store_some(a.square + i, square, size);
        store_some(a.weight + i,
                   fused(wide(a.step_size) * wide(-1.0f), mean / width, weight * wide(a.decay)),
                   size);
    });
}

}  // namespace

#define S7_JOINED(set) set##_operators
#define S7_TABLE(set) S7_JOINED(set)

extern const Operators S7_TABLE(S7_SET);
const Operators S7_TABLE(S7_SET) = {S7_SET::panel_columns,
                                    S7_SET::tile_rows,
                                    S7_SET::inner_block,
                                    S7_SET::sliver_floats,
                                    S7_SET::panel_floats,
                                    S7_SET::pack_panel,
                                    S7_SET::pack_rows,
                                    S7_SET::multiply,
                                    norm,
                                    norm_slope,
                                    norm_gain,
                                    gate,
                                    gate_slope,
                                    turn,
                                    losses,
                                    add,
                                    scale,
                                    squares,
                                    adam,
                                    S7_SET::attend,
                                    S7_SET::attend_slope,
                                    S7_SET::attend_hybrid,
                                    S7_SET::attend_hybrid_slope};

}  // namespace s7train
