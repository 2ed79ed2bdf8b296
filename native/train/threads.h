/* Distributes tasks over threads, one task after the other. It must decide no bit which thread runs
 * which task. */
#ifndef S7_TRAIN_THREADS_H
#define S7_TRAIN_THREADS_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <vector>

namespace s7train {

/* Calls `work(data)` on up to `n_threads` threads at once, including that of the caller. Returns
 * when all have finished. */
void on_threads(std::size_t n_threads, void (*work)(void *), void *data);

/* Calls `work(task, thread)` for every task below n_tasks. `thread` is below n_threads, and no two
 * calls with the same number run at once. */
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

/* Calls `work(task, memory)` in the same way, with `n_bytes` of memory for each thread, aligned to
 * 64 bytes. Returns false without memory. */
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
