// A driver for sanitizer builds: random models of a few shapes on every instruction set, prompts cut and stepped, calls that are
// refused. Exits 1 when two instruction sets, or two cuts, differ.
#include <cstdio>
#include <cstring>
#include <vector>

#include "s7.h"

namespace {

struct Random {
    uint64_t state = 1;
    int64_t between(int64_t low, int64_t high) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return low + static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(high - low + 1));
    }
};

// Exactly sized arrays, so that a read past the end is seen.
template <class T>
std::vector<T> numbers(Random &random, int64_t n, int64_t low, int64_t high) {
    std::vector<T> out;
    out.reserve(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<T>(random.between(low, high)));
    return out;
}

struct Arrays {
    std::vector<std::vector<int8_t>> codes;
    std::vector<std::vector<uint16_t>> rows;
    std::vector<std::vector<int16_t>> halves;

    s7_linear linear(Random &r, int32_t n_out, int32_t n_in) {
        codes.push_back(numbers<int8_t>(r, int64_t{n_out} * n_in, -127, 127));
        rows.push_back(numbers<uint16_t>(r, n_out, 0, 65535));
        rows.push_back(numbers<uint16_t>(r, n_out, 16, 70));
        return {codes.back().data(), rows[rows.size() - 2].data(), rows.back().data(), n_out, n_in, 25};
    }
    s7_norm norm(Random &r, int32_t n) {
        halves.push_back(numbers<int16_t>(r, n, -32768, 32767));
        return {halves.back().data(), 343597, n, 11};
    }
};

// Logits of the ids, cut at `cut`, then refused calls. Empty on an error.
std::vector<int32_t> run(s7_model *model, const s7_shape &shape, const std::vector<int32_t> &ids, int32_t cut,
                         int32_t n_threads) {
    s7_session *session = nullptr;
    s7_team *team = nullptr;
    if (s7_session_create(model, &session) != S7_OK || s7_team_create(model, n_threads, &team) != S7_OK) return {};
    const auto forward = [&](const int32_t *from, int32_t n, int32_t n_logits, int32_t *to) {
        const s7_run call{session, from, n, n_logits, to};
        return s7_forward(team, &call, 1);
    };
    const auto n = static_cast<int32_t>(ids.size());
    const int64_t v = shape.vocab_size;
    std::vector<int32_t> logits(static_cast<size_t>(n * v));
    bool good = forward(ids.data(), cut, cut, logits.data()) == S7_OK;
    good = good && forward(ids.data() + cut, n - cut, n - cut, logits.data() + cut * v) == S7_OK;
    std::vector<int32_t> spare(static_cast<size_t>(v));
    const int32_t outside = shape.vocab_size;
    good = good && forward(&outside, 1, 1, spare.data()) == S7_IDS;
    while (s7_session_length(session) < shape.context) {
        good = good && forward(ids.data(), 1, 1, spare.data()) == S7_OK;
    }
    good = good && forward(ids.data(), 1, 1, spare.data()) == S7_CONTEXT;
    const int64_t scales = int64_t{shape.context} * shape.n_kv_heads;
    std::vector<int8_t> codes(static_cast<size_t>(scales * shape.head_dim));
    std::vector<int32_t> m(static_cast<size_t>(scales)), e(static_cast<size_t>(scales));
    for (int32_t values = 0; values < 2; ++values) {
        good = good && s7_session_kv(session, 0, values, codes.data(), static_cast<int64_t>(codes.size()), m.data(), e.data(),
                                     scales) == S7_OK;
    }
    s7_session *fork = nullptr;  // shares pages, writes its own, outlives the first
    good = good && s7_session_fork(session, shape.context - 2, &fork) == S7_OK;
    good = good && s7_session_truncate(session, shape.context / 3) == S7_OK;
    const s7_run both[] = {{session, ids.data(), 2, 0, nullptr}, {fork, ids.data(), 1, 1, spare.data()}};
    good = good && s7_forward(team, both, 2) == S7_OK && s7_session_length(fork) == shape.context - 1;
    s7_session_free(session);
    int32_t tokens[2], made = 0;
    good = good && s7_greedy(team, &both[1], 1, -1, tokens, 2, &made) == S7_CONTEXT;
    good = good && s7_greedy(team, &both[1], 1, -1, tokens, 1, &made) == S7_OK && made == 1;
    s7_session_free(fork);
    s7_team_free(team);
    return good ? logits : std::vector<int32_t>{};
}

