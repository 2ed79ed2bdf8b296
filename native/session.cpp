// The forward pass of specs/arithmetic.md, section 3, in blocks of tokens, and the KV cache.
//
// T tokens of a block, D d_model, H heads, K key/value heads, E head_dim, F d_ffn, V vocabulary, C context.
#include <new>

#include "model.h"

namespace {

using s7::Buffer;
using s7::Kernels;
using s7::Linear;
using s7::Pair;
using s7::round_up;

constexpr i64 kBlock = 60;       // tokens that go through the layers together
constexpr i64 kQueries = 12;     // query rows that go over the keys together
constexpr i64 kHeadTokens = 12;  // tokens whose logits are computed together

// Keys and values of one layer. A head's keys are panels over positions, its values panels over dimensions.
struct LayerCache {
    Buffer<u8> k, v;                // [K] x panels
    Buffer<u16> k_m, v_m;           // [K, C]
    Buffer<i32> k_e, v_e, v_least;  // [K, C]; v_least: the smallest v_e up to a position
};

// Where a head's packed keys and values are.
struct CacheLayout {
    i64 k_groups, k_panel_bytes, k_head_bytes, v_groups, v_panels, v_panel_bytes, v_head_bytes;
};

CacheLayout layout_of(const s7_shape &s) {
    CacheLayout l{};
    l.k_groups = round_up(s.head_dim, s7::kGroup) / s7::kGroup;
    l.k_panel_bytes = l.k_groups * s7::kCell;
    l.k_head_bytes = round_up(s.context, s7::kPanel) / s7::kPanel * l.k_panel_bytes;
    l.v_groups = round_up(s.context, s7::kGroup) / s7::kGroup;
    l.v_panels = round_up(s.head_dim, s7::kPanel) / s7::kPanel;
    l.v_panel_bytes = l.v_groups * s7::kCell;
    l.v_head_bytes = l.v_panels * l.v_panel_bytes;
    return l;
}

// Byte of output `o`, input `i` in panels.
i64 packed_at(i64 panel_bytes, i64 o, i64 i) {
    return o / s7::kPanel * panel_bytes + (i / s7::kGroup * s7::kPanel + o % s7::kPanel) * s7::kGroup + i % s7::kGroup;
}

}  // namespace

struct s7_session {
    const s7_model *model = nullptr;
    i64 length = 0;
    CacheLayout layout{};
    LayerCache *caches = nullptr;

    // Scratch of a block; strides are multiples of 64.
    i64 wide = 0;                   // codes of a row: max(D, H E, F)
    i64 out_stride = 0;             // results of a projection: max(D, H E, K E, F), whole panels
    i64 q_stride = 0;               // codes of a query head
    i64 score_stride = 0;           // positions, whole panels
    i64 v_stride = 0;               // dimensions, whole panels
    Buffer<i32> x, first, second, row, joined, low, logits;
    Buffer<i8> codes, routed, q_codes, one;
    Buffer<Pair> token, q_scale;
    Buffer<i32> scores, pv, picked;
    Buffer<i8> limbs;

    s7_session() = default;
    s7_session(const s7_session &) = delete;
    s7_session &operator=(const s7_session &) = delete;
    ~s7_session() { delete[] caches; }
};

