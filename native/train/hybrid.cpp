// The calls of hybrid.h: checks, and threads that each compute one key/value head after the other.

#include "hybrid.h"

#include "kernels.h"
#include "mode.h"
#include "operators.h"
#include "threads.h"

#include <cmath>

namespace s7train {

std::size_t hybrid_scratch_floats(const s7_hybrid_shape &shape) {
    const auto padded = [](std::size_t n) { return (n + 15) / 16 * 16; };
    const std::size_t length = shape.heads.length, dim = shape.heads.head_dim,
                      n_summaries = length / shape.stride, stride = padded(length),
                      summaries = padded(n_summaries);
    // Keys and values each: transposed; for summaries also by rows, and their gradients.
    return 2 * dim * stride + 2 * dim * summaries + 4 * dim * summaries + 2 * stride +
           2 * padded(2 * static_cast<std::size_t>(shape.stride)) + 2 * dim +
           2 * 48 * (stride + summaries);
}

namespace {

bool is_sound(const s7_hybrid_shape *shape) {
    return shape && sound(&shape->heads) && shape->window > 0 && shape->window <= 1 << 20 &&
           shape->stride > 0 && shape->stride <= 1 << 20 && shape->ring > 0 &&
           std::isfinite(shape->temper);
}

HybridHead head_at(const s7_hybrid_shape &shape, std::size_t index, const s7_hybrid_inputs &in) {
    HybridHead head{};
    head.length = shape.heads.length;
    head.head_dim = shape.heads.head_dim;
    head.scaled_dim = shape.heads.scaled_dim;
    head.n_queries = shape.heads.n_heads / shape.heads.n_kv_heads;
    head.window = shape.window;
    head.stride = shape.stride;
    head.ring = shape.ring;
    head.temper = shape.temper;
    const std::size_t one = head.length * head.head_dim, many = index * head.n_queries * one;
    head.q = in.q + many;
    head.q_turned = in.q_turned + many;
    head.k = in.k + index * one;
    head.k_turned = in.k_turned + index * one;
    head.v = in.v + index * one;
    head.key_score = in.score + head.score_at(shape.heads.n_kv_heads, index, false);
    head.value_score = in.score + head.score_at(shape.heads.n_kv_heads, index, true);
    return head;
}

template <class Work> int32_t each_head(const s7_hybrid_shape &shape, const Work &work) {
    const std::size_t n_heads =
        static_cast<std::size_t>(shape.heads.n_batch) * shape.heads.n_kv_heads;
    std::atomic<bool> is_lost{false};
    const auto one = [&](std::size_t head, char *scratch) {
        const FloatMode mode;
        if (!mode.is_set()) is_lost = true;
        work(head, reinterpret_cast<float *>(scratch));
    };
    const bool done = each_with_scratch(n_heads, shape.heads.n_threads,
                                        hybrid_scratch_floats(shape) * sizeof(float), one);
    if (is_lost) return S7_TRAIN_MODE;
    return done ? S7_TRAIN_OK : S7_TRAIN_MEMORY;
}

}  // namespace
}  // namespace s7train

using namespace s7train;

int32_t s7_hybrid_forward(const s7_hybrid_shape *shape, const s7_hybrid_inputs *in, float *y,
                          float *log_sum) {
    const Operators *all = operators();
    if (!all) return S7_TRAIN_NOT_HERE;
    if (!is_sound(shape) || !in) return S7_TRAIN_SHAPE;
    return each_head(*shape, [&](std::size_t i, float *scratch) {
        HybridHead head = head_at(*shape, i, *in);
        head.y = y + i * head.n_queries * head.length * head.head_dim;
        head.log_sum = log_sum + i * head.n_queries * head.length;
        all->attend_hybrid(head, scratch);
    });
}

int32_t s7_hybrid_backward(const s7_hybrid_shape *shape, const s7_hybrid_inputs *in, const float *y,
                           const float *log_sum, const float *grad_y, const s7_hybrid_slopes *out) {
    const Operators *all = operators();
    if (!all) return S7_TRAIN_NOT_HERE;
    if (!is_sound(shape) || !in || !out) return S7_TRAIN_SHAPE;
    return each_head(*shape, [&](std::size_t i, float *scratch) {
        HybridHead head = head_at(*shape, i, *in);
        const std::size_t one = head.length * head.head_dim, at = i * head.n_queries * one;
        head.y_in = y + at;
        head.grad_y = grad_y + at;
        head.log_sum_in = log_sum + i * head.n_queries * head.length;
        head.grad_q = out->q + at;
        head.grad_q_turned = out->q_turned + at;
        head.grad_k = out->k + i * one;
        head.grad_k_turned = out->k_turned + i * one;
        head.grad_v = out->v + i * one;
        const auto n_kv_heads = shape->heads.n_kv_heads;
        head.grad_key_score = out->score + head.score_at(n_kv_heads, i, false);
        head.grad_value_score = out->score + head.score_at(n_kv_heads, i, true);
        all->attend_hybrid_slope(head, scratch);
    });
}
