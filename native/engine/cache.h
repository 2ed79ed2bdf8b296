// The KV cache of a sequence: pages of 64 positions of all layers and heads. Sequences share pages
// by reference count.
#pragma once

#include <atomic>

#include "model.h"

namespace s7 {

// A page is written only while one session holds it.
struct Page {
    std::atomic<i32> n_holders{1};
    Buffer<u8> bytes;  // [n_layers, n_kv_heads] blocks of HeadLayout
};

}  // namespace s7

struct s7_session {
    const s7_model *model;
    s7::HeadLayout layout;
    i64 length = 0, n_pages = 0;
    i64 expert = 0;  // its stack follows the trunk; the first id chooses it
    s7::Buffer<s7::Page *> pages;
    s7::Buffer<u8 *> bytes;  // the bytes of each page, for the kernels

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

    // Prefetch the data that attention with n_keys positions of a head will read. Each page is a
    // stream of its own, which the processor does not predict.
    void fetch(i64 layer, i64 kv, i64 n_keys) const;

    // Makes room for positions length .. length + n - 1. Returns false without memory; the contents
    // then stay valid.
    [[nodiscard]] bool reserve(i64 n);

    // Drops the pages from the `n`-th.
    void keep(i64 n);

    // Writes the codes of one key (given as acts) or value at a position. Scales have the form of
    // the specification.
    void put_key(i64 layer, i64 kv, i64 position, const u8 *acts, s7::Pair scale);
    void put_value(i64 layer, i64 kv, i64 position, const u8 *acts, s7::Pair scale);
};
