// The program around a freestanding engine in a WebAssembly module: its memory, the four functions
// of the C library that compilers call, threads that wait in workers of the host, and SHA-256.
//
// The host (web/src/engine/wasm) writes the structures of s7.h into this memory and calls s7.h.
#include <cstddef>
#include <cstdint>

#include "platform.h"
#include "s7.h"
#include "sha256.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Where the host writes the fields of s7.h (web/src/engine/wasm/structures.ts).
static_assert(sizeof(s7_shape) == 56 && sizeof(s7_linear) == 24 && sizeof(s7_norm) == 24);
static_assert(offsetof(s7_norm, eps) == 8 && sizeof(s7_ffn) == 72 && sizeof(s7_layer) == 152);
static_assert(offsetof(s7_layer, q) == 48 && offsetof(s7_layer, experts) == 144);
static_assert(sizeof(s7_weights) == 104 && offsetof(s7_weights, n_cos_sin) == 32);
static_assert(offsetof(s7_weights, router) == 40 && offsetof(s7_weights, final_norm) == 56);
static_assert(offsetof(s7_weights, head) == 80 && sizeof(s7_run) == 20);
static_assert(sizeof(s7_tables) == 4 * (S7_EXP2_ENTRIES + S7_SIGMOID_ENTRIES + S7_RSQRT_ENTRIES));

