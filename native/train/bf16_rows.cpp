// Row operations of a BF16 block: norm, gate, loss, residual. A sum over a row is 16 chains (column
// modulo 16) added in pairs.

#include "bf16_kernels.h"
#include "bf16_wide.h"

#include <cmath>

namespace s7train::bf16 {
namespace {

// 1 / (1 + e^-x), by an exponential of a number that is not positive.
inline Wide sigmoid(Wide x) {
    const Wide e = two_to((x < 0.0f ? x : -x) * kLog2E);
    return (x < 0.0f ? e : Wide{} + 1.0f) / (1.0f + e);
}

template <class Step> inline void columns(std::size_t n, const Step &step) {
    for (std::size_t j = 0; j < n; j += kLanes) step(j, lanes(n - j));
}

}  // namespace

void norm_forward(Range rows, const float *x, const float *weight, float eps, std::uint16_t *y,
                  float *inverse) {
    for (std::size_t r = rows.begin; r < rows.end; ++r) {
        const float *in = x + r * rows.n;
        std::uint16_t *out = y + r * rows.n;
        Wide squares{};
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            const Wide v = get(in + j, mask);
            squares += v * v;
        });
        inverse[r] = 1.0f / std::sqrt(total(squares) / static_cast<float>(rows.n) + eps);
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            put(out + j, mask, get(in + j, mask) * inverse[r] * get(weight + j, mask));
        });
    }
}

void norm_backward(Range rows, const float *x, const float *weight, const float *inverse,
                   const std::uint16_t *grad_y, const float *beside, float *grad_x,
                   float *partial) {
    std::fill(partial, partial + rows.n, 0.0f);
    for (std::size_t r = rows.begin; r < rows.end; ++r) {
        const float *in = x + r * rows.n;
        const std::uint16_t *grad = grad_y + r * rows.n;
        const float *other = beside + r * rows.n;
        float *out = grad_x + r * rows.n;
        const float scale = inverse[r];
        Wide both{};
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            const Wide slope = get(grad + j, mask), unit = get(in + j, mask) * scale;
            both += slope * get(weight + j, mask) * unit;
            put(partial + j, mask, get(partial + j, mask) + slope * unit);
        });
        const float mean = total(both) / static_cast<float>(rows.n);
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            const Wide slope = get(grad + j, mask) * get(weight + j, mask),
                       unit = get(in + j, mask) * scale;
            put(out + j, mask, get(other + j, mask) + (slope - unit * mean) * scale);
        });
    }
}

void swiglu_forward(Range rows, std::size_t stride, const std::uint16_t *gate,
                    const std::uint16_t *up, std::uint16_t *y) {
    for (std::size_t r = rows.begin; r < rows.end; ++r)
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            const Wide g = get(gate + r * stride + j, mask);
            put(y + r * rows.n + j, mask, g * sigmoid(g) * get(up + r * stride + j, mask));
        });
}

void swiglu_backward(Range rows, std::size_t stride, const std::uint16_t *gate,
                     const std::uint16_t *up, const std::uint16_t *grad_y, std::size_t grad_stride,
                     std::uint16_t *grad_gate, std::uint16_t *grad_up) {
    for (std::size_t r = rows.begin; r < rows.end; ++r)
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            const Wide g = get(gate + r * stride + j, mask),
                       slope = get(grad_y + r * rows.n + j, mask);
            const Wide share = sigmoid(g), silu = g * share;
            put(grad_up + r * grad_stride + j, mask, slope * silu);
            put(grad_gate + r * grad_stride + j, mask,
                slope * get(up + r * stride + j, mask) * (share + silu * (1.0f - share)));
        });
}

void cross_entropy(Range rows, std::uint16_t *logits, const std::int64_t *target,
                   const float *counted, float *loss, float *row) {
    for (std::size_t r = rows.begin; r < rows.end; ++r) {
        std::uint16_t *own = logits + r * rows.n;
        const auto at = static_cast<std::size_t>(target[r]);
        const float share = counted ? counted[r] : 1.0f;
        __m512 most = _mm512_set1_ps(-INFINITY);
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            most = _mm512_mask_max_ps(most, mask, most, (__m512)get(own + j, mask));
        });
        const float highest = _mm512_reduce_max_ps(most), wanted = get(own + at, 1)[0];
        Wide sum{};
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            const Wide e = (Wide)_mm512_maskz_mov_ps(
                mask, (__m512)two_to((get(own + j, mask) - highest) * kLog2E));
            put(row + j, mask, e);
            sum += e;
        });
        const float whole = total(sum), scale = 1.0f / whole;
        loss[r] = (std::log(whole) + highest - wanted) * share;
        row[at] -= whole;
        columns(rows.n, [&](std::size_t j, __mmask16 mask) {
            put(own + j, mask, get(row + j, mask) * scale * share);
        });
    }
}

void add(Range rows, const float *x, const std::uint16_t *y, float *sum) {
    const std::size_t begin = rows.begin * rows.n;
    columns((rows.end - rows.begin) * rows.n, [&](std::size_t j, __mmask16 mask) {
        put(sum + begin + j, mask, get(x + begin + j, mask) + get(y + begin + j, mask));
    });
}

}  // namespace s7train::bf16
