// Looks up records and numbers of the graph; each miss or misfit is named.
#include "weights.h"

#include <cstdarg>
#include <cstdio>

#include "law_tables.h"
#include "rules.h"

namespace s7f {

namespace {

constexpr i64 kMaxInputs = 133144, kMaxExponent = 1024, kMinRowShift = 16;

// A name made of parts, such as "layers.03.attn.q_proj.weight".
struct Name {
    char text[160];
    [[gnu::format(printf, 2, 3)]] explicit Name(const char *format, ...) {
        std::va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
    }
};

// Arrays that live until the engine has copied them.
class Arrays {
  public:
    Arrays() = default;
    Arrays(const Arrays &) = delete;
    Arrays &operator=(const Arrays &) = delete;
    ~Arrays() {
        for (void *block : blocks_) std::free(block);
    }
    template <class T> T *take(size_t n) {
        if (!blocks_.reserve(blocks_.size() + 1)) return nullptr;
        void *block = std::calloc(n > 0 ? n : 1, sizeof(T));
        if (block == nullptr || !blocks_.push(block)) return nullptr;
        return static_cast<T *>(block);
    }

  private:
    Vec<void *> blocks_;
};

class Loader {
  public:
    Loader(const s7f_file &file, s7f_error *error)
        : file_(file), graph_(file.of(kGraph)), error_(error) {}

    s7f_status run(s7_isa isa, s7_model **to, s7_shape &shape) {
        shape_ = s7_shape{};
        if (const s7f_status bad = law()) return bad;
        if (const s7f_status bad = shape_of_graph()) return bad;
        s7_weights weights{};
        if (const s7f_status bad = all(weights)) return bad;
        shape = shape_;
        const s7_status status = s7_model_create(&shape_, &kLawTables, &weights, isa, to);
        if (status == S7_OK) return S7F_OK;
        if (status == S7_NO_MEMORY) return no_memory(error_);
        return refuse(error_, status == S7_ISA_ABSENT ? S7F_ISA : S7F_GRAPH, "FIELD",
                      "the engine refuses the records: %s", s7_status_text(status));
    }

  private:
    s7f_status fail(const char *name, const char *what) const {
        return refuse(error_, S7F_GRAPH, name, "%s", what);
    }

    s7f_status law() const {
        const Value *law = graph_.get("arithmetic");
        const Value *tables = graph_.get(law, "tables");
        const bool same = law != nullptr && law->is(Kind::kObject) && law->n == 2 &&
                          equals_integer(graph_.get(law, "version"), 1) && tables != nullptr &&
                          tables->is_string(kTablesDigest);
        return same ? S7F_OK
                    : fail("EDGE graph",
                           "its arithmetic is not version 1 of the law, the one that libsevenfold "
                           "computes; run the file with the s7 package");
    }

    s7f_status number(const Value *owner, const char *key, i64 least, i64 most, i64 &to) const {
        if (integer_within(graph_.get(owner, slice_of(key)), least, most, to)) return S7F_OK;
        return refuse(error_, S7F_GRAPH, "EDGE graph", "%s is no integer from %lld to %lld", key,
                      static_cast<long long>(least), static_cast<long long>(most));
    }
    template <class T>
    s7f_status number(const Value *owner, const char *key, i64 least, i64 most, T &to) const {
        i64 found = 0;
        const s7f_status bad = number(owner, key, least, most, found);
        if (bad == S7F_OK) to = static_cast<T>(found);
        return bad;
    }

    s7f_status shape_of_graph() {
        const Value *model = graph_.get("model");
        const struct {
            const char *key;
            i64 most;
            i32 &to;
        } limits[] = {{"d_model", 1 << 16, shape_.d_model},
                      {"n_layers", 1 << 10, shape_.n_layers},
                      {"n_heads", 1 << 10, shape_.n_heads},
                      {"n_kv_heads", 1 << 10, shape_.n_kv_heads},
                      {"head_dim", 1 << 10, shape_.head_dim},
                      {"d_ffn", kMaxInputs, shape_.d_ffn},
                      {"vocab_size", 1 << 20, shape_.vocab_size},
                      {"context", 1 << 20, shape_.context},
                      {"n_experts", 1 << 7, shape_.n_experts},
                      {"stack_layers", 1 << 10, shape_.stack_layers},
                      {"stack_d_ffn", kMaxInputs, shape_.stack_d_ffn}};
        const bool stacked = graph_.get(model, "stack_layers") != nullptr ||
                             graph_.get(model, "stack_d_ffn") != nullptr;
        for (size_t i = 0; i < (stacked ? 11 : 9); ++i)
            if (const s7f_status bad =
                    number(model, limits[i].key, 1, limits[i].most, limits[i].to))
                return bad;
        if (stacked && shape_.n_experts < 2)
            return fail("EDGE graph", "it has an expert stack, but one expert");
        if (shape_.n_heads % shape_.n_kv_heads != 0 || shape_.head_dim % 2 != 0 ||
            i64{shape_.n_heads} * shape_.head_dim > kMaxInputs)
            return fail("EDGE graph", "its heads do not divide evenly, or are too wide");
        const Value *root = &graph_.root(), *scale = graph_.get("score_scale");
        if (const s7f_status bad = number(root, "residual_exponent", -kMaxExponent, kMaxExponent,
                                          shape_.residual_exponent))
            return bad;
        if (const s7f_status bad = number(scale, "m", 1 << 15, (1 << 16) - 1, shape_.score_m))
            return bad;
        if (const s7f_status bad = number(root, "norm_eps", 0, i64{1} << 48, eps_)) return bad;
        return number(scale, "e", -kMaxExponent, kMaxExponent, shape_.score_e);
    }

