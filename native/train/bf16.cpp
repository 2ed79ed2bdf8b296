// The calls of bf16.h: checks, and threads that each compute one head, or some rows, after the
// other.

#include "bf16.h"

#include "../engine/processor.h"
#include "bf16_kernels.h"
#include "kernels.h"
#include "threads.h"

#include <vector>

namespace s7train::bf16 {
namespace {

constexpr std::size_t kChunk = 64;  // rows of a task; sums over rows are added chunk by chunk

bool available() { return wide_allowed() && Processor().bf16(); }

bool sound_rows(const s7_bf16_rows *rows) {
    return rows && rows->n_rows >= 0 && rows->n_columns > 0 && rows->n_threads > 0 &&
           rows->n_threads <= 64;
}

int32_t obstacle(bool is_sound) {
    if (!available()) return S7_TRAIN_NOT_HERE;
    return is_sound ? S7_TRAIN_OK : S7_TRAIN_SHAPE;
}

std::size_t n_chunks(const s7_bf16_rows &rows) {
    return (static_cast<std::size_t>(rows.n_rows) + kChunk - 1) / kChunk;
}

Range chunk(const s7_bf16_rows &rows, std::size_t task) {
    const auto n_rows = static_cast<std::size_t>(rows.n_rows);
    return {task * kChunk, std::min(n_rows, (task + 1) * kChunk),
            static_cast<std::size_t>(rows.n_columns)};
}

// Calls `work(range)` for all rows in chunks.
template <class Work> int32_t each_chunk(const s7_bf16_rows *rows, const Work &work) {
    if (const int32_t code = obstacle(sound_rows(rows))) return code;
    each(n_chunks(*rows), rows->n_threads,
         [&](std::size_t task, std::size_t) { work(chunk(*rows, task)); });
    return S7_TRAIN_OK;
}

// Calls `work(head, scratch)` for every key/value head of the batch.
struct Arrays {
    const s7_bf16_heads *q, *k, *v, *y, *grad_y, *grad_q, *grad_k, *grad_v;
    const float *cosine, *sine;
    float *log_sum;
};

template <class Work>
int32_t each_head(const s7_attention_shape *shape, const Arrays &arrays, const Work &work) {
    if (const int32_t code = obstacle(sound(shape))) return code;
    const std::size_t n_kv = shape->n_kv_heads, n_queries = shape->n_heads / n_kv,
                      length = shape->length;
    const bool done = each_with_scratch(
        shape->n_batch * n_kv, shape->n_threads, scratch_bytes(length, shape->head_dim),
        [&](std::size_t index, char *scratch) {
            const auto batch = static_cast<int64_t>(index / n_kv),
                       kv_head = static_cast<int64_t>(index % n_kv);
            const auto at = [&](const s7_bf16_heads *heads, std::size_t n) -> Vectors {
                if (!heads) return {};
                return {heads->data + batch * heads->batch +
                            kv_head * static_cast<int64_t>(n) * heads->head,
                        static_cast<std::size_t>(heads->token),
                        static_cast<std::size_t>(heads->head)};
            };
            Head head{};
            head.q = at(arrays.q, n_queries), head.k = at(arrays.k, 1), head.v = at(arrays.v, 1);
            head.y = at(arrays.y, n_queries), head.grad_y = at(arrays.grad_y, n_queries);
            head.grad_q = at(arrays.grad_q, n_queries), head.grad_k = at(arrays.grad_k, 1),
            head.grad_v = at(arrays.grad_v, 1);
            head.cosine = arrays.cosine, head.sine = arrays.sine;
            head.log_sum = arrays.log_sum + index * n_queries * length;
            head.length = length, head.head_dim = shape->head_dim, head.n_queries = n_queries;
            work(head, scratch);
        });
    return done ? S7_TRAIN_OK : S7_TRAIN_MEMORY;
}

}  // namespace
}  // namespace s7train::bf16

using namespace s7train;
using namespace s7train::bf16;

int32_t s7_bf16_available(void) { return available(); }

