// Use the threads of an OpenMP library that is already loaded (PyTorch has one), else start new
// ones.
//
// PyTorch's threads wait for their next work by spinning. Threads of our own would share the cores
// with them.

#include "threads.h"

#include <system_error>
#include <thread>
#include <vector>

// The function of the OpenMP libraries of GCC and LLVM that `#pragma omp parallel` calls; null if
// neither is loaded.
extern "C" void GOMP_parallel(void (*work)(void *), void *data, unsigned n_threads, unsigned flags)
    __attribute__((weak));

namespace s7train {

void on_threads(std::size_t n_threads, void (*work)(void *), void *data) {
    if (n_threads < 2) return work(data);
    if (GOMP_parallel) return GOMP_parallel(work, data, static_cast<unsigned>(n_threads), 0);
    std::vector<std::thread> others;
    for (std::size_t i = 1; i < n_threads; ++i) {
        try {
            others.emplace_back(work, data);
        } catch (const std::system_error &) {
            break;  // no more threads can be started, so the existing ones do the work
        }
    }
    work(data);
    for (auto &thread : others) thread.join();
}

}  // namespace s7train
