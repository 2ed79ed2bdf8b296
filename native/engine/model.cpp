// Checks a model's arrays, copies and packs them.
#include "model.h"

#include <new>
#if defined(__linux__) && !defined(S7_FREESTANDING_CORE)
#include <sys/mman.h>
#endif

bool s7::Arena::make(i64 n_bytes) {
#if defined(S7_FREESTANDING_CORE)
    constexpr i64 large = 64;
#else
    constexpr i64 large = i64{1} << 21;
#endif
    if (!memory_.make(n_bytes + large)) return false;
    offset_ = static_cast<i64>((large - reinterpret_cast<u64>(memory_.get()) % large) % large);
    at_ = 0;
    end_ = n_bytes;
#if defined(__linux__) && !defined(S7_FREESTANDING_CORE)
    // This is only advice to the system, so a failure does no harm. The last, partly used page
    // stays small.
    (void)madvise(memory_.get() + offset_, static_cast<size_t>(n_bytes / large * large),
                  MADV_HUGEPAGE);
#endif
    return true;
}

namespace {

using s7::Linear;
using s7::Norm;

constexpr i32 kCodeMax = 127, kMaxLayers = 1 << 10, kMinRowShift = 16, kMaxExponent = 1024,
              kMaxInputs = 133144;

bool within(i64 value, i64 low, i64 high) { return low <= value && value <= high; }
bool is_exponent(i64 e) { return within(e, -kMaxExponent, kMaxExponent); }

// The ranges of specs/arithmetic.md, section 4.
bool good_shape(const s7_shape &s) {
    return within(s.d_model, 1, 1 << 16) && within(s.n_layers, 1, kMaxLayers) &&
           within(s.n_heads, 1, 1 << 10) && within(s.n_kv_heads, 1, 1 << 10) &&
           within(s.head_dim, 1, 1 << 10) && within(s.d_ffn, 1, kMaxInputs) &&
           within(s.vocab_size, 1, 1 << 20) && within(s.context, 1, 1 << 20) &&
           within(s.n_experts, 1, 1 << 7) && s.n_heads % s.n_kv_heads == 0 && s.head_dim % 2 == 0 &&
           i64{s.n_heads} * s.head_dim <= kMaxInputs &&
           within(s.stack_layers, 0, s.n_experts > 1 ? kMaxLayers : 0) &&
           within(s.stack_d_ffn, s.stack_layers > 0 ? 1 : 0, s.stack_layers > 0 ? kMaxInputs : 0) &&
           is_exponent(s.residual_exponent) && within(s.score_m, 1 << 15, (1 << 16) - 1) &&
           is_exponent(s.score_e);
}

// Packs each entry and its distance to the next one into a word, downward (-1) or upward. Returns
// false if an entry is outside its range.
bool make_steps(const i32 *entries, i64 n, i32 sign, i32 largest, u32 *steps) {
    for (i64 i = 0; i <= n; ++i) {
        if (!within(entries[i], 0, largest)) return false;
    }
    for (i64 i = 0; i < n; ++i) {
        steps[i] = static_cast<u32>(entries[i]) +
                   (static_cast<u32>(sign * (entries[i + 1] - entries[i])) << 16);
    }
    return true;
}

// Wrong tables give wrong bits, which the self-test finds. This function only checks that every
// value fits its width, and that a sum of P is not 0.
bool load_tables(const s7_tables &from, s7_model &to) {
    std::memcpy(to.rsqrt, from.rsqrt, sizeof to.rsqrt);
    for (const i32 entry : from.rsqrt) {
        if (!within(entry, 1 << 15, 65535)) return false;
    }
    return from.exp2[0] >= 1 << 14 &&
           make_steps(from.exp2, S7_EXP2_ENTRIES - 1, -1, 32512, to.exp2_steps) &&
           make_steps(from.sigmoid, S7_SIGMOID_ENTRIES - 1, 1, 32768, to.sigmoid_steps);
}

// Checks the codes of a projection and returns them.
s7_status codes_of(const s7_linear &w, i64 n_out, i64 n_in, const i8 *&codes) {
    if (w.codes == nullptr || w.row_m == nullptr || w.row_s == nullptr) return S7_NULL;
    if (w.n_out != n_out || w.n_in != n_in) return S7_SHAPE;
    codes = s7::lent(w.codes, static_cast<size_t>(n_out * n_in));
    if (codes == nullptr) return S7_NULL;
    for (i64 i = 0; i < n_out * n_in; ++i) {
        if (codes[i] < -kCodeMax) return S7_RANGE;
    }
    return S7_OK;
}

// The bytes that pack_linear takes from the arena.
i64 packed_bytes(i64 n_out, i64 n_in, u8 act_xor) {
    const i64 padded = s7::round_up(n_out, s7::kPanel),
              groups = s7::round_up(n_in, s7::kGroup) / s7::kGroup;
    return padded / s7::kPanel * groups * s7::kCell + s7::round_up(2 * padded, 64) +
           s7::round_up(padded, 64) + (act_xor != 0 ? s7::round_up(4 * padded, 64) : 0);
}

i64 packed_bytes_of(const s7_model &model) {
    const s7_shape &s = model.shape;
    const u8 flip = model.kernels->act_xor;
    const i64 d = s.d_model, d_q = i64{s.n_heads} * s.head_dim,
              d_kv = i64{s.n_kv_heads} * s.head_dim;
    const auto ffn = [&](i64 f) { return 2 * packed_bytes(f, d, flip) + packed_bytes(d, f, flip); };
    const i64 summary = model.is_hybrid() ? packed_bytes(2 * s.n_kv_heads, d, flip) : 0;
    const i64 attention = packed_bytes(d_q, d, flip) + 2 * packed_bytes(d_kv, d, flip) +
                          packed_bytes(d, d_q, flip) + summary;
    return s.n_layers * (attention + model.experts_in_layer() * ffn(s.d_ffn)) +
           (model.n_layers() - s.n_layers) * (attention + ffn(s.stack_d_ffn)) +
           packed_bytes(s.vocab_size, d, flip);
}

// Packs row by row into panels. If acts are unsigned, sums start at -128 times the sum of an
// output's codes.
s7_status pack_linear(const s7_linear &from, i64 n_out, i64 n_in, s7_model &model, Linear &to) {
    const i8 *all_codes = nullptr;
    if (const s7_status bad = codes_of(from, n_out, n_in, all_codes)) return bad;
    if (!is_exponent(from.exponent)) return S7_RANGE;
    to.n_out = n_out;
    to.n_in = n_in;
    to.n_panels = s7::round_up(n_out, s7::kPanel) / s7::kPanel;
    to.n_groups = s7::round_up(n_in, s7::kGroup) / s7::kGroup;
    to.exponent = from.exponent;
    to.lift = headroom(n_in);
    const i64 panel_bytes = to.n_groups * s7::kCell, padded = to.n_panels * s7::kPanel;
    to.panels = model.arena.take<i8>(to.n_panels * panel_bytes);
    to.m = model.arena.take<u16>(padded);
    to.s = model.arena.take<u8>(padded);
    if (model.kernels->act_xor != 0) to.start = model.arena.take<i32>(padded);
    for (i64 o = n_out; o < padded; ++o) to.s[o] = kMaxShift;
    for (i64 o = 0; o < n_out; ++o) {
        if (from.row_s[o] < kMinRowShift) return S7_RANGE;
        to.narrow = to.narrow && from.row_s[o] > kMinRowShift;
        to.m[o] = from.row_m[o];
        to.s[o] = static_cast<u8>(least(i64{from.row_s[o]}, kMaxShift));
        i8 *row = to.panels + o / s7::kPanel * panel_bytes + o % s7::kPanel * s7::kGroup;
        const i8 *codes = all_codes + o * n_in;
        i32 sum = 0;
        for (i64 i = 0; i < n_in; ++i) sum += codes[i];
        for (i64 g = 0; g < n_in / s7::kGroup; ++g)
            std::memcpy(row + g * s7::kCell, codes + g * s7::kGroup, s7::kGroup);
        for (i64 i = n_in / s7::kGroup * s7::kGroup; i < n_in; ++i)
            row[i / s7::kGroup * s7::kCell + i % s7::kGroup] = codes[i];
        if (to.start != nullptr) to.start[o] = -128 * sum;
    }
    return S7_OK;
}

s7_status copy_norm(const s7_norm &from, i64 n, Norm &to) {
    if (from.gain == nullptr) return S7_NULL;
    if (from.n != n) return S7_SHAPE;
    if (!is_exponent(from.exponent) || !within(from.eps, 0, i64{1} << 48)) return S7_RANGE;
    if (!to.gain.make(n)) return S7_NO_MEMORY;
    std::memcpy(to.gain.get(), from.gain, static_cast<size_t>(n) * sizeof(i16));
    to.eps = from.eps;
    to.exponent = from.exponent;
    return S7_OK;
}

s7_status load_layer(const s7_layer &from, const s7_linear *summary, i64 d_ffn, s7_model &model,
                     s7::Layer &to) {
    const s7_shape &s = model.shape;
    const i64 d = s.d_model, d_q = i64{s.n_heads} * s.head_dim,
              d_kv = i64{s.n_kv_heads} * s.head_dim;
    if (from.experts == nullptr) return S7_NULL;
    if (const s7_status bad = copy_norm(from.attn_norm, d, to.attn_norm)) return bad;
    if (const s7_status bad = copy_norm(from.ffn_norm, d, to.ffn_norm)) return bad;
    if (const s7_status bad = pack_linear(from.q, d_q, d, model, to.q)) return bad;
    if (const s7_status bad = pack_linear(from.k, d_kv, d, model, to.k)) return bad;
    if (const s7_status bad = pack_linear(from.v, d_kv, d, model, to.v)) return bad;
    if (const s7_status bad = pack_linear(from.o, d, d_q, model, to.o)) return bad;
    if (summary != nullptr) {
        if (const s7_status bad =
                pack_linear(*summary, 2 * i64{s.n_kv_heads}, d, model, to.summary))
            return bad;
    }
    to.experts = new (std::nothrow) s7::FeedForward[static_cast<size_t>(model.experts_in_layer())];
    if (to.experts == nullptr) return S7_NO_MEMORY;
    for (i64 e = 0; e < model.experts_in_layer(); ++e) {
        // The array has experts_in_layer() entries.
        // NOLINTBEGIN(clang-analyzer-security.ArrayBound)
        if (const s7_status bad =
                pack_linear(from.experts[e].gate, d_ffn, d, model, to.experts[e].gate))
            return bad;
        // NOLINTEND(clang-analyzer-security.ArrayBound)
        if (const s7_status bad =
                pack_linear(from.experts[e].up, d_ffn, d, model, to.experts[e].up))
            return bad;
        if (const s7_status bad =
                pack_linear(from.experts[e].down, d, d_ffn, model, to.experts[e].down))
            return bad;
    }
    return S7_OK;
}

s7_status load_embedding(const s7_shape &s, const s7_linear &from, s7_model &to) {
    const i64 n = i64{s.vocab_size} * s.d_model;
    const i8 *codes = nullptr;
    if (const s7_status bad = codes_of(from, s.vocab_size, s.d_model, codes)) return bad;
    if (!to.embedding.make(n) || !to.embedding_m.make(s.vocab_size) ||
        !to.embedding_s.make(s.vocab_size)) {
        return S7_NO_MEMORY;
    }
    std::memcpy(to.embedding.get(), codes, static_cast<size_t>(n));
    std::memcpy(to.embedding_m.get(), from.row_m, static_cast<size_t>(s.vocab_size) * sizeof(u16));
    std::memcpy(to.embedding_s.get(), from.row_s, static_cast<size_t>(s.vocab_size) * sizeof(u16));
    return S7_OK;
}

s7_status load_rest(const s7_shape &s, const s7_weights &from, s7_model &to) {
    const i64 pairs = i64{s.context} * (s.head_dim / 2);
    if (from.cos_sin == nullptr || from.router == nullptr) return S7_NULL;
    if (from.n_cos_sin != 2 * pairs) return S7_SHAPE;
    if (!to.cosine.make(pairs) || !to.sine.make(pairs) || !to.router.make(s.vocab_size))
        return S7_NO_MEMORY;
    for (i64 i = 0; i < pairs; ++i) {
        to.cosine.get()[i] = from.cos_sin[2 * i];
        to.sine.get()[i] = from.cos_sin[2 * i + 1];
    }
    for (i64 id = 0; id < s.vocab_size; ++id) {
        if (from.router[id] >= s.n_experts) return S7_RANGE;
        to.router.get()[id] = from.router[id];
    }
    if (const s7_status bad = copy_norm(from.final_norm, s.d_model, to.final_norm)) return bad;
    return S7_OK;
}

s7_status load_model(const s7_shape &s, const s7_weights &from, const s7_linear *summaries,
                     s7_model &to) {
    if (const s7_status bad = load_embedding(s, from.embedding, to)) return bad;
    if (const s7_status bad = load_rest(s, from, to)) return bad;
    if (s.stack_layers > 0 && from.stacks == nullptr) return S7_NULL;
    to.layers = new (std::nothrow) s7::Layer[static_cast<size_t>(to.n_layers())];
    if (to.layers == nullptr || !to.arena.make(packed_bytes_of(to))) return S7_NO_MEMORY;
    for (i64 i = 0; i < to.n_layers(); ++i) {
        const bool trunk = i < s.n_layers;
        const s7_layer &layer = trunk ? from.layers[i] : from.stacks[i - s.n_layers];
        if (const s7_status bad = load_layer(layer, summaries == nullptr ? nullptr : summaries + i,
                                             trunk ? s.d_ffn : s.stack_d_ffn, to, to.layers[i]))
            return bad;
    }
    return pack_linear(from.head, s.vocab_size, s.d_model, to, to.head);
}

}  // namespace

