// Fixed point of specs/arithmetic.md, section 2: the mirror of src/sevenfold/core/numbers/fixed.py.
// Integers only.
//
// Everything is in an unnamed namespace. Each instruction set compiles its own copy, so the linker
// cannot use the copy of a wider instruction set in code for a narrower machine. For the same
// reason this file uses nothing of the C++ library.
#pragma once

#include <cstdint>

#include "s7.h"

namespace {

using i8 = int8_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;

constexpr i64 kMax32 = 2147483647;
constexpr i64 kMin32 = -kMax32 - 1;
constexpr i64 kMaxShift = 62;

template <class T> constexpr T least(T a, T b) { return a < b ? a : b; }

template <class T> constexpr T most(T a, T b) { return a < b ? b : a; }

// A scale m * 2^-e, 2^15 <= m < 2^16.
struct Scale {
    i32 m, e;
};

// The number of binary digits.
inline i32 bits(u64 v) { return v == 0 ? 0 : 64 - __builtin_clzll(v); }

inline i64 sat32(i64 v) { return least(most(v, kMin32), kMax32); }

// RSHIFT with 0 <= s <= 62. Callers clamp s where the value is known to vanish past 62.
// NOLINTNEXTLINE(clang-analyzer-core.BitwiseShift)
inline i64 rshift(i64 v, i64 s) { return (v + ((i64{1} << s) >> 1)) >> s; }

// MULSH in 32-bit lanes (R2), for loops that a compiler vectorises. s >= 17, so nothing saturates.
// From s = 48 the result is 0 without a special case.
inline i32 mulsh_narrow(i32 a, u32 m, u32 s) {
    const i32 t = (a >> 16) * static_cast<i32>(m) +
                  static_cast<i32>(((static_cast<u32>(a) & 0xFFFF) * m) >> 16);
    return ((t >> least(s - 17, u32{31})) + 1) >> 1;
}

// The same for s = 16.
inline i32 mulsh_16(i32 a, u32 m) {
    return (a >> 16) * static_cast<i32>(m) +
           static_cast<i32>(((static_cast<u32>(a) & 0xFFFF) * m + 0x8000) >> 16);
}

// RSHIFT in 32-bit lanes, 1 <= s <= 32.
inline i32 rshift_narrow(i32 v, i32 s) {
    const i32 b = v >> (s - 1);
    return (b >> 1) + (b & 1);
}

// ADD: a sum outside i32 becomes the limit of i32 with the sign of a.
inline i32 add_saturated(i32 a, i32 b) {
    const i32 sum = static_cast<i32>(static_cast<u32>(a) + static_cast<u32>(b));
    const i32 end = (a >> 31) ^ static_cast<i32>(kMax32);
    return ((a ^ sum) & (b ^ sum)) < 0 ? end : sum;
}

// The shift of MULSH as a left and a right part. Above 48 the result is 0, so larger shifts are
// replaced by 62.
inline i64 left_part(i64 s) { return least(most(-s, i64{0}), i64{16}); }
inline i64 right_part(i64 s) { return least(most(s, i64{0}), kMaxShift); }

inline i32 mulsh(i64 a, i64 m, i64 s) {
    return static_cast<i32>(sat32(rshift((a * m) << left_part(s), right_part(s))));
}

// PRODUCT of two scales.
inline Scale multiply(Scale a, Scale b) {
    const i64 p = i64{a.m} * b.m;
    const i32 k = bits(static_cast<u64>(p)) - 16;
    const i64 m = rshift(p, k);
    const i32 carry = static_cast<i32>(m >> 16);
    return {static_cast<i32>(m >> carry), a.e + b.e - k - carry};
}

// RSQRT for 1 <= v < 2^62.
inline Scale rsqrt(i64 v, const i32 *table) {
    const i32 excess = bits(static_cast<u64>(v)) - 31;
    const i32 h = (excess - (excess & 1)) / 2;
    const i64 big = h <= 0 ? v << (-2 * h) : v >> (2 * h);
    i64 r = table[(big >> 24) - 64];
    const i64 q = (r * r) >> 16;
    const i64 w = (i64{3} << 30) - q * (big >> 16);
    r = least(rshift(r * (w >> 16), 15), i64{65535});
    return {static_cast<i32>(r), 31 + h};
}

// The steps of a table: a word holds an entry in its lower half and the signed distance to the next
// entry in its upper half (downward for EXP2). Look-up and interpolation are separate functions, so
// that a compiler can vectorise the second.

// EXP2 for any u32.
inline u32 exp2_index(u32 d) { return (d >> 10) & 63; }
inline u32 exp2_negative(u32 d, u32 step) {
    const i32 part = (static_cast<i32>(step) >> 16) * static_cast<i32>(d & 1023);
    const u32 y = static_cast<u32>(static_cast<i32>(step & 0xFFFF) - ((part + 512) >> 10));
    // (2y >> s) + 1 >> 1 is RSHIFT(y, s), also for s = 0.
    return (((y << 1) >> least(d >> 16, u32{31})) + 1) >> 1;
}

// SIGMOID for |g| < 2^15.
inline u32 sigmoid_index(i32 g) { return static_cast<u32>(g < 0 ? -g : g) >> 6; }
inline i32 sigmoid(i32 g, u32 step) {
    const i32 part = (static_cast<i32>(step) >> 16) * ((g < 0 ? -g : g) & 63);
    const i32 y = static_cast<i32>(step & 0xFFFF) + ((part + 32) >> 6);
    return g < 0 ? 32768 - y : y;
}

// The left shift that brings an accumulator of n products of codes to 30 bits.
inline i32 headroom(i64 n) { return most(30 - bits(static_cast<u64>(127 * 127 * n)), 0); }

}  // namespace