    s7f_status record(const char *name, std::initializer_list<i64> dims, const u8 *&to) const {
        const Record *found = file_.record(slice_of(name));
        if (found == nullptr) return fail(name, "the record is missing from FIELD");
        bool same = found->rank == dims.size();
        u32 i = 0;
        for (const i64 dim : dims) same = same && found->dims[i++] == static_cast<u64>(dim);
        if (!same) return fail(name, "the record has another shape than the graph needs");
        to = file_.bytes.bytes() + found->offset;
        return S7F_OK;
    }

    s7f_status exponent(const char *name, i32 &to) const {
        return number(graph_.get("exponents"), name, -kMaxExponent, kMaxExponent, to);
    }

    // Codes [n_out, n_in] as they lie in the file, and their multipliers and shifts.
    s7f_status codes(const char *name, i64 n_out, i64 n_in, s7_linear &to) {
        const u8 *found = nullptr, *rows = nullptr;
        if (const s7f_status bad = record(name, {n_out, n_in}, found)) return bad;
        if (const s7f_status bad = record(Name("%s.rows", name).text, {n_out, 4}, rows)) return bad;
        u16 *const m = arrays_.take<u16>(static_cast<size_t>(2 * n_out)), *const s = m + n_out;
        if (m == nullptr) return no_memory(error_);
        for (i64 o = 0; o < n_out; ++o, rows += 4) {
            m[o] = static_cast<u16>(big_endian(rows, 2));
            s[o] = static_cast<u16>(big_endian(rows + 2, 2));
        }
        to.codes = reinterpret_cast<const i8 *>(found);
        to.row_m = m;
        to.row_s = s;
        to.n_out = static_cast<i32>(n_out);
        to.n_in = static_cast<i32>(n_in);
        return S7F_OK;
    }

    s7f_status linear(const char *name, i64 n_out, i64 n_in, s7_linear &to) {
        if (const s7f_status bad = codes(name, n_out, n_in, to)) return bad;
        for (i64 o = 0; o < n_out; ++o)
            if (to.row_s[o] < kMinRowShift) return fail(name, "a row has a shift below 16");
        return exponent(name, to.exponent);
    }

    s7f_status norm(const char *name, s7_norm &to) {
        const u8 *found = nullptr;
        const i64 n = shape_.d_model;
        if (const s7f_status bad = record(Name("%s.gain", name).text, {n, 2}, found)) return bad;
        i16 *const gain = arrays_.take<i16>(static_cast<size_t>(n));
        if (gain == nullptr) return no_memory(error_);
        for (i64 d = 0; d < n; ++d) gain[d] = static_cast<i16>(big_endian(found + 2 * d, 2));
        to.gain = gain;
        to.eps = eps_;
        to.n = shape_.d_model;
        return exponent(name, to.exponent);
    }

    s7f_status feed_forward(const char *base, i64 d_ffn, s7_ffn &to) {
        const i64 d = shape_.d_model;
        if (const s7f_status bad =
                linear(Name("%s.gate_proj.weight", base).text, d_ffn, d, to.gate))
            return bad;
        if (const s7f_status bad = linear(Name("%s.up_proj.weight", base).text, d_ffn, d, to.up))
            return bad;
        return linear(Name("%s.down_proj.weight", base).text, d, d_ffn, to.down);
    }

