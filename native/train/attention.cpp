// The calls of attention.h: checks, and threads that each compute one key/value head after the
// other.

#include "attention.h"

#include "kernels.h"
#include "mode.h"
#include "operators.h"
#include "threads.h"

#include <cstdlib>
#include <cstring>

namespace s7train {

bool sound(const s7_attention_shape *shape) {
    return shape && shape->n_batch > 0 && shape->n_kv_heads > 0 && shape->n_heads > 0 &&
           shape->n_heads % shape->n_kv_heads == 0 && shape->length > 0 &&
           shape->length <= 1 << 20 && shape->head_dim > 0 && shape->head_dim <= 256 &&
           shape->head_dim % 16 == 0 && shape->n_threads > 0 && shape->n_threads <= 64 &&
           shape->scaled_dim > 0 && shape->scaled_dim <= shape->head_dim;
}

bool wide_allowed() {
    const char *forced = std::getenv("S7_ISA");
    return !forced || std::strcmp(forced, "avx512") == 0;
}

std::size_t scratch_floats(std::size_t length, std::size_t head_dim) {
    const std::size_t stride = (length + 15) / 16 * 16;
    return stride * (2 * head_dim + 2 * 48);
}

namespace {

// Calls `work(index, scratch)` for every key/value head of the batch.
template <class Work> int32_t each_head(const s7_attention_shape &shape, const Work &work) {
    const std::size_t n_heads = static_cast<std::size_t>(shape.n_batch) * shape.n_kv_heads;
    const std::size_t n_bytes = scratch_floats(shape.length, shape.head_dim) * sizeof(float);
    std::atomic<bool> is_lost{false};
    const bool done =
        each_with_scratch(n_heads, shape.n_threads, n_bytes, [&](std::size_t head, char *scratch) {
            const FloatMode mode;
            if (!mode.is_set()) is_lost = true;
            work(head, reinterpret_cast<float *>(scratch));
        });
    if (is_lost) return S7_TRAIN_MODE;
    return done ? S7_TRAIN_OK : S7_TRAIN_MEMORY;
}

Head head_at(const s7_attention_shape &shape, std::size_t index, const float *q, const float *k,
             const float *v) {
    Head head{};
    head.length = shape.length;
    head.head_dim = shape.head_dim;
    head.scaled_dim = shape.scaled_dim;
    head.n_queries = shape.n_heads / shape.n_kv_heads;
    const std::size_t one = head.length * head.head_dim;
    head.q = q + index * head.n_queries * one;
    head.k = k + index * one;
    head.v = v + index * one;
    return head;
}

}  // namespace
}  // namespace s7train

using namespace s7train;

int32_t s7_train_abi(void) { return S7_TRAIN_ABI; }

int32_t s7_train_available(void) { return operators() != nullptr; }

int32_t s7_attention_forward(const s7_attention_shape *shape, const float *q, const float *k,
                             const float *v, float *y, float *log_sum) {
    const Operators *all = operators();
    if (!all) return S7_TRAIN_NOT_HERE;
    if (!sound(shape)) return S7_TRAIN_SHAPE;
    return each_head(*shape, [&](std::size_t i, float *scratch) {
        Head head = head_at(*shape, i, q, k, v);
        head.y = y + i * head.n_queries * head.length * head.head_dim;
        head.log_sum = log_sum + i * head.n_queries * head.length;
        all->attend(head, scratch);
    });
}

int32_t s7_attention_backward(const s7_attention_shape *shape, const float *q, const float *k,
                              const float *v, const float *y, const float *log_sum,
                              const float *grad_y, float *grad_q, float *grad_k, float *grad_v) {
    const Operators *all = operators();
    if (!all) return S7_TRAIN_NOT_HERE;
    if (!sound(shape)) return S7_TRAIN_SHAPE;
    return each_head(*shape, [&](std::size_t i, float *scratch) {
        Head head = head_at(*shape, i, q, k, v);
        const std::size_t one = head.length * head.head_dim, at = i * head.n_queries * one;
        head.y_in = y + at;
        head.grad_y = grad_y + at;
        head.grad_q = grad_q + at;
        head.log_sum_in = log_sum + i * head.n_queries * head.length;
        head.grad_k = grad_k + i * one;
        head.grad_v = grad_v + i * one;
        all->attend_slope(head, scratch);
    });
}
