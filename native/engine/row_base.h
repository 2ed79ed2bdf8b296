// NORMALIZE and QUANT of a row, for the instruction sets' files and for what is written once.
//
// The including file defines S7_ACT_XOR first.
#pragma once

#include "kernels.h"

namespace {

constexpr u8 kActXor = S7_ACT_XOR;
constexpr i64 kLongContext = 1 << 17;

// |v| of an i32, -2^31 included.
inline u32 magnitude(i32 v) { return v < 0 ? 0U - static_cast<u32>(v) : static_cast<u32>(v); }

// Largest magnitude of a row, 1 at least.
inline u32 peak_of(const i32 *v, i64 n) {
    u32 peak = 1;
    for (i64 i = 0; i < n; ++i) peak = most(peak, magnitude(v[i]));
    return peak;
}

// NORMALIZE to `n_bits` bits, in place or not; gives the shift. Results fit i32: 2^30 at most.
inline i32 normalize_row(const i32 *v, i64 n, i32 n_bits, i32 *u) {
    const i32 shift = bits(peak_of(v, n)) - n_bits;
    if (shift <= 0) {
        for (i64 i = 0; i < n; ++i) u[i] = static_cast<i32>(static_cast<u32>(v[i]) << -shift);
    } else {
        for (i64 i = 0; i < n; ++i) u[i] = rshift_narrow(v[i], shift);
    }
    return shift;
}

// QUANT from the largest magnitude of a row: what each value is shifted by and multiplied with.
struct Quantizer {
    i32 zeros;
    u32 m, reciprocal;

    explicit Quantizer(u32 peak, u32 largest_code = 127)
        : zeros(32 - bits(peak)), m((peak << zeros) >> 16), reciprocal((largest_code << 24) / m) {}
    u8 act(i32 v) const {
        const i32 wide = static_cast<i32>(static_cast<u32>(v) << (zeros - 1));
        return static_cast<u8>(static_cast<u8>(mulsh_narrow(wide, reciprocal, 39)) ^ kActXor);
    }
    s7::Pair scale() const { return {static_cast<i32>(m), zeros - 16}; }
};

}  // namespace
