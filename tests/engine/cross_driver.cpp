// Reads case files from its standard input and compares every instruction set of the machine it
// runs on with them: logits and cache, prompts cut, batches, forks. Writes a line for each
// instruction set and case; exits 1 at the first difference.
#include "case.h"

namespace {

constexpr const char *kNames[S7_ISA_COUNT] = {"scalar", "avx2", "avx512",
                                              "neon",   "wasm", "avxvnni"};

struct Run {  // one model on one team
    const Case &from;
    s7_team *team;
    int64_t vocab = from.shape.vocab_size;
    std::vector<int32_t> room = std::vector<int32_t>(static_cast<size_t>(from.n_ids * vocab), 0);

    const char *failed = nullptr;
    bool hold(bool good, const char *what) {
        if (!good && failed == nullptr) failed = what;
        return good;
    }

    // ids begin .. end - 1 after what the session holds: are their logits those of the case?
    bool extend(s7_session *session, int32_t end) {
        const int32_t begin = s7_session_length(session), n = end - begin;
        std::memset(room.data(), 0x55, room.size() * 4);
        const s7_run call{session, from.ids + begin, n, n, room.data()};
        return hold(s7_forward(team, &call, 1) == S7_OK, "a call") &&
               hold(std::memcmp(room.data(), from.logits + begin * vocab,
                                static_cast<size_t>(n * vocab) * 4) == 0,
                    "logits");
    }

    bool same_cache(const s7_session *session) {
        const int64_t n = s7_session_length(session), scales = n * from.shape.n_kv_heads,
                      codes = scales * from.shape.head_dim;
        std::vector<int8_t> c(static_cast<size_t>(codes));
        std::vector<int32_t> m(static_cast<size_t>(scales)), e(static_cast<size_t>(scales));
        bool same = true;
        for (int32_t i = 0; i < 2 * (from.shape.n_layers + from.shape.stack_layers); ++i) {
            const Case::Cached &want = from.cached[static_cast<size_t>(i)];
            same = same &&
                   s7_session_kv(session, i / 2, i % 2, c.data(), codes, m.data(), e.data(),
                                 scales) == S7_OK &&
                   std::memcmp(c.data(), want.codes, c.size()) == 0 &&
                   std::memcmp(m.data(), want.m, m.size() * 4) == 0 &&
                   std::memcmp(e.data(), want.e, e.size() * 4) == 0;
        }
        return hold(same, "keys and values");
    }

    // The prompt cut at `cut`; then a fork there and the first session truncated there, both made
    // whole again.
    bool cut_at(const s7_model *model, int32_t cut) {
        s7_session *session = nullptr, *fork = nullptr;
        bool good = hold(s7_session_create(model, &session) == S7_OK, "a session") &&
                    extend(session, cut) && (cut == from.n_ids || extend(session, from.n_ids)) &&
                    same_cache(session);
        good = good && hold(s7_session_fork(session, cut, &fork) == S7_OK, "a fork") &&
               hold(s7_session_truncate(session, cut / 2) == S7_OK, "a truncation");
        good = good && (cut == from.n_ids || extend(fork, from.n_ids)) &&
               extend(session, from.n_ids) && same_cache(fork) && same_cache(session);
        s7_session_free(session);
        s7_session_free(fork);
        return good;
    }

    bool steps(const s7_model *model) {
        s7_session *session = nullptr;
        bool good = hold(s7_session_create(model, &session) == S7_OK, "a session");
        for (int32_t i = 1; good && i <= from.n_ids; ++i) good = extend(session, i);
        good = good && same_cache(session);
        s7_session_free(session);
        return good;
    }

    // Up to 17 sequences, each with its own past and its own length, in one call.
    bool batch(const s7_model *model) {
        constexpr int32_t most = 17;
        const int32_t n = from.n_ids < most ? from.n_ids : most;
        std::vector<s7_session *> sessions(static_cast<size_t>(n));
        std::vector<s7_run> runs;
        bool good = true;
        for (int32_t i = 0; good && i < n; ++i) {
            s7_session *&mine = sessions[static_cast<size_t>(i)];
            const int32_t past = i / 2, end = i + 1 == n ? from.n_ids : i + 1;
            good = hold(s7_session_create(model, &mine) == S7_OK, "a session") &&
                   (past == 0 || extend(mine, past));
            runs.push_back({mine, from.ids + past, end - past, 1, nullptr});
        }
        for (int32_t i = 0; i < n && good; ++i)
            runs[static_cast<size_t>(i)].logits = room.data() + i * vocab;
        good = good && hold(s7_forward(team, runs.data(), n) == S7_OK, "a batch");
        for (int32_t i = 0; i < n && good; ++i) {
            const int64_t last = s7_session_length(runs[static_cast<size_t>(i)].session) - 1;
            good = hold(std::memcmp(room.data() + i * vocab, from.logits + last * vocab,
                                    static_cast<size_t>(vocab) * 4) == 0,
                        "logits of a batch") &&
                   same_cache(runs[static_cast<size_t>(i)].session);
        }
        for (s7_session *mine : sessions) s7_session_free(mine);
        return good;
    }

    bool all(const s7_model *model, int32_t n_threads) {
        bool good = batch(model);
        if (n_threads > 1)
            return good &&
                   cut_at(model,
                          1 + from.n_ids / n_threads);  // waiting for each other is slow under qemu
        good = good && steps(model);
        for (const int32_t cut :
             {1, 2, 7, 15, 16, 63, 64, 65, from.n_ids / 2, from.n_ids - 1, from.n_ids}) {
            good = good && (cut < 1 || cut > from.n_ids || cut_at(model, cut));
        }
        return good;
    }
};

// What is wrong; nullptr: nothing.
const char *check(const Case &from, s7_isa isa) {
    s7_model *model = nullptr;
    if (s7_model_create(&from.shape, &from.tables, &from.weights, isa, &model) != S7_OK)
        return "the model is refused";
    const char *failed = nullptr;
    for (int32_t n_threads = 1; n_threads <= 3 && failed == nullptr; ++n_threads) {
        s7_team *team = nullptr;
        const s7_status status = s7_team_create(model, n_threads, &team);
#if defined(__wasm__) && !defined(_REENTRANT)
        if (n_threads > 1 && status == S7_THREADS) continue;  // there are none to be had
#endif
        if (status != S7_OK) {
            failed = "a team";
        } else {
            Run run{from, team};
            failed = run.all(model, n_threads) ? nullptr : run.failed;
        }
        s7_team_free(team);
    }
    s7_model_free(model);
    return failed;
}

}  // namespace

int main() {
    for (int index = 0;; ++index) {
        const Case from(stdin);
        if (from.at_end) return index == 0;  // no case at all is a failure
        if (!from.good) {
            std::printf("case %d is cut or damaged\n", index);
            return 1;
        }
        for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
            if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
            const char *failed = check(from, static_cast<s7_isa>(isa));
            std::printf("case %d %s: %s\n", index, kNames[isa],
                        failed == nullptr ? "equal" : failed);
            if (failed != nullptr) return 1;
        }
    }
}
