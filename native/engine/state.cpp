// The state of a session of hybrid attention as bytes (s7.h: s7_session_save), and back.
#include <new>

#include "cache.h"

using s7::kPage;

namespace {

// Bytes that are written, counted, or read.
struct Bytes {
    u8 *to;
    const u8 *from;
    i64 at = 0, end;

    template <class T> void put(T value) {
        for (u32 i = 0; i < sizeof(T); ++i) {
            if (to != nullptr) to[at] = static_cast<u8>(static_cast<u64>(value) >> (8 * i));
            ++at;
        }
    }
    template <class T> T take() {
        u64 value = 0;
        for (u32 i = 0; i < sizeof(T); ++i) value |= static_cast<u64>(from[at++]) << (8 * i);
        return static_cast<T>(value);
    }
};

// Rows first .. end - 1 of each part of a state of a document that begins at 0.
struct Parts {
    i64 length, window, strides, ring, n_ring;

    Parts(const s7_hybrid &h, i64 n)
        : length(n),
          window(most(n - h.window, i64{0})),
          strides(most((n / h.stride - 1) * h.stride, i64{0})),
          ring(most(n / h.stride - h.ring, i64{0})),
          n_ring(n / h.stride) {}
};

constexpr i64 kHeader = 3 * 8;

i64 bytes_of(const s7_model &model, const Parts &parts) {
    const i64 coded = 2 * (i64{model.shape.head_dim} + 6);
    const i64 head = (parts.length - parts.window + parts.n_ring - parts.ring) * coded +
                     (parts.length - parts.strides) * (coded + 8);
    return kHeader + model.depth() * model.shape.n_kv_heads * head;
}

template <class T> T *array(u8 *block, i64 offset) { return reinterpret_cast<T *>(block + offset); }

// One row of codes and its scale in either direction; false when what is read is outside the law.
struct Rows {
    Bytes &bytes;
    const i64 dims;
    const i32 largest;  // code of the part
    const u8 flip;
    u8 *acts;

    void put(const i8 *codes, s7::Pair scale) const {
        for (i64 i = 0; i < dims; ++i) bytes.put(codes[i]);
        bytes.put(static_cast<u16>(scale.m));
        bytes.put(scale.e);
    }
    bool take(s7::Pair &scale) const {
        bool good = true;
        for (i64 i = 0; i < dims; ++i) {
            const i8 code = bytes.take<i8>();
            good = good && -largest <= code && code <= largest;
            acts[i] = static_cast<u8>(code) ^ flip;
        }
        scale.m = bytes.take<u16>();
        scale.e = bytes.take<i32>();
        return good && scale.m >= 1 << 15 && -(1 << 13) < scale.e && scale.e < 1 << 13;
    }
};

bool move_coded(const s7_session &session, const s7::PageList &list, i64 offset, i64 first, i64 end,
                const Rows &rows, bool is_saving) {
    for (i64 at = first; at < end; ++at) {
        u8 *block = list.block(at, offset);
        i8 *codes = reinterpret_cast<i8 *>(rows.acts);
        s7::Pair scale;
        if (is_saving) {
            scale = session.take_key(block, at, codes);
            rows.put(codes, scale);
            scale = session.take_value(block, at, codes);
            rows.put(codes, scale);
            continue;
        }
        if (!rows.take(scale)) return false;
        session.put_key(block, at, rows.acts, scale);
        if (!rows.take(scale)) return false;
        session.put_value(block, at, rows.acts, scale);
    }
    return true;
}

bool move_strides(const s7_session &session, i64 offset, i64 first, i64 end, const Rows &rows,
                  bool is_saving) {
    const s7::StrideLayout &in = session.stride_layout;
    const struct {
        i64 codes, m, e;
    } sides[2] = {{in.k, in.k_m, in.k_e}, {in.v, in.v_m, in.v_e}};
    for (i64 at = first; at < end; ++at) {
        u8 *block = session.strides.block(at, offset);
        const i64 slot = at % kPage;
        for (const auto &side : sides) {
            u8 *codes = block + side.codes + slot * rows.dims;
            u16 &m = array<u16>(block, side.m)[slot];
            i16 &e = array<i16>(block, side.e)[slot];
            if (is_saving) {
                rows.put(reinterpret_cast<const i8 *>(codes), {m, e});
                continue;
            }
            s7::Pair scale;
            if (!rows.take(scale)) return false;
            for (i64 i = 0; i < rows.dims; ++i) codes[i] = rows.acts[i] ^ rows.flip;
            m = static_cast<u16>(scale.m);
            e = static_cast<i16>(scale.e);
        }
        const i64 scores[2] = {in.a, in.b};
        for (const i64 score : scores) {
            i32 &value = array<i32>(block, score)[slot];
            if (is_saving) {
                rows.bytes.put(value);
            } else {
                value = rows.bytes.take<i32>();
            }
        }
    }
    return true;
}

bool move_heads(const s7_session &session, Bytes &bytes, i64 begin, i64 ring_base, i64 length,
                u8 *acts, bool is_saving) {
    const s7_model &model = *session.model;
    const Parts parts(model.hybrid, length);
    const i32 n_bits = model.hybrid.kv_bits, largest = n_bits == 8 ? 127 : n_bits == 6 ? 31 : 7;
    const i64 dims = model.shape.head_dim;
    const u8 flip = model.kernels->act_xor;
    const Rows coded{bytes, dims, largest, flip, acts}, whole{bytes, dims, 127, flip, acts};
    for (i64 layer = 0; layer < model.depth(); ++layer) {
        for (i64 kv = 0; kv < model.shape.n_kv_heads; ++kv) {
            const i64 head = session.head_offset(layer, kv);
            if (!move_coded(session, session.window, head, begin + parts.window, begin + length,
                            coded, is_saving) ||
                !move_strides(session, session.stride_offset(layer, kv), begin + parts.strides,
                              begin + length, whole, is_saving) ||
                !move_coded(session, session.ring, head, ring_base + parts.ring,
                            ring_base + parts.n_ring, coded, is_saving))
                return false;
        }
    }
    return true;
}

}  // namespace

