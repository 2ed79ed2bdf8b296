// The KV cache of a sequence: pages of 64 positions of every layer and head, shared between
// sequences by count. Under hybrid attention it is a state of constant size: a window, the newest
// strides and a ring of summaries, of which pages that no later position reads are taken again.
#pragma once

#include <atomic>

#include "model.h"

namespace s7 {

// A page is written only while one session holds it.
struct Page {
    std::atomic<i32> n_holders{1};
    Buffer<u8> bytes;  // [n_layers, n_kv_heads] blocks
    Page *next = nullptr;
};

constexpr i64 kQueries = 12;  // query rows that go over the keys together
// Positions that a session of hybrid attention can be taken back by.
constexpr i64 kTakenBack = 64;

// What a head's block holds of a page of strides, in bytes: plain keys and values, row by row,
// their scales, and the two scores.
struct StrideLayout {
    i64 dims, k, v, a, b, k_m, v_m, k_e, v_e, n_bytes;

    explicit StrideLayout(i64 head_dim)
        : dims(head_dim),
          k(0),
          v(kPage * dims),
          a(v + kPage * dims),
          b(a + 4 * kPage),
          k_m(b + 4 * kPage),
          v_m(k_m + 2 * kPage),
          k_e(v_m + 2 * kPage),
          v_e(k_e + 2 * kPage),
          n_bytes(round_up(v_e + 2 * kPage, 64)) {}
};

// Pages first .. end - 1 of a growing list, and some that wait to be taken.
class PageList {
  public:
    PageList() = default;
    PageList(const PageList &) = delete;
    PageList &operator=(const PageList &) = delete;
    ~PageList();

    // A list of `n_pages` at most, of `n_bytes` each.
    [[nodiscard]] bool make(i64 n_pages, i64 n_bytes);

    // Room for pages up to `end`, of which `n_live` at most are held at once, and page `written`
    // for this list alone; false without memory (what is held stays valid).
    [[nodiscard]] bool reserve(i64 written, i64 end, i64 n_live);
    // Pages up to `end`, of those that were reserved.
    void extend(i64 end);
    void drop_before(i64 first);  // the dropped ones wait
    void keep(i64 n);             // pages before the n-th
    void share(const PageList &from, i64 n);
    void begin_at(i64 page);  // an empty list

    u8 *block(i64 position, i64 offset) const { return bytes_.get()[position / kPage] + offset; }
    u8 *page(i64 i) const { return bytes_.get()[i]; }
    u8 *const *pages() const { return bytes_.get(); }
    i64 first() const { return first_; }
    i64 n_bytes() const { return (end_ - first_ + n_waiting_) * page_bytes_; }

  private:
    void release(Page *page);
    void wait(Page *page);
    Page *take();

    Buffer<Page *> pages_;
    Buffer<u8 *> bytes_;  // of each page: what kernels follow
    Page *waiting_ = nullptr;
    i64 first_ = 0, end_ = 0, n_waiting_ = 0, page_bytes_ = 0;
};

// Rows that a query row may need room for, of a document of n tokens.
i64 keys_of_hybrid(const s7_model &model, i64 n);

}  // namespace s7

struct s7_session {
    struct Document {  // of a position: where its document begins, and the number of its first
                       // summary
        i64 begin, ring_base;
    };

    const s7_model *model;
    s7::HeadLayout layout;
    s7::StrideLayout stride_layout;
    i64 length = 0;
    i64 expert = 0;  // whose stack follows the trunk; chosen by the first id
    i64 least_length = 0;
    s7::PageList window, strides, ring;
    Document documents[2 * s7::kTakenBack] = {};  // of the newest positions, by position

    explicit s7_session(const s7_model *of)
        : model(of), layout(of->shape.head_dim), stride_layout(of->shape.head_dim) {}
    s7_session(const s7_session &) = delete;
    s7_session &operator=(const s7_session &) = delete;

    [[nodiscard]] bool make();
    bool is_hybrid() const { return model->is_hybrid(); }
    i64 head_offset(i64 layer, i64 kv) const {
        return (layer * model->shape.n_kv_heads + kv) * layout.n_bytes;
    }
    i64 stride_offset(i64 layer, i64 kv) const {
        return (layer * model->shape.n_kv_heads + kv) * stride_layout.n_bytes;
    }
    s7::Head head(i64 layer, i64 kv) const {
        return {window.pages(), head_offset(layer, kv), &layout};
    }

    // Prefetch the data that attention with n_keys positions of a head will read. Each page is a
    // stream of its own, which the processor does not predict.
    void fetch(i64 layer, i64 kv, i64 n_keys) const;

    // Room to write positions length .. length + n - 1, `n_rows` at a time; false without memory
    // (what is held stays valid).
    [[nodiscard]] bool reserve(i64 n, i64 n_rows);

    // Whether it can be taken back to a length.
    bool has(i64 n) const { return n >= 0 && n <= length && (n == 0 || n >= least_length); }
    void truncate(i64 n);

    // Under hybrid attention: the document of a position that is about to be read; pages for
    // positions first .. end - 1; and what is left when a call ends.
    Document read(i64 position, i32 id);
    i64 n_summaries(i64 n) const;  // of a sequence, after n positions
    i64 n_summaries(i64 n, Document at) const;
    // Pages for a saved state of `total` positions; false without memory.
    [[nodiscard]] bool adopt(i64 total, i64 begin);
    void advance(i64 first, Document at_first, i64 end, Document at_last);
    void settle();

    // Codes of one key (acts, before its turn into a page) into the block of its page; value
    // likewise. Scales as the law stores them.
    void put_key(u8 *block, i64 position, const u8 *acts, s7::Pair scale) const;
    void put_value(u8 *block, i64 position, const u8 *acts, s7::Pair scale) const;
    // The same read back: codes of `dims`.
    s7::Pair take_key(const u8 *block, i64 position, i8 *codes) const;
    s7::Pair take_value(const u8 *block, i64 position, i8 *codes) const;
};
