/* Work dealt to threads, one task after the other. Which thread takes which task must decide no
 * bit. */
#ifndef S7_TRAIN_THREADS_H
#define S7_TRAIN_THREADS_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <vector>

namespace s7train {

/* `work(data)` on up to `n_threads` threads at once, the caller's among them; returns when all are
 * done. */
void on_threads(std::size_t n_threads, void (*work)(void *), void *data);

/* `work(task, thread)` for every task below n_tasks; `thread` is below n_threads, and no two run at
 * once under one number. */
template <class Work> void each(std::size_t n_tasks, std::size_t n_threads, const Work &work) {
    struct Shared {
        const Work &work;
        std::size_t n_tasks;
        std::atomic<std::size_t> next{0}, n_begun{0};
    } shared{work, n_tasks};
    const auto run = [](void *data) {
        Shared &s = *static_cast<Shared *>(data);
        const std::size_t thread = s.n_begun.fetch_add(1);
        for (std::size_t task; (task = s.next.fetch_add(1)) < s.n_tasks;) s.work(task, thread);
    };
    on_threads(std::min(n_threads, n_tasks), run, &shared);
}

/* The same with `n_bytes` of memory of its own for each thread, aligned to 64 bytes: `work(task,
 * memory)`. False: there is none. */
template <class Work>
bool each_with_scratch(std::size_t n_tasks, std::size_t n_threads, std::size_t n_bytes,
                       const Work &work) {
    const auto release = [](char *memory) { std::free(memory); };
    std::vector<std::unique_ptr<char, decltype(release)>> scratch;
    for (std::size_t i = 0; i < std::min(n_threads, n_tasks); ++i) {
        scratch.emplace_back(static_cast<char *>(std::aligned_alloc(64, (n_bytes + 63) / 64 * 64)),
                             release);
        if (!scratch.back()) return false;
    }
    each(n_tasks, n_threads,
         [&](std::size_t task, std::size_t thread) { work(task, scratch[thread].get()); });
    return true;
}

}  // namespace s7train
#endif