s7_status s7_session_save(const s7_session *session, uint8_t *state, int64_t room,
                          int64_t *n_bytes) {
    if (session == nullptr || n_bytes == nullptr) return S7_NULL;
    const s7_model &model = *session->model;
    if (!session->is_hybrid() || session->length == 0) return S7_SHAPE;
    const auto at = session->documents[(session->length - 1) % (2 * s7::kTakenBack)];
    const i64 length = session->length - at.begin, needed = bytes_of(model, {model.hybrid, length});
    *n_bytes = needed;
    if (state == nullptr) return S7_OK;
    if (room < needed) return S7_SHAPE;
    s7::Buffer<u8> acts;
    if (!acts.make(model.shape.head_dim)) return S7_NO_MEMORY;
    Bytes bytes{state, nullptr, 0, room};
    bytes.put(session->length);
    bytes.put(at.begin);
    bytes.put(session->expert);
    move_heads(*session, bytes, at.begin, at.ring_base, length, acts.get(), true);
    return S7_OK;
}

s7_status s7_session_load(const s7_model *model, const uint8_t *state, int64_t n_bytes,
                          s7_session **session) {
    if (model == nullptr || state == nullptr || session == nullptr) return S7_NULL;
    if (!model->is_hybrid() || n_bytes < kHeader) return S7_SHAPE;
    Bytes bytes{nullptr, state, 0, n_bytes};
    const i64 total = bytes.take<i64>(), begin = bytes.take<i64>(), expert = bytes.take<i64>();
    const s7_shape &h = model->shape;
    if (total < 1 || total > h.context || begin < 0 || begin >= total || expert < 0 ||
        expert >= h.n_experts || (expert > 0 && h.stack_layers == 0))
        return S7_SHAPE;
    const i64 length = total - begin;
    if (bytes_of(*model, {model->hybrid, length}) != n_bytes) return S7_SHAPE;
    s7::Buffer<u8> acts;
    s7_session *made = nullptr;
    if (!acts.make(h.head_dim)) return S7_NO_MEMORY;
    if (const s7_status bad = s7_session_create(model, &made)) return bad;
    s7_status status = made->adopt(total, begin) ? S7_OK : S7_NO_MEMORY;
    if (status == S7_OK && !move_heads(*made, bytes, begin, 0, length, acts.get(), false))
        status = S7_RANGE;
    if (status != S7_OK) {
        delete made;
        return status;
    }
    made->expert = expert;
    *session = made;
    return S7_OK;
}
