// Faults at system calls, for the tests of the writer: preloaded, it counts the calls that touch
// files and makes one go wrong.
//
//   arm(n, mode)   the n-th call from here on (from 1): mode 0 kills the process before it, mode 1
//   kills it after half of
//                  a write, mode 2 fails it with ENOSPC, mode 3 fails it and every later write
//   calls()        how many there were since
//
// Built by the test that uses it: c++ -shared -fPIC -o faults.so faults.cpp -ldl

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

int at = 0, how = 0, count = 0;

template <class F> F real(const char *name) { return reinterpret_cast<F>(dlsym(RTLD_NEXT, name)); }

// Whether this call is to fail; does not return where it is to kill.
bool fails(bool is_write = false) {
    if (!at) return false;
    ++count;
    if (how == 3 && is_write && count >= at) return errno = ENOSPC, true;
    if (count != at) return false;
    if (how >= 2) return errno = ENOSPC, true;
    if (how == 0 || !is_write) kill(getpid(), SIGKILL);
    return false;
}

}  // namespace

extern "C" {

void arm(int n, int mode) { at = n, how = mode, count = 0; }
int calls() { return count; }

ssize_t write(int fd, const void *data, size_t size) {
    static auto call = real<ssize_t (*)(int, const void *, size_t)>("write");
    if (fails(true)) return -1;
    if (at && how == 1 && count == at) {
        call(fd, data, size / 2);
        kill(getpid(), SIGKILL);
    }
    return call(fd, data, size);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & O_CREAT ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...) {                         \
        static auto call = real<int (*)(const char *, int, ...)>(#name); \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = mode_of(flags, rest);                              \
        va_end(rest);                                                    \
        return fails() ? -1 : call(path, flags, mode);                   \
    }
#define OPENAT(name)                                                          \
    int name(int at_fd, const char *path, int flags, ...) {                   \
        static auto call = real<int (*)(int, const char *, int, ...)>(#name); \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t mode = mode_of(flags, rest);                                   \
        va_end(rest);                                                         \
        return fails() ? -1 : call(at_fd, path, flags, mode);                 \
    }
#define ONE(name, T)                                \
    int name(T a) {                                 \
        static auto call = real<int (*)(T)>(#name); \
        return fails() ? -1 : call(a);              \
    }
#define TWO(name, T, U)                                \
    int name(T a, U b) noexcept {                      \
        static auto call = real<int (*)(T, U)>(#name); \
        return fails() ? -1 : call(a, b);              \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
ONE(fsync, int)
ONE(close, int)
TWO(chmod, const char *, mode_t)
TWO(fchmod, int, mode_t)
TWO(mkdir, const char *, mode_t)
TWO(rename, const char *, const char *)
TWO(link, const char *, const char *)

int unlink(const char *path) noexcept {
    static auto call = real<int (*)(const char *)>("unlink");
    return fails() ? -1 : call(path);
}

}  // extern "C"