namespace {

bool make_scratch(s7_session &s) {
    const s7_shape &h = s.model->shape;
    const i64 d_q = i64{h.n_heads} * h.head_dim;
    const i64 widest = most(most(i64{h.d_model}, d_q), i64{h.d_ffn});
    s.wide = round_up(widest, 64);
    s.out_stride = round_up(widest, 64);
    s.q_stride = round_up(h.head_dim, 64);
    s.score_stride = round_up(h.context, 64);
    s.v_stride = round_up(h.head_dim, 64);
    const i64 block = least(i64{h.context}, kBlock), rows = least(i64{h.context}, kQueries);
    return s.x.make(block * h.d_model) && s.first.make(block * s.out_stride) && s.second.make(block * s.out_stride) &&
           s.row.make(s.wide) && s.joined.make(block * d_q) && s.low.make(block * h.n_heads) &&
           s.logits.make(least(i64{h.context}, kHeadTokens) * round_up(h.vocab_size, 64)) && s.codes.make(block * s.wide) &&
           s.routed.make(block * s.wide) && s.q_codes.make(h.n_heads * block * s.q_stride) && s.one.make(s.q_stride) &&
           s.token.make(block) && s.q_scale.make(h.n_heads * block) && s.scores.make(rows * s.score_stride) &&
           s.pv.make(2 * rows * s.v_stride) && s.picked.make(block) && s.limbs.make(2 * rows * s.score_stride);
}

bool make_caches(s7_session &s) {
    const s7_shape &h = s.model->shape;
    s.layout = layout_of(h);
    s.caches = new (std::nothrow) LayerCache[static_cast<size_t>(h.n_layers)];
    if (s.caches == nullptr) return false;
    const i64 slots = i64{h.n_kv_heads} * h.context;
    for (i32 i = 0; i < h.n_layers; ++i) {
        LayerCache &c = s.caches[i];
        if (!c.k.make(h.n_kv_heads * s.layout.k_head_bytes) || !c.v.make(h.n_kv_heads * s.layout.v_head_bytes) ||
            !c.k_m.make(slots) || !c.v_m.make(slots) || !c.k_e.make(slots) || !c.v_e.make(slots) || !c.v_least.make(slots)) {
            return false;
        }
    }
    return true;
}

// LINEAR of `n` rows of codes: y [n, stride].
void linear(const Kernels &k, const Linear &w, const i8 *codes, i64 codes_stride, i64 n, i32 *y, i64 stride) {
    k.product(w.panels.get(), w.panel_bytes, w.n_panels, w.n_groups, codes, codes_stride, n, y, stride);
    for (i64 t = 0; t < n; ++t) k.rescale(y + t * stride, w.n_out, w.lift, w.m.get(), w.s.get());
}

// Codes of a row end in zeros up to a whole group: buffers are reused by rows of other widths.
void pad(i8 *codes, i64 n) {
    for (; n % s7::kGroup != 0; ++n) codes[n] = 0;
}

// RMS_NORM of n rows of x [n, D] into s.codes and s.token.
void norm_rows(s7_session &s, const s7::Norm &norm, const i32 *x, i64 n) {
    const s7_model &m = *s.model;
    const i64 d = m.shape.d_model;
    for (i64 t = 0; t < n; ++t) {
        i8 *codes = s.codes.get() + t * s.wide;
        Pair scale = m.kernels->rms_norm(x + t * d, d, norm.gain.get(), norm.eps, m.tables.rsqrt, s.row.get(), codes);
        pad(codes, d);
        s.token.get()[t] = {scale.m, scale.e + norm.exponent};
    }
}

Pair times(Pair a, Pair b, i32 exponent) {
    const Scale p = multiply({a.m, a.e}, {b.m, b.e});
    return {p.m, p.e + exponent};
}

// Keys of one token into the cache: k [K E] after LINEAR.
void append_keys(s7_session &s, LayerCache &c, const Linear &w, const i32 *k, i64 position, Pair token) {
    const s7_model &m = *s.model;
    const s7_shape &h = m.shape;
    const i64 half = h.head_dim / 2;
    for (i64 kv = 0; kv < h.n_kv_heads; ++kv) {
        i8 *codes = s.one.get();
        const Pair turned = m.kernels->rotate(k + kv * h.head_dim, half, m.cosine.get() + position * half,
                                              m.sine.get() + position * half, s.row.get(), codes);
        const Pair scale = times(turned, token, w.exponent);
        c.k_m.get()[kv * h.context + position] = static_cast<u16>(scale.m);
        c.k_e.get()[kv * h.context + position] = scale.e;
        u8 *to = c.k.get() + kv * s.layout.k_head_bytes;
        for (i64 i = 0; i < h.head_dim; ++i) {
            to[packed_at(s.layout.k_panel_bytes, position, i)] = static_cast<u8>(static_cast<u8>(codes[i]) ^ m.kernels->code_xor);
        }
    }
}

// Values of one token into the cache: v [K E] after LINEAR.
void append_values(s7_session &s, LayerCache &c, const Linear &w, const i32 *v, i64 position, Pair token) {
    const s7_model &m = *s.model;
    const s7_shape &h = m.shape;
    for (i64 kv = 0; kv < h.n_kv_heads; ++kv) {
        i8 *codes = s.one.get();
        const Pair scale = times(m.kernels->quantize(v + kv * h.head_dim, h.head_dim, codes), token, w.exponent);
        const i64 slot = kv * h.context + position;
        c.v_m.get()[slot] = static_cast<u16>(scale.m);
        c.v_e.get()[slot] = scale.e;
        c.v_least.get()[slot] = position == 0 ? scale.e : least(scale.e, c.v_least.get()[slot - 1]);
        u8 *to = c.v.get() + kv * s.layout.v_head_bytes;
        for (i64 i = 0; i < h.head_dim; ++i) {
            to[packed_at(s.layout.v_panel_bytes, i, position)] = static_cast<u8>(static_cast<u8>(codes[i]) ^ m.kernels->code_xor);
        }
    }
}

// Query heads of the block: codes [H, T, q_stride] and scales [H, T].
void turn_queries(s7_session &s, const Linear &w, const i32 *q, i64 n_past, i64 n) {
    const s7_model &m = *s.model;
    const s7_shape &h = m.shape;
    const i64 half = h.head_dim / 2;
    for (i64 t = 0; t < n; ++t) {
        for (i64 head = 0; head < h.n_heads; ++head) {
            i8 *codes = s.q_codes.get() + (head * n + t) * s.q_stride;
            const Pair turned = m.kernels->rotate(q + t * s.out_stride + head * h.head_dim, half,
                                                  m.cosine.get() + (n_past + t) * half, m.sine.get() + (n_past + t) * half,
                                                  s.row.get(), codes);
            pad(codes, h.head_dim);
            s.q_scale.get()[head * n + t] = times(times(turned, s.token.get()[t], w.exponent), {h.score_m, h.score_e}, 0);
        }
    }
}

// One query's row of scores, over its visible keys, to limbs of P times V's scales; gives the total of P.
u32 weigh(const s7_session &s, const LayerCache &c, i64 kv, i64 n_keys, Pair q, i32 *acc, i8 *hi, i8 *lo, i64 n_padded) {
    const s7_model &m = *s.model;
    const i64 base = kv * m.shape.context;
    const i32 largest = m.kernels->scores(acc, n_keys, headroom(m.shape.head_dim), c.k_m.get() + base, c.k_e.get() + base, q.m, q.e);
    const i32 low = c.v_least.get()[base + n_keys - 1];
    const u32 total = m.kernels->weights(acc, n_keys, largest, c.v_m.get() + base, c.v_e.get() + base, low, m.tables.exp2, hi, lo);
    for (i64 j = n_keys; j < n_padded; ++j) hi[j] = lo[j] = 0;
    return total;
}

// `rows` queries of one head from token `t` of the block: o into s.joined [T, H E], its exponent into s.low [T, H].
void attend(s7_session &s, const LayerCache &c, i64 head, i64 t, i64 rows, i64 n_past, i64 n) {
    const s7_model &m = *s.model;
    const s7_shape &h = m.shape;
    const i64 kv = head / (h.n_heads / h.n_kv_heads), n_keys = n_past + t + rows;
    const i64 n_padded = round_up(n_keys, s7::kGroup);
    m.kernels->product(c.k.get() + kv * s.layout.k_head_bytes, s.layout.k_panel_bytes, round_up(n_keys, s7::kPanel) / s7::kPanel,
                       s.layout.k_groups, s.q_codes.get() + (head * n + t) * s.q_stride, s.q_stride, rows, s.scores.get(),
                       s.score_stride);
    u32 totals[kQueries];
    for (i64 r = 0; r < rows; ++r) {
        i8 *hi = s.limbs.get() + 2 * r * s.score_stride;
        totals[r] = weigh(s, c, kv, n_past + t + r + 1, s.q_scale.get()[head * n + t + r], s.scores.get() + r * s.score_stride, hi,
                          hi + s.score_stride, n_padded);
    }
    m.kernels->product(c.v.get() + kv * s.layout.v_head_bytes, s.layout.v_panel_bytes, s.layout.v_panels, n_padded / s7::kGroup,
                       s.limbs.get(), s.score_stride, 2 * rows, s.pv.get(), s.v_stride);
    for (i64 r = 0; r < rows; ++r) {
        const i32 *hi = s.pv.get() + 2 * r * s.v_stride, *lo = hi + s.v_stride;
        const i32 length = bits(totals[r]);
        const i64 divisor = length < 16 ? i64{totals[r]} << (16 - length) : i64{totals[r]} >> (length - 16);
        const i64 reciprocal = kMax32 / divisor;
        i32 *o = s.joined.get() + ((t + r) * h.n_heads + head) * h.head_dim;
        for (i64 i = 0; i < h.head_dim; ++i) o[i] = mulsh(256 * i64{hi[i]} + lo[i], reciprocal, length - 1);
        s.low.get()[(t + r) * h.n_heads + head] = c.v_least.get()[kv * h.context + n_past + t + r];
    }
}

// Heads of the block side by side, quantised into s.codes and s.token.
void join(s7_session &s, i64 n) {
    const s7_shape &h = s.model->shape;
    const Kernels &k = *s.model->kernels;
    const i64 d_q = i64{h.n_heads} * h.head_dim;
    for (i64 t = 0; t < n; ++t) {
        const i32 *low = s.low.get() + t * h.n_heads;
        i32 lowest = low[0];
        for (i64 head = 1; head < h.n_heads; ++head) lowest = least(lowest, low[head]);
        i32 *o = s.joined.get() + t * d_q;
        for (i64 head = 0; head < h.n_heads; ++head) k.shift(o + head * h.head_dim, h.head_dim, low[head] - lowest);
        i8 *codes = s.codes.get() + t * s.wide;
        const Pair scale = k.quantize(o, d_q, codes);
        pad(codes, d_q);
        s.token.get()[t] = {scale.m, scale.e + lowest};
    }
}

void attention(s7_session &s, const s7::Layer &layer, LayerCache &c, i64 n_past, i64 n) {
    const s7_shape &h = s.model->shape;
    const Kernels &k = *s.model->kernels;
    norm_rows(s, layer.attn_norm, s.x.get(), n);
    linear(k, layer.q, s.codes.get(), s.wide, n, s.first.get(), s.out_stride);
    turn_queries(s, layer.q, s.first.get(), n_past, n);
    linear(k, layer.k, s.codes.get(), s.wide, n, s.first.get(), s.out_stride);
    linear(k, layer.v, s.codes.get(), s.wide, n, s.second.get(), s.out_stride);
    for (i64 t = 0; t < n; ++t) {
        append_keys(s, c, layer.k, s.first.get() + t * s.out_stride, n_past + t, s.token.get()[t]);
        append_values(s, c, layer.v, s.second.get() + t * s.out_stride, n_past + t, s.token.get()[t]);
    }
    for (i64 head = 0; head < h.n_heads; ++head) {
        for (i64 t = 0; t < n; t += kQueries) attend(s, c, head, t, least(n - t, kQueries), n_past, n);
    }
    join(s, n);
    linear(k, layer.o, s.codes.get(), s.wide, n, s.first.get(), s.out_stride);
    for (i64 t = 0; t < n; ++t) {
        const Pair scale = s.token.get()[t];
        k.units(s.first.get() + t * s.out_stride, h.d_model, scale.m, scale.e + layer.o.exponent - h.residual_exponent, 1,
                s.x.get() + t * h.d_model);
    }
}

// One expert on `n` rows of codes; row r is token picked[r] of the block.
void expert(s7_session &s, const s7::FeedForward &f, i8 *codes, const i32 *picked, i64 n) {
    const s7_shape &h = s.model->shape;
    const Kernels &k = *s.model->kernels;
    linear(k, f.gate, codes, s.wide, n, s.first.get(), s.out_stride);
    linear(k, f.up, codes, s.wide, n, s.second.get(), s.out_stride);
    for (i64 r = 0; r < n; ++r) {
        Pair &token = s.token.get()[picked[r]];
        i8 *hidden = codes + r * s.wide;
        const Pair own = k.swiglu(s.first.get() + r * s.out_stride, s.second.get() + r * s.out_stride, h.d_ffn, token.m,
                                  token.e + f.gate.exponent - 11, s.model->tables.sigmoid, hidden);
        pad(hidden, h.d_ffn);
        token = times(own, token, f.up.exponent + 15);
    }
    linear(k, f.down, codes, s.wide, n, s.first.get(), s.out_stride);
    for (i64 r = 0; r < n; ++r) {
        const Pair scale = s.token.get()[picked[r]];
        k.units(s.first.get() + r * s.out_stride, h.d_model, scale.m, scale.e + f.down.exponent - h.residual_exponent, 1,
                s.x.get() + picked[r] * h.d_model);
    }
}

void feed_forward(s7_session &s, const s7::Layer &layer, const i32 *ids, i64 n) {
    const s7_model &m = *s.model;
    norm_rows(s, layer.ffn_norm, s.x.get(), n);
    for (i32 e = 0; e < m.shape.n_experts; ++e) {
        i64 count = 0;
        for (i64 t = 0; t < n; ++t) {
            if (m.router.get()[ids[t]] == e) s.picked.get()[count++] = static_cast<i32>(t);
        }
        if (count == 0) continue;
        if (count == n) {
            expert(s, layer.experts[e], s.codes.get(), s.picked.get(), n);
            return;
        }
        for (i64 r = 0; r < count; ++r) {
            std::memcpy(s.routed.get() + r * s.wide, s.codes.get() + s.picked.get()[r] * s.wide, static_cast<size_t>(s.wide));
        }
        expert(s, layer.experts[e], s.routed.get(), s.picked.get(), count);
    }
}

// Logits of `n` rows of x: out [n, V].
void head_rows(s7_session &s, const i32 *x, i64 n, i32 *out) {
    const s7_model &m = *s.model;
    const i64 v = m.shape.vocab_size, stride = round_up(v, 64);
    for (i64 first = 0; first < n; first += kHeadTokens) {
        const i64 rows = least(n - first, kHeadTokens);
        norm_rows(s, m.final_norm, x + first * m.shape.d_model, rows);
        linear(*m.kernels, m.head, s.codes.get(), s.wide, rows, s.logits.get(), stride);
        for (i64 t = 0; t < rows; ++t) {
            const Pair scale = s.token.get()[t];
            m.kernels->units(s.logits.get() + t * stride, v, scale.m, scale.e + m.head.exponent - 16, 0, out + (first + t) * v);
        }
    }
}

// Up to kBlock tokens through the layers; s.x holds their residual afterwards.
void block(s7_session &s, const i32 *ids, i64 n) {
    const s7_model &m = *s.model;
    const i64 d = m.shape.d_model;
    for (i64 t = 0; t < n; ++t) {
        const i64 id = ids[t];
        for (i64 i = 0; i < d; ++i) {
            s.x.get()[t * d + i] = mulsh(m.embedding.get()[id * d + i], m.embedding_m.get()[id], m.embedding_s.get()[id]);
        }
    }
    for (i32 i = 0; i < m.shape.n_layers; ++i) {
        attention(s, m.layers[i], s.caches[i], s.length, n);
        feed_forward(s, m.layers[i], ids, n);
    }
    s.length += n;
}

}  // namespace

