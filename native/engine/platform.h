// What the engine takes from its surroundings: memory, threads and a clock. With
// -DS7_FREESTANDING_CORE it takes memory alone, from two functions of the program (s7.h), and needs
// neither the C library nor the runtime of C++ but memcpy, memmove, memset and memcmp, which
// compilers call by themselves.
#pragma once

#include <cstddef>

#include "s7.h"

#if defined(S7_FREESTANDING_CORE)

namespace s7 {

// One thread is all that there is: no other can be started, so there is nobody to wait for.
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

inline void *take_zeroed(size_t n_bytes) { return s7_take(n_bytes); }
inline void give(void *block) {
    if (block != nullptr) s7_give(block);
}
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

// A lock, and what is waited for under it.
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

}  // namespace s7

#endif
