// The services that the engine uses: memory, threads and a clock. With -DS7_FREESTANDING_CORE it
// uses only memory, from two functions of the program (s7.h). Then it needs neither the C library
// nor the C++ runtime, except memcpy, memmove, memset and memcmp, which compilers call themselves.
#pragma once

#include <cstddef>

#include "s7.h"

#if defined(S7_FREESTANDING_CORE)

#if defined(__wasm_atomics__)

// Threads that wait in the program until they are needed (s7.h). Returns -1 if none is left.
int s7_thread_start(void *(*work)(void *), void *argument);
void s7_thread_join(int thread);
// Nanoseconds of the program's clock. Two calls may see the same time: clocks of pages are coarse.
int64_t s7_clock();

namespace s7 {

// Sleeps while a word has a value. It is a separate function, because the baseline compiler of V8
// (seen in Node.js 20) uses wrong values after this instruction in the same function.
[[gnu::noinline]] inline void wait_while(int *word, int value, long long nanoseconds = -1) {
    __builtin_wasm_memory_atomic_wait32(word, value, nanoseconds);
}

using ThreadHandle = int;
inline bool start_thread(ThreadHandle &handle, void *(*work)(void *), void *argument) {
    handle = s7_thread_start(work, argument);
    return handle >= 0;
}
inline void join_thread(ThreadHandle handle) { s7_thread_join(handle); }
// A short sleep, because there is no call that only yields the processor.
inline void give_way() {
    int never = 0;
    wait_while(&never, 0, 20000);
}

// A lock (0 free, 1 taken), and a count of wake-ups on which sleepers wait.
class Sleep {
  public:
    void lock() {
        while (__atomic_exchange_n(&taken_, 1, __ATOMIC_ACQUIRE) != 0) wait_while(&taken_, 1);
    }
    void unlock() {
        __atomic_store_n(&taken_, 0, __ATOMIC_RELEASE);
        __builtin_wasm_memory_atomic_notify(&taken_, 1);
    }
    void wait() {
        const int seen = __atomic_load_n(&wakings_, __ATOMIC_SEQ_CST);
        unlock();
        wait_while(&wakings_, seen);
        lock();
    }
    void wake_all() {
        __atomic_fetch_add(&wakings_, 1, __ATOMIC_SEQ_CST);
        __builtin_wasm_memory_atomic_notify(&wakings_, 1U << 30);
    }

  private:
    int taken_ = 0, wakings_ = 0;
};

#else

namespace s7 {

// There is only one thread and no other can be started, so there is nothing to wait for.
using ThreadHandle = int;
inline bool start_thread(ThreadHandle &, void *(*)(void *), void *) { return false; }
inline void join_thread(ThreadHandle) {}
inline void give_way() {}

class Sleep {
  public:
    void lock() {}
    void unlock() {}
    void wait() {}
    void wake_all() {}
};

#endif

#if defined(__wasm_atomics__)
inline int64_t now() { return s7_clock(); }
#else
// There is no clock, and nothing to choose by it.
inline int64_t now() { return 0; }
#endif
inline void *take_zeroed(size_t n_bytes) { return s7_take(n_bytes); }
inline void give(void *block) {
    if (block != nullptr) s7_give(block);
}

#if defined(S7_LENT_CODES)
// Codes that the program lends on request (s7.h).
inline const int8_t *lent(const int8_t *codes, size_t n) { return s7_lend(codes, n); }
#else
inline const int8_t *lent(const int8_t *codes, size_t) { return codes; }
#endif

}  // namespace s7

#else

#include <pthread.h>
#include <sched.h>
#include <cstdlib>
#include <ctime>

namespace s7 {

using ThreadHandle = pthread_t;
inline bool start_thread(ThreadHandle &handle, void *(*work)(void *), void *argument) {
    return pthread_create(&handle, nullptr, work, argument) == 0;
}
inline void join_thread(ThreadHandle handle) { pthread_join(handle, nullptr); }
inline void give_way() { sched_yield(); }
// Nanoseconds of a monotonic clock.
inline int64_t now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t{t.tv_sec} * 1000000000 + t.tv_nsec;
}

// A lock with a condition variable.
class Sleep {
  public:
    Sleep() = default;
    Sleep(const Sleep &) = delete;
    Sleep &operator=(const Sleep &) = delete;
    ~Sleep() {
        pthread_mutex_destroy(&mutex_);
        pthread_cond_destroy(&wake_);
    }
    void lock() { pthread_mutex_lock(&mutex_); }
    void unlock() { pthread_mutex_unlock(&mutex_); }
    void wait() { pthread_cond_wait(&wake_, &mutex_); }
    void wake_all() { pthread_cond_broadcast(&wake_); }

  private:
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
};

inline void *take_zeroed(size_t n_bytes) { return std::calloc(n_bytes, 1); }
inline void give(void *block) { std::free(block); }
inline const int8_t *lent(const int8_t *codes, size_t) { return codes; }

}  // namespace s7

#endif
