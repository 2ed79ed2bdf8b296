// Lets each allocation, and each thread, fail in turn while a model is made, prefilled, forked and
// stepped. A call that fails says so, keeps what was there, and can be made again; nothing leaks.
// Wants glibc, whose allocator it wraps.
#include <dlfcn.h>
#include <pthread.h>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "random_model.h"

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void __libc_free(void *);
}

namespace {

std::atomic<long> countdown{0};  // 0: nothing fails; n: the n-th allocation from now on does
std::atomic<long> n_live{0};
bool all_after = false;  // every later one fails, too

bool fails() {
    if (countdown.load() == 0) return false;
    const long left = countdown.fetch_sub(1) - 1;
    if (left > 0) return false;
    if (all_after) countdown.store(1);
    errno = ENOMEM;
    return true;
}

void *counted(void *block) {
    if (block != nullptr) ++n_live;
    return block;
}

}  // namespace

// The names of the C library, taken over for this program and the library it uses.
extern "C" void *malloc(size_t n) { return fails() ? nullptr : counted(__libc_malloc(n)); }
extern "C" void *calloc(size_t n, size_t size) {
    return fails() ? nullptr : counted(__libc_calloc(n, size));
}
extern "C" void free(void *block) {
    if (block != nullptr) --n_live;
    __libc_free(block);
}
extern "C" int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                              void *(*work)(void *), void *argument) {
    using Create = int(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static auto *const real = reinterpret_cast<Create *>(dlsym(RTLD_NEXT, "pthread_create"));
    if (fails()) return EAGAIN;
    const long left =
        countdown.exchange(0);  // what the C library allocates for itself is not what is tested
    const int error = real(thread, attributes, work, argument);
    countdown.store(left);
    return error;
}

namespace {

constexpr int kIds = 70, kTokens = 130;  // the last tokens need more room for scores than the first

struct Scenario {
    const RandomModel &from;
    const std::vector<int32_t> &ids;
    std::vector<int32_t> &logits;  // of the prompt, its end, the last step, and the fork
    int n_failures = 0;
    bool wrong = false;

    // The call, once more if it failed for want of memory; false when it fails again. `held` says
    // whether all is as it was.
    template <class Call, class Held> bool twice(Call call, Held held) {
        for (int i = 0; i < 2; ++i) {
            const s7_status status = call();
            if (status == S7_OK) return true;
            ++n_failures;
            wrong = wrong || (status != S7_NO_MEMORY && status != S7_THREADS) || !held();
        }
        return false;
    }

    bool forward(s7_team *team, s7_session *session, int begin, int end, int32_t *to) {
        const int32_t length = s7_session_length(session);
        const s7_run run{session, ids.data() + begin, end - begin, 1, to};
        return twice([&] { return s7_forward(team, &run, 1); },
                     [&] { return s7_session_length(session) == length; });
    }

    bool run(s7_isa isa, int32_t n_threads) {
        s7_model *model = nullptr;
        s7_team *team = nullptr;
        s7_session *session = nullptr, *fork = nullptr;
        const int64_t vocab = from.shape.vocab_size;
        int32_t tokens[kTokens], made = 0;
        s7_run last{nullptr, ids.data(), 1, 0, logits.data() + 2 * vocab};
        s7_run beside{nullptr, ids.data(), 1, 0, nullptr};
        const auto none = [](auto *&handle) { return [&handle] { return handle == nullptr; }; };
        const bool good =
            twice(
                [&] {
                    return s7_model_create(&from.shape, &from.tables, &from.weights, isa, &model);
                },
                none(model)) &&
            twice([&] { return s7_team_create(model, n_threads, &team); }, none(team)) &&
            twice([&] { return s7_session_create(model, &session); }, none(session)) &&
            forward(team, session, 0, 10, logits.data()) &&
            twice([&] { return s7_session_fork(session, 7, &fork); }, none(fork)) &&
            forward(team, session, 10, 12, logits.data() + vocab) &&
            ((last.session = session) != nullptr) && ((beside.session = fork) != nullptr) &&
            (n_threads > 1 ||  // passes of many threads are slow on a busy machine, and allocate
                               // nothing that others do not
             (twice([&] { return s7_greedy(team, &last, 1, -1, tokens, kTokens, &made); },
                    [&] { return s7_session_length(session) == 12 && made == 0; }) &&
              twice([&] { return s7_generate(team, &beside, nullptr, 0, tokens, 1, &made); },
                    [&] { return s7_session_length(fork) == 7 && made == kTokens; }) &&
              s7_session_truncate(fork, 7) == S7_OK &&
              forward(team, fork, 7, kIds, logits.data() + 3 * vocab)));
        s7_session_free(session);
        s7_session_free(fork);
        s7_team_free(team);
        s7_model_free(model);
        return good;
    }
};

// How many allocations there are to fail; -1 when one was not borne.
int each(const RandomModel &from, s7_isa isa, int32_t n_threads, const std::vector<int32_t> &ids,
         std::vector<int32_t> &expected) {
    std::vector<int32_t> logits(static_cast<size_t>(from.shape.vocab_size) * 4);
    const bool first = expected.empty();
    for (int n = 0;; ++n) {
        std::fill(logits.begin(), logits.end(), 0);
        Scenario scenario{from, ids, logits};
        const long before = n_live.load();
        countdown.store(n);
        const bool done = scenario.run(isa, n_threads);
        countdown.store(0);
        if (n == 0 && first) expected = logits;
        const size_t compared =
            static_cast<size_t>(from.shape.vocab_size) * (n_threads > 1 ? 2 : 4);
        const bool right =
            !scenario.wrong && done == (scenario.n_failures == 0 || !all_after) &&
            (!done || std::memcmp(logits.data(), expected.data(), compared * 4) == 0);
        const bool leak =
            n > 0 && n_live.load() > before;  // the first run warms up what the C library keeps
        if (!right || leak) {
            std::printf("allocation %d of instruction set %d, %d threads: %s\n", n, isa, n_threads,
                        leak ? "a leak" : "not borne");
            return -1;
        }
        if (n > 0 && scenario.n_failures == 0) return n - 1;  // there is no n-th
    }
}

}  // namespace

int main() {
    Random random;
    const RandomModel from({24, 2, 4, 2, 6, 10, 37, 150, 2, 16, 48022, 30, 1, 9}, random);
    const auto ids = RandomModel::numbers<int32_t>(random, kIds, 0, 36);
    std::vector<int32_t> expected;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        for (int mode = 0; mode < 4; ++mode) {
            all_after = mode % 2 != 0;
            const int n = each(from, static_cast<s7_isa>(isa), 1 + mode / 2, ids, expected);
            if (n < 0) return 1;
            std::printf("instruction set %d, %d threads, %s: %d allocations\n", isa, 1 + mode / 2,
                        all_after ? "all after" : "one", n);
        }
    }
    return 0;
}