s7_status s7_session_create(const s7_model *model, s7_session **session) {
    if (model == nullptr || session == nullptr) return S7_NULL;
    auto *made = new (std::nothrow) s7_session;
    if (made == nullptr) return S7_NO_MEMORY;
    made->model = model;
    if (!make_caches(*made) || !make_scratch(*made)) {
        delete made;
        return S7_NO_MEMORY;
    }
    *session = made;
    return S7_OK;
}

void s7_session_free(s7_session *session) { delete session; }

int32_t s7_session_length(const s7_session *session) { return session == nullptr ? 0 : static_cast<i32>(session->length); }

s7_status s7_forward(s7_session *session, const int32_t *ids, int32_t n_ids, int32_t last_only, int32_t *logits,
                     int64_t n_logits) {
    if (session == nullptr || ids == nullptr || logits == nullptr) return S7_NULL;
    const s7_shape &h = session->model->shape;
    if (n_ids < 1) return S7_IDS;
    for (i64 i = 0; i < n_ids; ++i) {
        if (ids[i] < 0 || ids[i] >= h.vocab_size) return S7_IDS;
    }
    if (session->length + n_ids > h.context) return S7_CONTEXT;
    if (n_logits != (last_only ? 1 : i64{n_ids}) * h.vocab_size) return S7_SHAPE;
    for (i64 first = 0; first < n_ids; first += kBlock) {
        const i64 n = least(n_ids - first, kBlock);
        block(*session, ids + first, n);
        if (!last_only) {
            head_rows(*session, session->x.get(), n, logits + first * h.vocab_size);
        } else if (first + n == n_ids) {
            head_rows(*session, session->x.get() + (n - 1) * h.d_model, 1, logits);
        }
    }
    return S7_OK;
}

