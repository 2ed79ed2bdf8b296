/* Lanes of floats for the operators of specs/training-arithmetic.md: one source, compiled once for
 * each instruction set.
 *
 * S7_SET names the set, and S7_WIDTH is the number of floats in its registers. A fused multiply-add
 * is explicit wherever the page has one, and nowhere else, because these files are compiled without
 * contraction. A `Wide` is sixteen floats for every register width, so that a sum over a row is the
 * same sixteen chains everywhere. */
#ifndef S7_TRAIN_LANES_H
#define S7_TRAIN_LANES_H

#include "anywhere.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if S7_WIDTH == 16 || S7_WIDTH == 8
#include <immintrin.h>
#elif S7_WIDTH == 4
#include <arm_neon.h>
#endif

namespace s7train {
namespace { /* a copy for each instruction set: one that the linker merged could hold instructions
               that are not there */

constexpr std::size_t kWide = 16, kParts = kWide / S7_WIDTH;

#if S7_WIDTH == 1
typedef float Register;
typedef std::int32_t RegisterInt;
S7_ANYWHERE inline Register fused(Register a, Register b, Register c) { return std::fma(a, b, c); }
S7_ANYWHERE inline Register root(Register a) { return std::sqrt(a); }
inline Register get(const float *p) { return *p; }
inline void put(float *p, Register v) { *p = v; }
S7_ANYWHERE inline Register spread(float v) { return v; }
#else
typedef float Register __attribute__((vector_size(S7_WIDTH * 4)));
typedef std::int32_t RegisterInt __attribute__((vector_size(S7_WIDTH * 4)));
typedef float Unaligned __attribute__((vector_size(S7_WIDTH * 4), aligned(4), may_alias));
inline Register get(const float *p) { return *reinterpret_cast<const Unaligned *>(p); }
inline void put(float *p, Register v) { *reinterpret_cast<Unaligned *>(p) = v; }
#if S7_WIDTH == 16
inline Register fused(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
inline Register root(Register a) { return _mm512_sqrt_ps(a); }
inline Register spread(float v) { return _mm512_set1_ps(v); }
#elif S7_WIDTH == 8
inline Register fused(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
inline Register root(Register a) { return _mm256_sqrt_ps(a); }
inline Register spread(float v) { return _mm256_set1_ps(v); }
#else
inline Register fused(Register a, Register b, Register c) {
    return (Register)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Register root(Register a) { return (Register)vsqrtq_f32((float32x4_t)a); }
inline Register spread(float v) { return (Register)vdupq_n_f32(v); }
#endif
#endif

/* e^x for x <= 0; below -87 it is 0. */
S7_ANYWHERE inline Register exponential(Register x) {
    const Register low = spread(-87.0f);
    const auto tiny = x < low;
    x = tiny ? low : x;
    const Register magic = spread(12582912.0f);
    const Register shifted = fused(x, spread(1.44269504088896341f), magic), n = shifted - magic;
    Register r = fused(n, spread(-0.693359375f), x);
    r = fused(n, spread(2.12194440e-4f), r);
    Register p = fused(spread(1.9875691500e-4f), r, spread(1.3981999507e-3f));
    p = fused(p, r, spread(8.3334519073e-3f));
    p = fused(p, r, spread(4.1665795894e-2f));
    p = fused(p, r, spread(1.6666665459e-1f));
    p = fused(p, r, spread(5.0000001201e-1f));
    p = fused(p, r * r, r) + spread(1.0f);
    RegisterInt bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    const RegisterInt power = (bits + 127)
                              << 23; /* the low bits of `shifted` are n, in two's complement */
    Register scale;
    std::memcpy(&scale, &power, sizeof scale);
    return tiny ? spread(0.0f) : p * scale;
}

/* 1 / (1 + e^-x), from an exponential that does not overflow. */
S7_ANYWHERE inline Register sigmoid(Register x) {
    const Register zero = spread(0.0f), e = exponential(x < zero ? x : zero - x),
                   q = spread(1.0f) / (spread(1.0f) + e);
    return x < zero ? e * q : q;
}

S7_ANYWHERE inline Register largest(Register a, Register b) { return b > a ? b : a; }

struct Wide {
    Register part[kParts];
};

/* A Wide from f(0), f(1), ... with compile-time indexes, because GCC would otherwise keep the parts
 * in memory. */
template <class F> inline Wide parts(const F &f) {
    Wide w;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        ((w.part[I] = f(I)), ...);
    }(std::make_index_sequence<kParts>{});
    return w;
}

inline Wide load(const float *p) {
    return parts([&](std::size_t i) { return get(p + i * S7_WIDTH); });
}
inline void store(float *p, const Wide &v) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (put(p + I * S7_WIDTH, v.part[I]), ...);
    }(std::make_index_sequence<kParts>{});
}
inline Wide wide(float v) {
    return parts([&](std::size_t) { return spread(v); });
}
/* The first n floats (at most 16), followed by zeros. */
inline Wide load_some(const float *p, std::size_t n) {
    if (n >= kWide) return load(p);
    float all[kWide] = {};
    std::memcpy(all, p, n * sizeof(float));
    return load(all);
}
inline void store_some(float *p, const Wide &v, std::size_t n) {
    if (n >= kWide) return store(p, v);
    float all[kWide];
    store(all, v);
    std::memcpy(p, all, n * sizeof(float));
}

inline Wide operator+(const Wide &a, const Wide &b) {
    return parts([&](std::size_t i) { return a.part[i] + b.part[i]; });
}
inline Wide operator-(const Wide &a, const Wide &b) {
    return parts([&](std::size_t i) { return a.part[i] - b.part[i]; });
}
inline Wide operator*(const Wide &a, const Wide &b) {
    return parts([&](std::size_t i) { return a.part[i] * b.part[i]; });
}
inline Wide operator/(const Wide &a, const Wide &b) {
    return parts([&](std::size_t i) { return a.part[i] / b.part[i]; });
}
inline Wide fused(const Wide &a, const Wide &b, const Wide &c) {
    return parts([&](std::size_t i) { return fused(a.part[i], b.part[i], c.part[i]); });
}
inline Wide root(const Wide &a) {
    return parts([&](std::size_t i) { return root(a.part[i]); });
}
inline Wide exponential(const Wide &a) {
    return parts([&](std::size_t i) { return exponential(a.part[i]); });
}
inline Wide largest(const Wide &a, const Wide &b) {
    return parts([&](std::size_t i) { return largest(a.part[i], b.part[i]); });
}

/* Adds the sixteen chains of a row in pairs: lane i and lane i + 8, then + 4, + 2, + 1. */
inline float total(const Wide &v) {
    float s[kWide];
    store(s, v);
    for (std::size_t half = kWide / 2; half; half /= 2)
        for (std::size_t i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
    return s[0];
}

/* The highest of the sixteen. */
inline float highest(const Wide &v) {
    float s[kWide];
    store(s, v);
    for (std::size_t i = 1; i < kWide; ++i) s[0] = s[i] > s[0] ? s[i] : s[0];
    return s[0];
}

}  // namespace
}  // namespace s7train
#endif
