// The KV cache of a sequence: pages of 64 positions of every layer and head, shared between
// sequences by count.
#pragma once

#include <atomic>

#include "model.h"

namespace s7 {

// Written only while one session holds it.
struct Page {
    std::atomic<i32> n_holders{1};
    Buffer<u8> bytes;  // [n_layers, n_kv_heads] blocks of HeadLayout
};

}  // namespace s7

struct s7_session {
    const s7_model *model;
    s7::HeadLayout layout;
    i64 length = 0, n_pages = 0;
    i64 expert = 0;  // whose stack follows the trunk; chosen by the first id
    s7::Buffer<s7::Page *> pages;
    s7::Buffer<u8 *> bytes;  // of each page: what kernels follow

    explicit s7_session(const s7_model *of) : model(of), layout(of->shape.head_dim) {}
    s7_session(const s7_session &) = delete;
    s7_session &operator=(const s7_session &) = delete;
    ~s7_session() { keep(0); }

    i64 head_offset(i64 layer, i64 kv) const {
        return (layer * model->shape.n_kv_heads + kv) * layout.n_bytes;
    }
    i64 page_bytes() const { return head_offset(model->depth(), 0); }
    s7::Head head(i64 layer, i64 kv) const {
        return {bytes.get(), head_offset(layer, kv), &layout};
    }

    // Ask for what attention with n_keys positions of a head will read: a stream of its own for
    // each page, which the processor does not foresee.
    void fetch(i64 layer, i64 kv, i64 n_keys) const;

    // Room to write positions length .. length + n - 1; false without memory (what is held stays
    // valid).
    [[nodiscard]] bool reserve(i64 n);

    // Drop pages from the `n`-th on.
    void keep(i64 n);

    // Codes of one key (acts, before its turn into a page) at a position; value likewise. Scales as
    // the law stores them.
    void put_key(i64 layer, i64 kv, i64 position, const u8 *acts, s7::Pair scale);
    void put_value(i64 layer, i64 kv, i64 position, const u8 *acts, s7::Pair scale);
};
