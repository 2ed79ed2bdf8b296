// A driver for sanitizer builds: random models of a few shapes on every instruction set, prompts cut and stepped, calls that are
// refused. Exits 1 when two instruction sets, or two cuts, differ.
#include <cstdio>

#include "random_model.h"

namespace {

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

bool shape_holds(const s7_shape &shape) {
    Random random;
    const RandomModel made(shape, random);
    const auto ids = RandomModel::numbers<int32_t>(random, shape.context - 3, 0, shape.vocab_size - 1);
    std::vector<int32_t> first;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        s7_model *model = nullptr;
        if (s7_model_create(&shape, &made.tables, &made.weights, static_cast<s7_isa>(isa), &model) != S7_OK) return false;
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
    return s7_model_create(&wrong, &made.tables, &made.weights, S7_SCALAR, &none) == S7_SHAPE && none == nullptr;
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