s7_status s7_session_kv(const s7_session *session, int32_t layer, int32_t values, int8_t *codes, int64_t n_codes, int32_t *m,
                        int32_t *e, int64_t n_scales) {
    if (session == nullptr || codes == nullptr || m == nullptr || e == nullptr) return S7_NULL;
    const s7_shape &h = session->model->shape;
    const i64 n = session->length, heads = h.n_kv_heads, dim = h.head_dim;
    if (layer < 0 || layer >= h.n_layers || n_scales != n * heads || n_codes != n * heads * dim) return S7_SHAPE;
    const LayerCache &c = session->caches[layer];
    const CacheLayout &l = session->layout;
    const u8 code_xor = session->model->kernels->code_xor;
    for (i64 p = 0; p < n; ++p) {
        for (i64 kv = 0; kv < heads; ++kv) {
            const i64 slot = kv * h.context + p;
            m[p * heads + kv] = values ? c.v_m.get()[slot] : c.k_m.get()[slot];
            e[p * heads + kv] = values ? c.v_e.get()[slot] : c.k_e.get()[slot];
            for (i64 i = 0; i < dim; ++i) {
                const u8 byte = values ? c.v.get()[kv * l.v_head_bytes + packed_at(l.v_panel_bytes, i, p)]
                                       : c.k.get()[kv * l.k_head_bytes + packed_at(l.k_panel_bytes, p, i)];
                codes[(p * heads + kv) * dim + i] = static_cast<i8>(byte ^ code_xor);
            }
        }
    }
    return S7_OK;
}
