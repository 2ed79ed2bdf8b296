// Sessions: allocate and share pages, copy shared pages before a write, and read them back.
#include "cache.h"

#include <new>

using s7::kCell;
using s7::kGroup;
using s7::kPage;
using s7::kPanel;

namespace {

// Pages that hold the first n rows.
i64 pages_of(i64 n) { return s7::round_up(most(n, i64{0}), kPage) / kPage; }

// The offset of output `o`, input `i` in panels of `n_groups` groups.
i64 packed_at(i64 n_groups, i64 o, i64 i) {
    return o / kPanel * n_groups * kCell + (i / kGroup * kPanel + o % kPanel) * kGroup + i % kGroup;
}

void fetch_lines(const u8 *from, i64 n_bytes) {
    for (i64 at = 0; at < n_bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

template <class T> T *array(u8 *block, i64 offset) { return reinterpret_cast<T *>(block + offset); }
template <class T> const T *array(const u8 *block, i64 offset) {
    return reinterpret_cast<const T *>(block + offset);
}

}  // namespace

void s7_session::fetch(i64 layer, i64 kv, i64 n_keys) const {
    const i64 block = head_offset(layer, kv), k_panel = layout.k_groups * kCell,
              v_panel = kPage / kGroup * kCell;
    for (i64 first = 0; first < n_keys; first += kPage) {
        const u8 *const head = window.block(first, block);
        const i64 n = least(n_keys - first, kPage);
        fetch_lines(head + layout.k, s7::round_up(n, kPanel) / kPanel * k_panel);
        for (i64 p = 0; p < layout.v_panels; ++p)
            fetch_lines(head + layout.v + p * v_panel, s7::round_up(n, kGroup) / kGroup * kCell);
        fetch_lines(head + layout.start, layout.n_bytes - layout.start);
    }
}

bool s7_session::make() {
    const s7_shape &h = model->shape;
    const i64 n = pages_of(h.context) + 1, blocks = model->depth() * h.n_kv_heads;
    if (!window.make(n, blocks * layout.n_bytes)) return false;
    return !is_hybrid() || (strides.make(n, blocks * stride_layout.n_bytes) &&
                            ring.make(n, blocks * layout.n_bytes));
}

bool s7_session::reserve(i64 n, i64 n_rows) {
    const i64 end = length + n;
    if (!is_hybrid()) {
        const i64 all = pages_of(end);
        if (!window.reserve(length / kPage, all, all)) return false;
        window.extend(all);
        return true;
    }
    const s7_hybrid &h = model->hybrid;
    const auto live = [&](i64 rows) { return (rows + s7::kTakenBack + n_rows) / kPage + 4; };
    const i64 before = n_summaries(length), after = before + n / h.stride + 1;
    return window.reserve(length / kPage, pages_of(end), live(h.window)) &&
           strides.reserve(length / kPage, pages_of(end), live(2 * i64{h.stride})) &&
           ring.reserve(before / kPage, pages_of(after), live(h.ring));
}

void s7_session::truncate(i64 n) {
    length = n;
    if (n == 0) least_length = 0;
    window.keep(pages_of(n));
    strides.keep(pages_of(n));
    if (is_hybrid()) ring.keep(pages_of(n_summaries(n)));
    if (n == 0) {
        window.begin_at(0);
        strides.begin_at(0);
        ring.begin_at(0);
    }
}

s7_session::Document s7_session::read(i64 position, i32 id) {
    if (!is_hybrid()) return {0, 0};
    constexpr i64 n = 2 * s7::kTakenBack;
    Document at{0, 0};
    if (position > 0) at = documents[(position - 1) % n];
    if (position > 0 && id == model->hybrid.document_start)
        at = {position, n_summaries(position, at)};
    documents[position % n] = at;
    return at;
}

i64 s7_session::n_summaries(i64 n, Document at) const {
    return at.ring_base + (n - at.begin) / model->hybrid.stride;
}

i64 s7_session::n_summaries(i64 n) const {
    return n == 0 ? 0 : n_summaries(n, documents[(n - 1) % (2 * s7::kTakenBack)]);
}

void s7_session::advance(i64 first, Document at_first, i64 end, Document at_last) {
    const s7_hybrid &h = model->hybrid;
    const i64 back = first - s7::kTakenBack;
    const auto page = [](i64 row) { return most(row, i64{0}) / kPage; };
    window.drop_before(page(back - h.window + 1));
    strides.drop_before(page(back - 2 * i64{h.stride}));
    ring.drop_before(page(n_summaries(first, at_first) - s7::kTakenBack - 1 - h.ring));
    window.extend(pages_of(end));
    strides.extend(pages_of(end));
    ring.extend(pages_of(n_summaries(end, at_last)));
}

void s7_session::settle() {
    const Document at = documents[(length - 1) % (2 * s7::kTakenBack)];
    advance(length, at, length, at);
    least_length = most(least_length, length - s7::kTakenBack);
}

bool s7_session::adopt(i64 total, i64 begin) {
    const s7_hybrid &h = model->hybrid;
    const i64 n = total - begin, n_ring = n / h.stride;
    const auto page = [](i64 row) { return most(row, i64{0}) / kPage; };
    window.begin_at(page(most(begin, total - h.window)));
    strides.begin_at(page(most(begin, total - 2 * i64{h.stride})));
    ring.begin_at(page(n_ring - h.ring));
    constexpr i64 all = i64{1} << 40;
    if (!window.reserve(-1, pages_of(total), all) || !strides.reserve(-1, pages_of(total), all) ||
        !ring.reserve(-1, pages_of(n_ring), all))
        return false;
    window.extend(pages_of(total));
    strides.extend(pages_of(total));
    ring.extend(pages_of(n_ring));
    length = least_length = total;
    documents[(total - 1) % (2 * s7::kTakenBack)] = {begin, 0};
    return true;
}

i64 s7::keys_of_hybrid(const s7_model &model, i64 n) {
    const s7_hybrid &h = model.hybrid;
    const auto pages = [](i64 rows) { return (rows + s7::kQueries) / kPage + 2; };
    return (pages(least(n, i64{h.window})) + pages(least(n / h.stride, i64{h.ring}))) * kPage;
}

void s7_session::put_key(u8 *block, i64 position, const u8 *acts, s7::Pair scale) const {
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

void s7_session::put_value(u8 *block, i64 position, const u8 *acts, s7::Pair scale) const {
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

s7::Pair s7_session::take_key(const u8 *block, i64 position, i8 *codes) const {
    const i64 slot = position % kPage;
    for (i64 i = 0; i < model->shape.head_dim; ++i)
        codes[i] = static_cast<i8>(block[layout.k + packed_at(layout.k_groups, slot, i)]);
    return {array<u16>(block, layout.k_m)[slot], array<i16>(block, layout.k_e)[slot]};
}

s7::Pair s7_session::take_value(const u8 *block, i64 position, i8 *codes) const {
    const i64 slot = position % kPage;
    for (i64 i = 0; i < model->shape.head_dim; ++i)
        codes[i] = static_cast<i8>(block[layout.v + packed_at(kPage / kGroup, i, slot)]);
    return {array<u16>(block, layout.v_m)[slot], array<i16>(block, layout.v_e)[slot]};
}

s7_status s7_session_create(const s7_model *model, s7_session **session) {
    if (model == nullptr || session == nullptr) return S7_NULL;
    auto *made = new (std::nothrow) s7_session(model);
    if (made == nullptr) return S7_NO_MEMORY;
    if (!made->make()) {
        delete made;
        return S7_NO_MEMORY;
    }
    *session = made;
    return S7_OK;
}

void s7_session_free(s7_session *session) { delete session; }

s7_status s7_session_fork(const s7_session *from, int32_t length, s7_session **session) {
    if (from == nullptr || session == nullptr) return S7_NULL;
    if (!from->has(length)) return S7_CONTEXT;
    s7_session *made = nullptr;
    if (const s7_status bad = s7_session_create(from->model, &made)) return bad;
    *session = made;
    made->expert = from->expert;
    if (length == 0) return S7_OK;
    made->window.share(from->window, pages_of(length));
    made->length = length;
    made->least_length = from->least_length;
    if (!made->is_hybrid()) return S7_OK;
    made->strides.share(from->strides, pages_of(length));
    made->ring.share(from->ring, pages_of(from->n_summaries(length)));
    std::memcpy(made->documents, from->documents, sizeof made->documents);
    return S7_OK;
}

s7_status s7_session_truncate(s7_session *session, int32_t length) {
    if (session == nullptr) return S7_NULL;
    if (!session->has(length)) return S7_CONTEXT;
    session->truncate(length);
    return S7_OK;
}

int32_t s7_session_length(const s7_session *session) {
    return session == nullptr ? 0 : static_cast<int32_t>(session->length);
}

int32_t s7_session_least(const s7_session *session) {
    return session == nullptr ? 0 : static_cast<int32_t>(session->least_length);
}

int64_t s7_session_bytes(const s7_session *session) {
    if (session == nullptr) return 0;
    return session->window.n_bytes() + session->strides.n_bytes() + session->ring.n_bytes();
}

s7_status s7_session_kv(const s7_session *session, int32_t layer, int32_t values, int8_t *codes,
                        int64_t n_codes, int32_t *m, int32_t *e, int64_t n_scales) {
    if (session == nullptr || codes == nullptr || m == nullptr || e == nullptr) return S7_NULL;
    const s7_shape &h = session->model->shape;
    if (layer < 0 || layer >= session->model->depth() || values < 0 || values > 1) return S7_SHAPE;
    if (session->is_hybrid() || n_scales < session->length * h.n_kv_heads ||
        n_codes < session->length * h.n_kv_heads * h.head_dim)
        return S7_SHAPE;
    for (i64 position = 0; position < session->length; ++position) {
        for (i64 kv = 0; kv < h.n_kv_heads; ++kv) {
            const u8 *block = session->window.block(position, session->head_offset(layer, kv));
            const i64 to = position * h.n_kv_heads + kv;
            i8 *row = codes + to * h.head_dim;
            const s7::Pair scale = values ? session->take_value(block, position, row)
                                          : session->take_key(block, position, row);
            m[to] = scale.m;
            e[to] = scale.e;
        }
    }
    return S7_OK;
}