namespace {

bool good_hybrid(const s7_hybrid &h, const s7_shape &s) {
    return within(h.window, 1, 1 << 20) && within(h.stride, 1, 1 << 16) &&
           within(h.ring, 1, 1 << 20) && h.window % h.stride == 0 &&
           within(h.document_start, -1, s.vocab_size - 1) &&
           (h.kv_bits == 8 || h.kv_bits == 6 || h.kv_bits == 4);
}

s7_status create(const s7_shape *shape, const s7_hybrid *hybrid, const s7_tables *tables,
                 const s7_weights *weights, const s7_linear *summaries, s7_isa isa,
                 s7_model **model) {
    if (shape == nullptr || tables == nullptr || weights == nullptr || model == nullptr)
        return S7_NULL;
    if (weights->layers == nullptr) return S7_NULL;
    if (!s7_isa_supported(isa)) return S7_ISA_ABSENT;
    if (!good_shape(*shape)) return S7_SHAPE;
    auto *made = new (std::nothrow) s7_model;
    if (made == nullptr) return S7_NO_MEMORY;
    made->shape = *shape;
    if (hybrid != nullptr) made->hybrid = *hybrid;
    made->kernels = s7::kernels_of(isa);
    const s7_status bad =
        load_tables(*tables, *made) ? load_model(*shape, *weights, summaries, *made) : S7_RANGE;
    if (bad != S7_OK) {
        delete made;
        return bad;
    }
    *model = made;
    return S7_OK;
}

}  // namespace

s7_status s7_model_create(const s7_shape *shape, const s7_tables *tables, const s7_weights *weights,
                          s7_isa isa, s7_model **model) {
    return create(shape, nullptr, tables, weights, nullptr, isa, model);
}

s7_status s7_hybrid_model_create(const s7_shape *shape, const s7_hybrid *hybrid,
                                 const s7_tables *tables, const s7_weights *weights,
                                 const s7_linear *summaries, s7_isa isa, s7_model **model) {
    if (shape == nullptr || hybrid == nullptr || summaries == nullptr) return S7_NULL;
    if (!good_shape(*shape) || !good_hybrid(*hybrid, *shape)) return S7_SHAPE;
    return create(shape, hybrid, tables, weights, summaries, isa, model);
}

void s7_model_free(s7_model *model) { delete model; }

int64_t s7_model_bytes(const s7_model *model) {
    if (model == nullptr) return 0;
    return model->arena.n_bytes() + model->embedding.n_bytes() + model->embedding_m.n_bytes() +
           model->embedding_s.n_bytes() + model->cosine.n_bytes() + model->sine.n_bytes() +
           model->router.n_bytes();
}