bool shape_holds(s7_shape shape) {
    Random random;
    Arrays arrays;
    s7_tables tables{};
    for (int i = 0; i < S7_EXP2_ENTRIES; ++i) tables.exp2[i] = 32512 - i * 254;
    for (int i = 0; i < S7_SIGMOID_ENTRIES; ++i) tables.sigmoid[i] = 16384 + i * 32;
    for (int i = 0; i < S7_RSQRT_ENTRIES; ++i) tables.rsqrt[i] = 65281 - i * 170;
    const int32_t d = shape.d_model, q = shape.n_heads * shape.head_dim, kv = shape.n_kv_heads * shape.head_dim;
    std::vector<std::vector<s7_ffn>> experts(static_cast<size_t>(shape.n_layers));
    std::vector<s7_layer> layers;
    for (auto &mine : experts) {
        for (int32_t e = 0; e < shape.n_experts; ++e) {
            mine.push_back({arrays.linear(random, shape.d_ffn, d), arrays.linear(random, shape.d_ffn, d),
                            arrays.linear(random, d, shape.d_ffn)});
        }
        layers.push_back({arrays.norm(random, d), arrays.norm(random, d), arrays.linear(random, q, d),
                          arrays.linear(random, kv, d), arrays.linear(random, kv, d), arrays.linear(random, d, q), mine.data()});
    }
    const auto rope = numbers<int16_t>(random, int64_t{shape.context} * shape.head_dim, -32768, 32767);
    const auto router = numbers<uint8_t>(random, shape.vocab_size, 0, shape.n_experts - 1);
    const s7_weights weights{arrays.linear(random, shape.vocab_size, d), rope.data(), static_cast<int64_t>(rope.size()),
                             router.data(), layers.data(), arrays.norm(random, d), arrays.linear(random, shape.vocab_size, d)};
    const auto ids = numbers<int32_t>(random, shape.context - 3, 0, shape.vocab_size - 1);
    std::vector<int32_t> first;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        s7_model *model = nullptr;
        if (s7_model_create(&shape, &tables, &weights, static_cast<s7_isa>(isa), &model) != S7_OK) return false;
        for (const int32_t cut : {1, shape.context / 2, shape.context - 4}) {
            const auto logits = run(model, shape, ids, cut, 1 + cut % 3);
            if (first.empty()) first = logits;
            if (logits.empty() || logits != first) return false;
        }
        s7_model_free(model);
    }
    s7_shape wrong = shape;
    wrong.d_model += 1;
    s7_model *none = nullptr;
    return s7_model_create(&wrong, &tables, &weights, S7_SCALAR, &none) == S7_SHAPE && none == nullptr;
}

}  // namespace

int main() {
    // d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ffn, vocab_size, context, n_experts, residual exponent, score m, e
    const s7_shape shapes[] = {{24, 2, 4, 4, 6, 10, 37, 24, 1, 16, 48022, 30},   {67, 2, 4, 2, 18, 131, 337, 150, 2, 16, 48022, 30},
                               {1, 1, 1, 1, 2, 1, 1, 8, 1, 16, 48022, 30},       {64, 1, 2, 1, 64, 128, 64, 80, 3, 16, 48022, 30},
                               {17, 1, 3, 1, 34, 33, 65, 70, 1, -1024, 65535, -1024}};
    for (const s7_shape &shape : shapes) {
        if (!shape_holds(shape)) {
            std::printf("failed: d_model %d\n", shape.d_model);
            return 1;
        }
    }
    std::puts("ok");
    return 0;
}
