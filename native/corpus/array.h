// A vector of plain values. New values are not initialised, so the caller writes them.
#pragma once
#include <stdint.h>

#include <cstdlib>
#include <new>
#include <type_traits>

namespace s7corpus {

template <typename T> class Array {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    Array() = default;
    ~Array() { std::free(first_); }
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;

    uint32_t size() const { return size_; }
    T &operator[](size_t i) { return first_[i]; }
    const T &operator[](size_t i) const { return first_[i]; }
    // Adds `n` adjacent values.
    T *add(uint32_t n = 1) {
        if (capacity_ - size_ < n) grow(n);
        size_ += n;
        return first_ + size_ - n;
    }
    void cut(uint32_t size) { size_ = size; }

  private:
    [[gnu::noinline]] void grow(uint32_t n) {
        const uint64_t wanted = uint64_t{capacity_} * 2 + n + 64, most = UINT32_MAX;
        if (uint64_t{size_} + n > most) throw std::bad_alloc();
        const uint64_t capacity = wanted < most ? wanted : most;
        void *moved = std::realloc(first_, capacity * sizeof(T));
        if (!moved) throw std::bad_alloc();
        first_ = static_cast<T *>(moved), capacity_ = static_cast<uint32_t>(capacity);
    }

    T *first_ = nullptr;
    uint32_t size_ = 0, capacity_ = 0;
};

}  // namespace s7corpus