    s7f_status layer(const char *prefix, i64 d_ffn, s7_layer &to) {
        const i64 d = shape_.d_model, d_q = i64{shape_.n_heads} * shape_.head_dim,
                  d_kv = i64{shape_.n_kv_heads} * shape_.head_dim;
        if (const s7f_status bad = norm(Name("%s.attn_norm.weight", prefix).text, to.attn_norm))
            return bad;
        if (const s7f_status bad = norm(Name("%s.ffn_norm.weight", prefix).text, to.ffn_norm))
            return bad;
        const struct {
            char letter;
            i64 n_out, n_in;
            s7_linear &to;
        } projections[] = {
            {'q', d_q, d, to.q}, {'k', d_kv, d, to.k}, {'v', d_kv, d, to.v}, {'o', d, d_q, to.o}};
        for (const auto &p : projections) {
            const Name name("%s.attn.%c_proj.weight", prefix, p.letter);
            if (const s7f_status bad = linear(name.text, p.n_out, p.n_in, p.to)) return bad;
        }
        const bool routed = shape_.n_experts > 1 && shape_.stack_layers == 0;
        const i32 n = routed ? shape_.n_experts : 1;
        s7_ffn *const experts = arrays_.take<s7_ffn>(static_cast<size_t>(n));
        if (experts == nullptr) return no_memory(error_);
        to.experts = experts;
        for (i32 e = 0; e < n; ++e) {
            const Name base =
                routed ? Name("%s.ffn.experts.%d", prefix, e) : Name("%s.ffn", prefix);
            if (const s7f_status bad = feed_forward(base.text, d_ffn, experts[e])) return bad;
        }
        return S7F_OK;
    }

    s7f_status router(s7_weights &to) {
        if (shape_.n_experts > 1)
            return record("router.experts", {shape_.vocab_size, 1}, to.router);
        to.router = arrays_.take<u8>(static_cast<size_t>(shape_.vocab_size));
        return to.router != nullptr ? S7F_OK : no_memory(error_);
    }

    s7f_status rope(s7_weights &to) {
        const u8 *found = nullptr;
        const i64 n = i64{shape_.context} * shape_.head_dim;
        if (const s7f_status bad =
                record("rope.cos_sin", {shape_.context, shape_.head_dim / 2, 2, 2}, found))
            return bad;
        i16 *const entries = arrays_.take<i16>(static_cast<size_t>(n));
        if (entries == nullptr) return no_memory(error_);
        for (i64 i = 0; i < n; ++i) entries[i] = static_cast<i16>(big_endian(found + 2 * i, 2));
        to.cos_sin = entries;
        to.n_cos_sin = n;
        return S7F_OK;
    }

    s7f_status all(s7_weights &to) {
        const i64 vocab = shape_.vocab_size, d = shape_.d_model;
        if (const s7f_status bad = codes("embedding.weight", vocab, d, to.embedding)) return bad;
        if (const s7f_status bad = router(to)) return bad;
        if (const s7f_status bad = rope(to)) return bad;
        const i32 n_stacks = shape_.stack_layers > 0 ? shape_.n_experts : 0;
        // Before memory is taken for them: a layer is several records.
        const i64 n_layers = shape_.n_layers + i64{n_stacks} * shape_.stack_layers;
        if (n_layers > static_cast<i64>(file_.records.size()))
            return fail("EDGE graph", "it has more layers than FIELD has records");
        s7_layer *const layers = arrays_.take<s7_layer>(static_cast<size_t>(n_layers));
        if (layers == nullptr) return no_memory(error_);
        to.layers = layers;
        to.stacks = n_stacks > 0 ? layers + shape_.n_layers : nullptr;
        for (i32 i = 0; i < shape_.n_layers; ++i)
            if (const s7f_status bad = layer(Name("layers.%02d", i).text, shape_.d_ffn, layers[i]))
                return bad;
        for (i32 e = 0; e < n_stacks; ++e)
            for (i32 i = 0; i < shape_.stack_layers; ++i) {
                const Name prefix("experts.%d.layers.%02d", e, i);
                s7_layer &made = layers[shape_.n_layers + e * shape_.stack_layers + i];
                if (const s7f_status bad = layer(prefix.text, shape_.stack_d_ffn, made)) return bad;
            }
        if (const s7f_status bad = norm("final_norm.weight", to.final_norm)) return bad;
        return linear("lm_head.weight", vocab, d, to.head);
    }

    using i8 = std::int8_t;
    using i16 = std::int16_t;

    const s7f_file &file_;
    const Document &graph_;
    s7f_error *error_;
    Arrays arrays_;
    s7_shape shape_{};
    i64 eps_ = 0;
};

}  // namespace

s7f_status load_engine(const s7f_file &file, s7_isa isa, s7_model **to, s7_shape &shape,
                       s7f_error *error) {
    if (!file.has[kGraph]) return refuse(error, S7F_GRAPH, "EDGE graph", "the file has no graph");
    return Loader(file, error).run(isa, to, shape);
}

s7f_status of_engine(s7_status status) {
    switch (status) {
        case S7_OK:
            return S7F_OK;
        case S7_NULL:
            return S7F_NULL;
        case S7_NO_MEMORY:
            return S7F_MEMORY;
        case S7_ISA_ABSENT:
            return S7F_ISA;
        case S7_IDS:
            return S7F_IDS;
        case S7_CONTEXT:
            return S7F_CONTEXT;
        case S7_THREADS:
            return S7F_THREADS;
        default:
            return S7F_ARGUMENT;
    }
}

s7_isa widest_isa() { return s7_isa_widest(); }

}  // namespace s7f
