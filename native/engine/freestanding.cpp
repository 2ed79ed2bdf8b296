// Memory of a freestanding core: `new` allocates from the program. Every other build leaves this
// file empty.
#include "platform.h"

#if defined(S7_FREESTANDING_CORE)

#include <new>

namespace {

// Memory aligned to `align` bytes. The address of its block is stored before it.
void *take_aligned(size_t n_bytes, size_t align) {
    if (align < sizeof(void *)) align = sizeof(void *);
    if (n_bytes > ~size_t{0} - align - sizeof(void *)) return nullptr;
    void *block = s7_take(n_bytes + align + sizeof(void *));
    if (block == nullptr) return nullptr;
    const size_t first = reinterpret_cast<size_t>(block) + sizeof(void *);
    void **const here = reinterpret_cast<void **>((first + align - 1) / align * align);
    here[-1] = block;
    return here;
}

void give_aligned(void *block) {
    if (block != nullptr) s7_give(static_cast<void **>(block)[-1]);
}

constexpr size_t kAlign = alignof(std::max_align_t);

}  // namespace

const std::nothrow_t std::nothrow{};

void *operator new(size_t n, const std::nothrow_t &) noexcept { return take_aligned(n, kAlign); }
void *operator new[](size_t n, const std::nothrow_t &) noexcept { return take_aligned(n, kAlign); }
void *operator new(size_t n, std::align_val_t align, const std::nothrow_t &) noexcept {
    return take_aligned(n, static_cast<size_t>(align));
}
void *operator new[](size_t n, std::align_val_t align, const std::nothrow_t &) noexcept {
    return take_aligned(n, static_cast<size_t>(align));
}
void operator delete(void *block) noexcept { give_aligned(block); }
void operator delete[](void *block) noexcept { give_aligned(block); }
void operator delete(void *block, size_t) noexcept { give_aligned(block); }
void operator delete[](void *block, size_t) noexcept { give_aligned(block); }
void operator delete(void *block, std::align_val_t) noexcept { give_aligned(block); }
void operator delete[](void *block, std::align_val_t) noexcept { give_aligned(block); }
void operator delete(void *block, size_t, std::align_val_t) noexcept { give_aligned(block); }
void operator delete[](void *block, size_t, std::align_val_t) noexcept { give_aligned(block); }

#endif