extern "C" {

void *memcpy(void *to, const void *from, size_t n) { return __builtin_memcpy(to, from, n); }
void *memmove(void *to, const void *from, size_t n) { return __builtin_memmove(to, from, n); }
void *memset(void *to, int value, size_t n) { return __builtin_memset(to, value, n); }
int memcmp(const void *a, const void *b, size_t n) {
    const auto *x = static_cast<const uint8_t *>(a), *y = static_cast<const uint8_t *>(b);
    for (size_t i = 0; i < n; ++i)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

extern unsigned char __heap_base;

// The host copies the codes that `name` stands for into this memory.
[[clang::import_module("host"), clang::import_name("lend")]] const int8_t *host_lend(
    const int8_t *name, size_t n);
const int8_t *s7_lend(const int8_t *codes, size_t n) { return host_lend(codes, n); }
}

namespace {

constexpr size_t kAlign = 64, kPageBytes = 65536;

// A block of memory; its bytes follow on a boundary of 64. Free ones are a list by address.
struct Block {
    size_t n_bytes;  // with this head
    Block *next;
    bool is_clean;  // memory that nobody has written is zero
};

Block *free_blocks = nullptr;
size_t end_of_heap = 0;

constexpr size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
size_t address(const Block *block) { return reinterpret_cast<size_t>(block); }

// Put a block back, and join it with the neighbours that are free.
void insert(Block *block) {
    Block **place = &free_blocks, *before = nullptr;
    while (*place != nullptr && *place < block) before = *place, place = &(*place)->next;
    block->next = *place;
    *place = block;
    if (block->next != nullptr && address(block) + block->n_bytes == address(block->next)) {
        block->is_clean = false;
        block->n_bytes += block->next->n_bytes;
        block->next = block->next->next;
    }
    if (before != nullptr && address(before) + before->n_bytes == address(block)) {
        before->is_clean = false;
        before->n_bytes += block->n_bytes;
        before->next = block->next;
    }
}

// Memory behind the heap, new from the host; false when the host has none.
bool grow(size_t n_bytes) {
    if (end_of_heap == 0) end_of_heap = round_up(reinterpret_cast<size_t>(&__heap_base), kAlign);
    const size_t have = __builtin_wasm_memory_size(0) * kPageBytes;
    if (n_bytes > SIZE_MAX - end_of_heap - kPageBytes) return false;
    if (end_of_heap + n_bytes > have) {
        const size_t pages = round_up(end_of_heap + n_bytes - have, kPageBytes) / kPageBytes;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return false;
    }
    auto *made = reinterpret_cast<Block *>(end_of_heap);
    *made = {n_bytes, nullptr, true};
    end_of_heap += n_bytes;
    insert(made);
    return true;
}

Block *find(size_t n_bytes) {
    for (Block **place = &free_blocks; *place != nullptr; place = &(*place)->next) {
        Block *found = *place;
        if (found->n_bytes < n_bytes) continue;
        if (found->n_bytes - n_bytes >= 4 * kAlign) {
            auto *rest = reinterpret_cast<Block *>(address(found) + n_bytes);
            *rest = {found->n_bytes - n_bytes, found->next, found->is_clean};
            *place = rest;
            found->n_bytes = n_bytes;
        } else {
            *place = found->next;
        }
        return found;
    }
    return nullptr;
}

}  // namespace

EXPORT void *s7_take(size_t n_bytes) {
    if (n_bytes > SIZE_MAX / 2) return nullptr;
    const size_t wanted = round_up(n_bytes, kAlign) + kAlign;
    Block *found = find(wanted);
    if (found == nullptr && grow(wanted)) found = find(wanted);
    if (found == nullptr) return nullptr;
    void *data = reinterpret_cast<void *>(address(found) + kAlign);
    if (!found->is_clean) __builtin_memset(data, 0, found->n_bytes - kAlign);
    found->is_clean = false;
    return data;
}

EXPORT void s7_give(void *data) {
    if (data != nullptr) insert(reinterpret_cast<Block *>(reinterpret_cast<size_t>(data) - kAlign));
}

#if defined(__wasm_atomics__)

extern "C" [[clang::import_module("host"), clang::import_name("now")]] int64_t host_now();
int64_t s7_clock() { return host_now(); }

namespace {

constexpr uint32_t kWaiting = 1, kWanted = 2, kSentAway = 3;  // 0: no worker is there

struct Seat {
    uint32_t state;
    void *(*work)(void *);
    void *argument;
};
Seat seats[S7_MAX_THREADS];

uint32_t load(uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

}  // namespace

// A worker of the host gives this thread to seat `index` until it is sent away. Its instance has a
// stack of its own, which the host has set.
EXPORT void s7w_wait_for_work(int32_t index) {
    Seat &seat = seats[index];
    for (;;) {
        __atomic_store_n(&seat.state, kWaiting, __ATOMIC_SEQ_CST);
        __builtin_wasm_memory_atomic_notify(reinterpret_cast<int *>(&seat.state), 1u << 30);
        while (load(&seat.state) == kWaiting)
            s7::wait_while(reinterpret_cast<int *>(&seat.state), kWaiting);
        if (load(&seat.state) == kSentAway) return;
        seat.work(seat.argument);
    }
}

// Workers that wait return to their host: Deno ends none that sleeps in this module.
EXPORT void s7w_send_away() {
    for (Seat &seat : seats) {
        uint32_t waiting = kWaiting;
        if (__atomic_compare_exchange_n(&seat.state, &waiting, kSentAway, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            __builtin_wasm_memory_atomic_notify(reinterpret_cast<int *>(&seat.state), 1U << 30);
    }
}

// How many workers wait.
EXPORT int32_t s7w_n_waiting() {
    int32_t n = 0;
    for (Seat &seat : seats) n += load(&seat.state) == kWaiting;
    return n;
}

int32_t s7_thread_start(void *(*work)(void *), void *argument) {
    for (int32_t i = 0; i < S7_MAX_THREADS; ++i) {
        Seat &seat = seats[i];
        if (load(&seat.state) != kWaiting) continue;
        seat.work = work;
        seat.argument = argument;
        __atomic_store_n(&seat.state, kWanted, __ATOMIC_SEQ_CST);
        __builtin_wasm_memory_atomic_notify(reinterpret_cast<int *>(&seat.state), 1);
        return i;
    }
    return -1;
}

void s7_thread_join(int32_t index) {
    Seat &seat = seats[index];
    while (load(&seat.state) == kWanted)
        s7::wait_while(reinterpret_cast<int *>(&seat.state), kWanted);
}

#endif

// SHA-256 in pieces: memory of the host for the state, then the digest of 32 bytes.
EXPORT int32_t s7w_sha256_bytes() { return sizeof(s7f::Sha256); }
EXPORT void s7w_sha256_begin(s7f::Sha256 *state) { *state = s7f::Sha256(); }
EXPORT void s7w_sha256_add(s7f::Sha256 *state, const uint8_t *data, int32_t n_bytes) {
    state->add(data, static_cast<size_t>(n_bytes));
}
EXPORT void s7w_sha256_end(s7f::Sha256 *state, uint8_t *digest) {
    const s7f::Digest found = state->digest();
    __builtin_memcpy(digest, found.bytes, sizeof found.bytes);
}
