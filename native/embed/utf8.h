// Characters of UTF-8: shortest form, no surrogate, nothing above U+10FFFF.
#pragma once

#include "common.h"

namespace s7f {

// How many bytes a character that begins with `first` has, and which second byte it takes; 0 for a
// byte that begins none.
struct Utf8Start {
    u8 n_bytes, low, high;
};
constexpr Utf8Start utf8_start(u8 first) {
    if (first < 0x80) return {1, 0, 0};
    if (first < 0xC2 || first > 0xF4) return {0, 0, 0};
    if (first < 0xE0) return {2, 0x80, 0xBF};
    if (first < 0xF0)
        return {3, static_cast<u8>(first == 0xE0 ? 0xA0 : 0x80),
                static_cast<u8>(first == 0xED ? 0x9F : 0xBF)};
    return {4, static_cast<u8>(first == 0xF0 ? 0x90 : 0x80),
            static_cast<u8>(first == 0xF4 ? 0x8F : 0xBF)};
}

// The length of the whole character at `at`, 0 where there is none.
inline size_t utf8_length(const u8 *at, size_t n) {
    if (n == 0) return 0;
    const Utf8Start start = utf8_start(*at);
    if (start.n_bytes == 0 || start.n_bytes > n) return 0;
    for (size_t i = 1; i < start.n_bytes; ++i) {
        const u8 low = i == 1 ? start.low : 0x80, high = i == 1 ? start.high : 0xBF;
        if (at[i] < low || at[i] > high) return 0;
    }
    return start.n_bytes;
}

inline u32 utf8_code_point(const u8 *at, size_t n_bytes) {
    u32 found = n_bytes == 1 ? *at : *at & (0xFFU >> (n_bytes + 1));
    for (size_t i = 1; i < n_bytes; ++i) found = found << 6 | (at[i] & 0x3F);
    return found;
}

inline size_t utf8_put(u32 code_point, char *to) {
    if (code_point < 0x80) return *to = static_cast<char>(code_point), 1;
    const int n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; --i, code_point >>= 6)
        to[i] = static_cast<char>(0x80 | (code_point & 0x3F));
    to[0] = static_cast<char>((0xF00 >> n & 0xFF) | code_point);
    return static_cast<size_t>(n);
}

// A control character (category Cc) that is not TAB, LF or CR.
constexpr bool is_control(u32 code_point) {
    return (code_point < 0x20 && code_point != '\t' && code_point != '\n' && code_point != '\r') ||
           (code_point >= 0x7F && code_point < 0xA0);
}

}  // namespace s7f
