// Allocation that reports failure, slices, and refusals, for every file of this folder. Nothing
// here throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "sevenfold.h"

namespace s7f {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

constexpr size_t kDigest = 32, kHex = 64;

// Bytes that somebody else owns.
struct Slice {
    const char *data = nullptr;
    size_t n = 0;

    constexpr Slice() = default;
    constexpr Slice(const char *from, size_t length) : data(from), n(length) {}
    template <size_t N> constexpr Slice(const char (&literal)[N]) : data(literal), n(N - 1) {}
    const u8 *bytes() const { return reinterpret_cast<const u8 *>(data); }
    bool operator==(const Slice &other) const {
        return n == other.n && (n == 0 || std::memcmp(data, other.data, n) == 0);
    }
    bool starts_with(const Slice &with) const {
        return n >= with.n && std::memcmp(data, with.data, with.n) == 0;
    }
    Slice from(size_t at) const { return {data + at, n - at}; }
    Slice first(size_t length) const { return {data, length}; }
};

inline Slice slice_of(const char *text) { return {text, std::strlen(text)}; }

// By bytes, which for UTF-8 is by code point: below 0, 0, above 0.
inline int compare(const Slice &a, const Slice &b) {
    const size_t n = a.n < b.n ? a.n : b.n;
    const int order = n == 0 ? 0 : std::memcmp(a.data, b.data, n);
    return order != 0 ? order : a.n < b.n ? -1 : a.n > b.n;
}

// A growing array of plain values. Every call that can fail returns whether it succeeded.
template <class T> class Vec {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    Vec() = default;
    Vec(const Vec &) = delete;
    Vec &operator=(const Vec &) = delete;
    ~Vec() { std::free(data_); }

    [[nodiscard]] bool reserve(size_t n) {
        if (n <= room_) return true;
        size_t wanted = room_ < 8 ? 8 : room_ + room_ / 2;
        if (wanted < n) wanted = n;
        if (wanted > SIZE_MAX / 2 / sizeof(T)) return false;
        void *grown = std::realloc(static_cast<void *>(data_), wanted * sizeof(T));
        if (grown == nullptr) return false;
        data_ = static_cast<T *>(grown);
        room_ = wanted;
        return true;
    }
    [[nodiscard]] bool push(const T &value) {
        const T kept = value;  // it may lie inside
        if (n_ == room_ && !reserve(n_ + 1)) return false;
        data_[n_++] = kept;
        return true;
    }
    [[nodiscard]] bool append(const T *from, size_t n) {
        if (n > SIZE_MAX / 4 / sizeof(T) || !reserve(n_ + n)) return false;
        if (n > 0) std::memcpy(static_cast<void *>(data_ + n_), from, n * sizeof(T));
        n_ += n;
        return true;
    }
    // `n` values; new ones are zero.
    [[nodiscard]] bool resize(size_t n) {
        if (!reserve(n)) return false;
        if (n > n_) std::memset(static_cast<void *>(data_ + n_), 0, (n - n_) * sizeof(T));
        n_ = n;
        return true;
    }
    void shrink(size_t n) { n_ = n; }
    void swap(Vec &other) {
        std::swap(data_, other.data_);
        std::swap(n_, other.n_);
        std::swap(room_, other.room_);
    }
    T *data() { return data_; }
    const T *data() const { return data_; }
    size_t size() const { return n_; }
    bool empty() const { return n_ == 0; }
    T &operator[](size_t i) { return data_[i]; }
    const T &operator[](size_t i) const { return data_[i]; }
    T &back() { return data_[n_ - 1]; }
    const T &back() const { return data_[n_ - 1]; }
    T *begin() { return data_; }
    T *end() { return data_ + n_; }
    const T *begin() const { return data_; }
    const T *end() const { return data_ + n_; }

  private:
    T *data_ = nullptr;
    size_t n_ = 0, room_ = 0;
};

// One object on the heap, or none.
template <class T> class Own {
  public:
    Own() = default;
    explicit Own(T *held) : held_(held) {}
    Own(const Own &) = delete;
    Own &operator=(const Own &) = delete;
    ~Own() { delete held_; }
    [[nodiscard]] bool make() {
        delete held_;
        held_ = new (std::nothrow) T;
        return held_ != nullptr;
    }
    T *get() const { return held_; }
    T *operator->() const { return held_; }
    T &operator*() const { return *held_; }
    T *release() { return std::exchange(held_, nullptr); }

  private:
    T *held_ = nullptr;
};

// Fill in an error, if there is one, and give the status back. Formats are printf's; what is not
// printable ASCII becomes `?`.
[[gnu::format(printf, 4, 5)]] s7f_status refuse(s7f_error *error, s7f_status status,
                                                const char *where, const char *what, ...);
s7f_status with_remedy(s7f_error *error, s7f_status status, const char *remedy);
s7f_status no_memory(s7f_error *error);
void printable(char *text);

// At most 120 characters of a slice, for "%.*s".
inline int shown(const Slice &text) { return text.n < 120 ? static_cast<int>(text.n) : 120; }

}  // namespace s7f
