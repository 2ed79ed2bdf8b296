// Checks a model's arrays, copies and packs them; which instruction sets this machine has.
#include "model.h"

#include <new>

namespace {

using s7::Linear;
using s7::Norm;

constexpr i32 kCodeMax = 127, kMinRowShift = 16, kMaxExponent = 1024, kMaxInputs = 133144;

bool within(i64 value, i64 low, i64 high) { return low <= value && value <= high; }
bool is_exponent(i64 e) { return within(e, -kMaxExponent, kMaxExponent); }

// The ranges of specs/arithmetic.md, section 4.
bool good_shape(const s7_shape &s) {
    return within(s.d_model, 1, 1 << 16) && within(s.n_layers, 1, 1 << 10) && within(s.n_heads, 1, 1 << 10) &&
           within(s.n_kv_heads, 1, 1 << 10) && within(s.head_dim, 1, 1 << 10) && within(s.d_ffn, 1, kMaxInputs) &&
           within(s.vocab_size, 1, 1 << 20) && within(s.context, 1, 1 << 17) && within(s.n_experts, 1, 1 << 7) &&
           s.n_heads % s.n_kv_heads == 0 && s.head_dim % 2 == 0 && i64{s.n_heads} * s.head_dim <= kMaxInputs &&
           is_exponent(s.residual_exponent) && within(s.score_m, 1 << 15, (1 << 16) - 1) && is_exponent(s.score_e);
}

bool good_table(const i32 *entries, i64 n, i32 low) {
    for (i64 i = 0; i < n; ++i) {
        if (!within(entries[i], low, 65535)) return false;
    }
    return true;
}

s7_status check_linear(const s7_linear &w, i64 n_out, i64 n_in) {
    if (w.codes == nullptr || w.row_m == nullptr || w.row_s == nullptr) return S7_NULL;
    if (w.n_out != n_out || w.n_in != n_in) return S7_SHAPE;
    for (i64 i = 0; i < n_out * n_in; ++i) {
        if (w.codes[i] < -kCodeMax) return S7_RANGE;
    }
    return S7_OK;
}

s7_status pack_linear(const s7_linear &from, i64 n_out, i64 n_in, u8 code_xor, Linear &to) {
    if (const s7_status bad = check_linear(from, n_out, n_in)) return bad;
    if (!is_exponent(from.exponent)) return S7_RANGE;
    to.n_out = n_out;
    to.n_in = n_in;
    to.n_panels = s7::round_up(n_out, s7::kPanel) / s7::kPanel;
    to.n_groups = s7::round_up(n_in, s7::kGroup) / s7::kGroup;
    to.panel_bytes = to.n_groups * s7::kCell;
    to.exponent = from.exponent;
    to.lift = headroom(n_in);
    if (!to.panels.make(to.n_panels * to.panel_bytes) || !to.m.make(n_out) || !to.s.make(n_out)) return S7_NO_MEMORY;
    std::memset(to.panels.get(), code_xor, static_cast<size_t>(to.n_panels * to.panel_bytes));
    for (i64 o = 0; o < n_out; ++o) {
        if (from.row_s[o] < kMinRowShift) return S7_RANGE;
        to.m.get()[o] = from.row_m[o];
        to.s.get()[o] = static_cast<u8>(least(i64{from.row_s[o]}, kMaxShift));
        u8 *row = to.panels.get() + o / s7::kPanel * to.panel_bytes + o % s7::kPanel * s7::kGroup;
        const i8 *codes = from.codes + o * n_in;
        for (i64 i = 0; i < n_in; ++i) {
            row[i / s7::kGroup * s7::kCell + i % s7::kGroup] = static_cast<u8>(static_cast<u8>(codes[i]) ^ code_xor);
        }
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

s7_status load_layer(const s7_shape &s, const s7_layer &from, u8 code_xor, s7::Layer &to) {
    const i64 d = s.d_model, d_q = i64{s.n_heads} * s.head_dim, d_kv = i64{s.n_kv_heads} * s.head_dim;
    if (from.experts == nullptr) return S7_NULL;
    if (const s7_status bad = copy_norm(from.attn_norm, d, to.attn_norm)) return bad;
    if (const s7_status bad = copy_norm(from.ffn_norm, d, to.ffn_norm)) return bad;
    if (const s7_status bad = pack_linear(from.q, d_q, d, code_xor, to.q)) return bad;
    if (const s7_status bad = pack_linear(from.k, d_kv, d, code_xor, to.k)) return bad;
    if (const s7_status bad = pack_linear(from.v, d_kv, d, code_xor, to.v)) return bad;
    if (const s7_status bad = pack_linear(from.o, d, d_q, code_xor, to.o)) return bad;
    to.experts = new (std::nothrow) s7::FeedForward[static_cast<size_t>(s.n_experts)];
    if (to.experts == nullptr) return S7_NO_MEMORY;
    for (i32 e = 0; e < s.n_experts; ++e) {
        if (const s7_status bad = pack_linear(from.experts[e].gate, s.d_ffn, d, code_xor, to.experts[e].gate)) return bad;
        if (const s7_status bad = pack_linear(from.experts[e].up, s.d_ffn, d, code_xor, to.experts[e].up)) return bad;
        if (const s7_status bad = pack_linear(from.experts[e].down, d, s.d_ffn, code_xor, to.experts[e].down)) return bad;
    }
    return S7_OK;
}

s7_status load_embedding(const s7_shape &s, const s7_linear &from, s7_model &to) {
    const i64 n = i64{s.vocab_size} * s.d_model;
    if (const s7_status bad = check_linear(from, s.vocab_size, s.d_model)) return bad;
    if (!to.embedding.make(n) || !to.embedding_m.make(s.vocab_size) || !to.embedding_s.make(s.vocab_size)) {
        return S7_NO_MEMORY;
    }
    std::memcpy(to.embedding.get(), from.codes, static_cast<size_t>(n));
    std::memcpy(to.embedding_m.get(), from.row_m, static_cast<size_t>(s.vocab_size) * sizeof(u16));
    std::memcpy(to.embedding_s.get(), from.row_s, static_cast<size_t>(s.vocab_size) * sizeof(u16));
    return S7_OK;
}

s7_status load_rest(const s7_shape &s, const s7_weights &from, s7_model &to) {
    const i64 pairs = i64{s.context} * (s.head_dim / 2);
    if (from.cos_sin == nullptr || from.router == nullptr) return S7_NULL;
    if (from.n_cos_sin != 2 * pairs) return S7_SHAPE;
    if (!to.cosine.make(pairs) || !to.sine.make(pairs) || !to.router.make(s.vocab_size)) return S7_NO_MEMORY;
    for (i64 i = 0; i < pairs; ++i) {
        to.cosine.get()[i] = from.cos_sin[2 * i];
        to.sine.get()[i] = from.cos_sin[2 * i + 1];
    }
    for (i64 id = 0; id < s.vocab_size; ++id) {
        if (from.router[id] >= s.n_experts) return S7_RANGE;
        to.router.get()[id] = from.router[id];
    }
    if (const s7_status bad = copy_norm(from.final_norm, s.d_model, to.final_norm)) return bad;
    return pack_linear(from.head, s.vocab_size, s.d_model, to.kernels->code_xor, to.head);
}

s7_status load_model(const s7_shape &s, const s7_weights &from, s7_model &to) {
    if (const s7_status bad = load_embedding(s, from.embedding, to)) return bad;
    if (const s7_status bad = load_rest(s, from, to)) return bad;
    to.layers = new (std::nothrow) s7::Layer[static_cast<size_t>(s.n_layers)];
    if (to.layers == nullptr) return S7_NO_MEMORY;
    for (i32 i = 0; i < s.n_layers; ++i) {
        if (const s7_status bad = load_layer(s, from.layers[i], to.kernels->code_xor, to.layers[i])) return bad;
    }
    return S7_OK;
}

const s7::Kernels *kernels_of(s7_isa isa) {
    switch (isa) {
        case S7_SCALAR: return s7::scalar_kernels();
        case S7_AVX2: return s7::avx2_kernels();
        case S7_AVX512: return s7::avx512_kernels();
        default: return nullptr;
    }
}

}  // namespace

int32_t s7_abi(void) { return S7_ABI; }

const char *s7_status_text(s7_status status) {
    switch (status) {
        case S7_OK: return "no error";
        case S7_NULL: return "a pointer is missing";
        case S7_SHAPE: return "a size is outside the law's range, or sizes disagree";
        case S7_RANGE: return "a value is outside the law's range";
        case S7_NO_MEMORY: return "not enough memory";
        case S7_ISA_ABSENT: return "the instruction set is not there";
        case S7_IDS: return "no ids, or an id outside the vocabulary";
        case S7_CONTEXT: return "more positions than the context has";
    }
    return "an unknown status";
}

int32_t s7_isa_supported(s7_isa isa) {
    if (kernels_of(isa) == nullptr) return 0;
#if defined(__x86_64__)
    // The compiler's run-time library asks CPUID, and the operating system about the wide registers.
    __builtin_cpu_init();
    if (isa == S7_AVX2) return __builtin_cpu_supports("avx2") != 0;
    if (isa == S7_AVX512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    }
#endif
    return isa == S7_SCALAR;
}

s7_status s7_model_create(const s7_shape *shape, const s7_tables *tables, const s7_weights *weights, s7_isa isa,
                          s7_model **model) {
    if (shape == nullptr || tables == nullptr || weights == nullptr || model == nullptr) return S7_NULL;
    if (weights->layers == nullptr) return S7_NULL;
    if (!s7_isa_supported(isa)) return S7_ISA_ABSENT;
    if (!good_shape(*shape)) return S7_SHAPE;
    // Wrong tables give wrong bits, which the self-test finds; here only what keeps every value in its width.
    if (!good_table(tables->exp2, S7_EXP2_ENTRIES, 0) || !good_table(tables->sigmoid, S7_SIGMOID_ENTRIES, 0) ||
        !good_table(tables->rsqrt, S7_RSQRT_ENTRIES, 1 << 15)) {
        return S7_RANGE;
    }
    auto *made = new (std::nothrow) s7_model;
    if (made == nullptr) return S7_NO_MEMORY;
    made->shape = *shape;
    made->tables = *tables;
    made->kernels = kernels_of(isa);
    const s7_status bad = load_model(*shape, *weights, *made);
    if (bad != S7_OK) {
        delete made;
        return bad;
    }
    *model = made;
    return S7_OK;
}

void s7_model_free(s7_model *model) { delete model; }
