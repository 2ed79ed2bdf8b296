// A driver for sanitizer builds: random models of a few shapes on every instruction set, prompts
// cut and stepped, calls that are refused; two callers at once on sequences that share pages. Exits
// 1 when two instruction sets, two cuts or two callers differ.
#include <pthread.h>
#include <algorithm>
#include <cstdio>

#include "random_model.h"

namespace {

// Logits of the ids, cut at `cut`, then refused calls. Empty on an error.
std::vector<int32_t> run(s7_model *model, const s7_shape &shape, const std::vector<int32_t> &ids,
                         int32_t cut, int32_t n_threads) {
    s7_session *session = nullptr;
    s7_team *team = nullptr;
    if (s7_session_create(model, &session) != S7_OK ||
        s7_team_create(model, n_threads, &team) != S7_OK)
        return {};
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
        good = good &&
               s7_session_kv(session, 0, values, codes.data(), static_cast<int64_t>(codes.size()),
                             m.data(), e.data(), scales) == S7_OK;
    }
    s7_session *fork = nullptr;  // shares pages, writes its own, outlives the first
    good = good && s7_session_fork(session, shape.context - 2, &fork) == S7_OK;
    good = good && s7_session_truncate(session, shape.context / 3) == S7_OK;
    const s7_run both[] = {{session, ids.data(), 2, 0, nullptr},
                           {fork, ids.data(), 1, 1, spare.data()}};
    good =
        good && s7_forward(team, both, 2) == S7_OK && s7_session_length(fork) == shape.context - 1;
    s7_session_free(session);
    int32_t tokens[2], made = 0;
    good = good && s7_greedy(team, &both[1], 1, -1, tokens, 2, &made) == S7_CONTEXT;
    good = good && s7_greedy(team, &both[1], 1, -1, tokens, 1, &made) == S7_OK && made == 1;
    s7_session_free(fork);
    s7_team_free(team);
    return good ? logits : std::vector<int32_t>{};
}

struct Caller {
    const s7_model *model;
    const s7_shape *shape;
    const std::vector<int32_t> *ids, *expected;
    s7_session *session;  // begins with pages that the other caller's has, too
    bool good = false;
    pthread_t thread{};
};

// What is left of the ids, twice: on a fork, and on what it was forked from.
void *caller(void *seat) {
    auto &my = *static_cast<Caller *>(seat);
    s7_team *team = nullptr;
    s7_session *fork = nullptr;
    const int32_t held = s7_session_length(my.session),
                  n = static_cast<int32_t>(my.ids->size()) - held;
    std::vector<int32_t> logits(static_cast<size_t>(n) * static_cast<size_t>(my.shape->vocab_size));
    my.good = s7_team_create(my.model, 2, &team) == S7_OK &&
              s7_session_fork(my.session, held, &fork) == S7_OK;
    for (s7_session *session : {fork, my.session}) {
        const s7_run call{session, my.ids->data() + held, n, n, logits.data()};
        my.good = my.good && s7_forward(team, &call, 1) == S7_OK &&
                  std::equal(logits.rbegin(), logits.rend(), my.expected->rbegin());
        s7_session_free(session);
    }
    s7_team_free(team);
    return nullptr;
}

// Two callers with teams of their own, on one model and on sequences that share their beginning.
bool callers_hold(const s7_model *model, const s7_shape &shape, const std::vector<int32_t> &ids,
                  const std::vector<int32_t> &expected) {
    s7_session *base = nullptr;
    s7_team *team = nullptr;
    bool good =
        s7_session_create(model, &base) == S7_OK && s7_team_create(model, 1, &team) == S7_OK;
    const s7_run half{base, ids.data(), static_cast<int32_t>(ids.size()) / 2, 0, nullptr};
    good = good && s7_forward(team, &half, 1) == S7_OK;
    Caller callers[2] = {{model, &shape, &ids, &expected, nullptr},
                         {model, &shape, &ids, &expected, nullptr}};
    for (Caller &each : callers)
        good = good && s7_session_fork(base, half.n_ids, &each.session) == S7_OK;
    if (!good) return false;
    for (Caller &each : callers)
        good = pthread_create(&each.thread, nullptr, caller, &each) == 0 && good;
    s7_session_free(base);
    for (Caller &each : callers) pthread_join(each.thread, nullptr);
    s7_team_free(team);
    return good && callers[0].good && callers[1].good;
}

bool shape_holds(const s7_shape &shape) {
    Random random;
    const RandomModel made(shape, random);
    const auto ids =
        RandomModel::numbers<int32_t>(random, shape.context - 3, 0, shape.vocab_size - 1);
    std::vector<int32_t> first;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        s7_model *model = nullptr;
        if (s7_model_create(&shape, &made.tables, &made.weights, static_cast<s7_isa>(isa),
                            &model) != S7_OK)
            return false;
        for (const int32_t cut : {1, shape.context / 2, shape.context - 4}) {
            const auto logits = run(model, shape, ids, cut, 1 + cut % 3);
            if (first.empty()) first = logits;
            if (logits.empty() || logits != first) return false;
        }
        const bool calm = callers_hold(model, shape, ids, first);
        s7_model_free(model);
        if (!calm) return false;
    }
    s7_shape wrong = shape;
    wrong.d_model += 1;
    s7_model *none = nullptr;
    return s7_model_create(&wrong, &made.tables, &made.weights, S7_SCALAR, &none) == S7_SHAPE &&
           none == nullptr;
}

}  // namespace

int main() {
    // d_model, layers, heads, KV heads, head_dim, d_ffn, vocabulary, context, experts, residual
    // exponent, score m, e, stack layers, d_ffn
    const s7_shape shapes[] = {{24, 2, 4, 4, 6, 10, 37, 24, 1, 16, 48022, 30, 0, 0},
                               {67, 2, 4, 2, 18, 131, 337, 150, 2, 16, 48022, 30, 0, 0},
                               {1, 1, 1, 1, 2, 1, 1, 8, 1, 16, 48022, 30, 0, 0},
                               {64, 1, 2, 1, 64, 128, 64, 80, 3, 16, 48022, 30, 0, 0},
                               {17, 1, 3, 1, 34, 33, 65, 70, 1, -1024, 65535, -1024, 0, 0},
                               {24, 1, 4, 2, 6, 10, 37, 80, 3, 16, 48022, 30, 2, 7}};
    for (const s7_shape &shape : shapes) {
        if (!shape_holds(shape)) {
            std::printf("failed: d_model %d\n", shape.d_model);
            return 1;
        }
    }
    std::puts("ok");
    return 0;
}
