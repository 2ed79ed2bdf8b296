// Sessions: allocate and share pages, copy shared pages before a write, and read them back.
#include "cache.h"

#include <new>

using s7::kCell;
using s7::kGroup;
using s7::kPage;
using s7::kPanel;
using s7::Page;

namespace {

Page *new_page(i64 n_bytes) {
    auto *page = new (std::nothrow) Page;
    if (page != nullptr && !page->bytes.make(n_bytes)) {
        delete page;
        return nullptr;
    }
    return page;
}

void release(Page *page) {
    if (page->n_holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete page;
}

// The offset of output `o`, input `i` in panels of `n_groups` groups.
i64 packed_at(i64 n_groups, i64 o, i64 i) {
    return o / kPanel * n_groups * kCell + (i / kGroup * kPanel + o % kPanel) * kGroup + i % kGroup;
}

void fetch_lines(const u8 *from, i64 n_bytes) {
    for (i64 at = 0; at < n_bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

template <class T> T *array(u8 *block, i64 offset) { return reinterpret_cast<T *>(block + offset); }

}  // namespace

void s7_session::fetch(i64 layer, i64 kv, i64 n_keys) const {
    const i64 block = head_offset(layer, kv), k_panel = layout.k_groups * kCell,
              v_panel = kPage / kGroup * kCell;
    for (i64 first = 0; first < n_keys; first += kPage) {
        const u8 *const head = bytes.get()[first / kPage] + block;
        const i64 n = least(n_keys - first, kPage);
        fetch_lines(head + layout.k, s7::round_up(n, kPanel) / kPanel * k_panel);
        for (i64 p = 0; p < layout.v_panels; ++p)
            fetch_lines(head + layout.v + p * v_panel, s7::round_up(n, kGroup) / kGroup * kCell);
        fetch_lines(head + layout.start, layout.n_bytes - layout.start);
    }
}

bool s7_session::reserve(i64 n) {
    const i64 first = length / kPage, end = s7::round_up(length + n, kPage) / kPage;
    if (first < n_pages && pages.get()[first]->n_holders.load(std::memory_order_acquire) > 1) {
        Page *own = new_page(page_bytes());
        if (own == nullptr) return false;
        std::memcpy(own->bytes.get(), bytes.get()[first], static_cast<size_t>(page_bytes()));
        keep(first);
        pages.get()[first] = own;
        bytes.get()[first] = own->bytes.get();
        n_pages = first + 1;
    }
    for (; n_pages < end; ++n_pages) {
        Page *page = new_page(page_bytes());
        if (page == nullptr) return false;
        pages.get()[n_pages] = page;
        bytes.get()[n_pages] = page->bytes.get();
    }
    return true;
}

void s7_session::keep(i64 n) {
    for (; n_pages > n; --n_pages) release(pages.get()[n_pages - 1]);
}

void s7_session::put_key(i64 layer, i64 kv, i64 position, const u8 *acts, s7::Pair scale) {
    u8 *block = bytes.get()[position / kPage] + head_offset(layer, kv);
    const i64 slot = position % kPage, dims = model->shape.head_dim;
    const u8 flip = model->kernels->act_xor;
    u8 *to = block + layout.k + packed_at(layout.k_groups, slot, 0);
    i32 sum = 0;
    for (i64 i = 0; i < dims; ++i) sum += static_cast<i8>(acts[i] ^ flip);
    for (i64 g = 0; g < dims / kGroup; ++g) {
        u32 four;
        std::memcpy(&four, acts + g * kGroup, kGroup);
        four ^= 0x01010101U * flip;
        std::memcpy(to + g * kCell, &four, kGroup);
    }
    for (i64 i = dims / kGroup * kGroup; i < dims; ++i)
        to[i / kGroup * kCell + i % kGroup] = acts[i] ^ flip;
    array<i32>(block, layout.start)[slot] = flip == 0 ? 0 : -128 * sum;
    array<u16>(block, layout.k_m)[slot] = static_cast<u16>(scale.m);
    array<i16>(block, layout.k_e)[slot] = static_cast<i16>(scale.e);
}

void s7_session::put_value(i64 layer, i64 kv, i64 position, const u8 *acts, s7::Pair scale) {
    u8 *block = bytes.get()[position / kPage] + head_offset(layer, kv);
    const i64 slot = position % kPage, dims = model->shape.head_dim;
    const u8 flip = model->kernels->act_xor;
    // Written byte by byte, because threads write neighbouring positions whose bytes share words.
    for (i64 p = 0; p * kPanel < dims; ++p) {
        u8 *to = block + layout.v + packed_at(kPage / kGroup, p * kPanel, slot);
        for (i64 o = 0; o < least(kPanel, dims - p * kPanel); ++o)
            to[o * kGroup] = acts[p * kPanel + o] ^ flip;
    }
    array<u16>(block, layout.v_m)[slot] = static_cast<u16>(scale.m);
    array<i16>(block, layout.v_e)[slot] = static_cast<i16>(scale.e);
}

s7_status s7_session_create(const s7_model *model, s7_session **session) {
    if (model == nullptr || session == nullptr) return S7_NULL;
    auto *made = new (std::nothrow) s7_session(model);
    if (made == nullptr) return S7_NO_MEMORY;
    const i64 n = s7::round_up(model->shape.context, kPage) / kPage;
    if (!made->pages.make(n) || !made->bytes.make(n)) {
        delete made;
        return S7_NO_MEMORY;
    }
    *session = made;
    return S7_OK;
}

void s7_session_free(s7_session *session) { delete session; }

s7_status s7_session_fork(const s7_session *from, int32_t length, s7_session **session) {
    if (from == nullptr || session == nullptr) return S7_NULL;
    if (length < 0 || length > from->length) return S7_CONTEXT;
    s7_session *made = nullptr;
    if (const s7_status bad = s7_session_create(from->model, &made)) return bad;
    for (; made->n_pages * kPage < length; ++made->n_pages) {
        Page *page = from->pages.get()[made->n_pages];
        page->n_holders.fetch_add(1, std::memory_order_relaxed);
        made->pages.get()[made->n_pages] = page;
        made->bytes.get()[made->n_pages] = page->bytes.get();
    }
    made->length = length;
    made->expert = from->expert;
    *session = made;
    return S7_OK;
}

s7_status s7_session_truncate(s7_session *session, int32_t length) {
    if (session == nullptr) return S7_NULL;
    if (length < 0 || length > session->length) return S7_CONTEXT;
    session->length = length;
    session->keep(s7::round_up(length, kPage) / kPage);
    return S7_OK;
}

int32_t s7_session_length(const s7_session *session) {
    return session == nullptr ? 0 : static_cast<int32_t>(session->length);
}

int64_t s7_session_bytes(const s7_session *session) {
    return session == nullptr ? 0 : session->n_pages * session->page_bytes();
}

s7_status s7_session_kv(const s7_session *session, int32_t layer, int32_t values, int8_t *codes,
                        int64_t n_codes, int32_t *m, int32_t *e, int64_t n_scales) {
    if (session == nullptr || codes == nullptr || m == nullptr || e == nullptr) return S7_NULL;
    const s7_shape &h = session->model->shape;
    const s7::HeadLayout &at = session->layout;
    if (layer < 0 || layer >= session->model->depth() || values < 0 || values > 1) return S7_SHAPE;
    if (n_scales < session->length * h.n_kv_heads ||
        n_codes < session->length * h.n_kv_heads * h.head_dim)
        return S7_SHAPE;
    for (i64 position = 0; position < session->length; ++position) {
        const i64 slot = position % kPage;
        for (i64 kv = 0; kv < h.n_kv_heads; ++kv) {
            u8 *block = session->bytes.get()[position / kPage] + session->head_offset(layer, kv);
            const i64 to = position * h.n_kv_heads + kv;
            m[to] = array<u16>(block, values ? at.v_m : at.k_m)[slot];
            e[to] = array<i16>(block, values ? at.v_e : at.k_e)[slot];
            for (i64 i = 0; i < h.head_dim; ++i) {
                const i64 byte = values ? at.v + packed_at(kPage / kGroup, i, slot)
                                        : at.k + packed_at(at.k_groups, slot, i);
                codes[to * h.head_dim + i] = static_cast<i8>(block[byte]);
            }
        }
    }
    return S7_OK;
}
