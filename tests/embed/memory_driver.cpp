// Lets each allocation fail in turn while a file is opened and verified, and a model opened and
// run: memory_driver MODEL. A call that fails says S7F_MEMORY, keeps what was there, and can be
// made again; nothing leaks. Wants glibc, whose allocator it wraps.
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "sevenfold.h"

extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);
}

namespace {

std::atomic<long> countdown{0};  // 0: nothing fails; n: the n-th allocation from now on does
std::atomic<long> n_live{0};

bool fails() {
    if (countdown.load() == 0 || countdown.fetch_sub(1) > 1) return false;
    errno = ENOMEM;
    return true;
}

void *counted(void *block) {
    if (block != nullptr) ++n_live;
    return block;
}

}  // namespace

// The names of the C library, taken over for this program and the libraries that it uses.
extern "C" void *malloc(size_t n) { return fails() ? nullptr : counted(__libc_malloc(n)); }
extern "C" void *calloc(size_t n, size_t size) {
    return fails() ? nullptr : counted(__libc_calloc(n, size));
}
extern "C" void *realloc(void *block, size_t n) {
    if (fails()) return nullptr;
    void *made = __libc_realloc(block, n);
    if (block == nullptr && made != nullptr) ++n_live;
    return made;
}
extern "C" void free(void *block) {
    if (block != nullptr) --n_live;
    __libc_free(block);
}

namespace {

int take(void *user, const char *text, size_t n_bytes) {
    const long left = countdown.exchange(0);  // the text is the test's
    static_cast<std::string *>(user)->append(text, n_bytes);
    countdown.store(left);
    return 0;
}

struct Scenario {
    const char *path;
    std::string text;
    int32_t ids[3] = {};
    int n_failures = 0;
    bool wrong = false;

    // The call, once more if it failed for want of memory.
    template <class Call> bool twice(Call call) {
        for (int i = 0; i < 2; ++i) {
            const s7f_status status = call();
            if (status == S7F_OK) return true;
            ++n_failures;
            wrong = wrong || status != S7F_MEMORY;
        }
        return false;
    }

    bool run() {
        s7f_file *file = nullptr;
        s7f_model *model = nullptr;
        s7f_session one = 0, two = 0;
        s7f_rule rules[S7F_N_RULES];
        s7f_error error{};
        size_t n = 0;
        int32_t more[64];
        bool good = twice([&] { return s7f_file_open_path(path, &file, &error); }) &&
                    twice([&] { return s7f_file_verify(file, 1, rules, &error); }) &&
                    twice([&] { return s7f_model_open(file, nullptr, &model, &error); }) &&
                    twice([&] { return s7f_encode(model, "def f(x):", 9, more, 64, &n); }) &&
                    twice([&] { return s7f_session_open(model, &one, &error); }) && twice([&] {
                        return s7f_session_prompt(model, one, "def f(", 6, nullptr, 8, &error);
                    }) &&
                    twice([&] { return s7f_session_append(model, one, more, n, &error); }) &&
                    twice([&] { return s7f_session_step(model, one, ids, &error); }) &&
                    twice([&] { return s7f_session_fork(model, one, -1, &two, &error); });
        const s7f_session both[] = {one, two};
        good = good && twice([&] { return s7f_step_batch(model, both, 2, ids + 1, &error); }) &&
               twice([&] {
                   text.clear();
                   return s7f_session_generate(model, two, 4, take, &text, nullptr, &error);
               }) &&
               twice([&] { return s7f_self_test(model, &error); });
        s7f_model_close(&model);
        s7f_file_close(&file);
        return good;
    }
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    Scenario warm{argv[1], {}}, expected{argv[1], {}};
    if (!warm.run() || !expected.run()) return 2;
    for (long n = 1;; ++n) {
        const long before = n_live.load();
        bool right = false, there = false;
        {
            Scenario scenario{argv[1], {}};
            scenario.text.reserve(1000);
            countdown.store(n);
            right = scenario.run();
            countdown.store(0);
            there = scenario.n_failures > 0;
            // A text that was stopped in its middle is another: the steps that were done stay done.
            right = right && !scenario.wrong && scenario.ids[0] == expected.ids[0] &&
                    scenario.ids[1] == expected.ids[1] && scenario.ids[2] == expected.ids[2];
        }
        if (!right || n_live.load() > before) {
            std::printf("allocation %ld: %s\n", n, right ? "a leak" : "not borne");
            return 1;
        }
        if (!there) return std::printf("%ld allocations\n", n - 1), 0;  // there is no n-th
    }
}