int32_t s7_bf16_attention_forward(const s7_attention_shape *shape, const s7_bf16_heads *q,
                                  const s7_bf16_heads *k, const s7_bf16_heads *v,
                                  const float *cosine, const float *sine, const s7_bf16_heads *y,
                                  float *log_sum) {
    const Arrays arrays{q, k, v, y, nullptr, nullptr, nullptr, nullptr, cosine, sine, log_sum};
    return each_head(shape, arrays, attention_forward);
}

int32_t s7_bf16_attention_backward(const s7_attention_shape *shape, const s7_bf16_heads *q,
                                   const s7_bf16_heads *k, const s7_bf16_heads *v,
                                   const float *cosine, const float *sine, const s7_bf16_heads *y,
                                   const float *log_sum, const s7_bf16_heads *grad_y,
                                   const s7_bf16_heads *grad_q, const s7_bf16_heads *grad_k,
                                   const s7_bf16_heads *grad_v) {
    const Arrays arrays{
        q, k, v, y, grad_y, grad_q, grad_k, grad_v, cosine, sine, const_cast<float *>(log_sum)};
    return each_head(shape, arrays, attention_backward);
}

int32_t s7_bf16_norm_forward(const s7_bf16_rows *rows, const float *x, const float *weight,
                             float eps, uint16_t *y, float *inverse) {
    return each_chunk(rows, [&](Range range) { norm_forward(range, x, weight, eps, y, inverse); });
}

int32_t s7_bf16_norm_backward(const s7_bf16_rows *rows, const float *x, const float *weight,
                              const float *inverse, const uint16_t *grad_y, const float *beside,
                              float *grad_x, float *grad_weight) {
    if (const int32_t code = obstacle(sound_rows(rows))) return code;
    const auto n = static_cast<std::size_t>(rows->n_columns);
    std::vector<float> partial(n_chunks(*rows) * n);
    each_chunk(rows, [&](Range range) {
        norm_backward(range, x, weight, inverse, grad_y, beside, grad_x,
                      partial.data() + range.begin / kChunk * n);
    });
    std::fill(grad_weight, grad_weight + n, 0.0f);
    for (std::size_t i = 0; i < partial.size(); ++i) grad_weight[i % n] += partial[i];
    return S7_TRAIN_OK;
}

int32_t s7_bf16_swiglu_forward(const s7_bf16_rows *rows, int64_t stride, const uint16_t *gate,
                               const uint16_t *up, uint16_t *y) {
    return each_chunk(rows, [&](Range range) {
        swiglu_forward(range, static_cast<std::size_t>(stride), gate, up, y);
    });
}

int32_t s7_bf16_swiglu_backward(const s7_bf16_rows *rows, int64_t stride, const uint16_t *gate,
                                const uint16_t *up, const uint16_t *grad_y, int64_t grad_stride,
                                uint16_t *grad_gate, uint16_t *grad_up) {
    return each_chunk(rows, [&](Range range) {
        swiglu_backward(range, static_cast<std::size_t>(stride), gate, up, grad_y,
                        static_cast<std::size_t>(grad_stride), grad_gate, grad_up);
    });
}

int32_t s7_bf16_cross_entropy(const s7_bf16_rows *rows, uint16_t *logits, const int64_t *target,
                              const float *counted, float *loss) {
    const auto is_inside = [&](int64_t id) { return id >= 0 && id < rows->n_columns; };
    if (const int32_t code =
            obstacle(sound_rows(rows) && std::all_of(target, target + rows->n_rows, is_inside)))
        return code;
    const std::size_t n_bytes = static_cast<std::size_t>(rows->n_columns) * sizeof(float);
    const bool done = each_with_scratch(
        n_chunks(*rows), rows->n_threads, n_bytes, [&](std::size_t task, char *scratch) {
            cross_entropy(chunk(*rows, task), logits, target, counted, loss,
                          reinterpret_cast<float *>(scratch));
        });
    return done ? S7_TRAIN_OK : S7_TRAIN_MEMORY;
}

int32_t s7_bf16_add(const s7_bf16_rows *rows, const float *x, const uint16_t *y, float *sum) {
    return each_chunk(rows, [&](Range range) { add(range, x, y, sum); });
}
