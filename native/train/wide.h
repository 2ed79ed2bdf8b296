/* Sixteen floats at a time, for the kernels of every instruction set. Each file that includes it
 * has its own copy. */
#ifndef S7_TRAIN_WIDE_H
#define S7_TRAIN_WIDE_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace s7train {
namespace { /* a copy for each instruction set: one that the linker merged could hold instructions
               that are not there */

constexpr std::size_t kLanes = 16;
typedef float Wide __attribute__((vector_size(64), aligned(4), may_alias));
typedef std::int32_t WideInt __attribute__((vector_size(64)));

inline std::size_t rounded(std::size_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// e^x for x <= 0 (about 1 ulp); below -87 it is 0.
inline Wide exponential(Wide x) {
    const Wide low = Wide{} - 87.0f;
    const auto tiny = x < low;
    x = tiny ? low : x;
    const Wide shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
    Wide r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    Wide p = Wide{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    WideInt bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    const WideInt power = (bits + 127)
                          << 23;  // the low bits of `shifted` are n, in two's complement
    Wide scale;
    std::memcpy(&scale, &power, sizeof scale);
    return tiny ? Wide{} : p * scale;
}

inline float pairwise(const Wide &v) {
    float s[kLanes];
    std::memcpy(s, &v, sizeof s);
    for (std::size_t half = kLanes / 2; half; half /= 2)
        for (std::size_t i = 0; i < half; ++i) s[i] += s[i + half];
    return s[0];
}

inline Wide load(const float *p) { return *reinterpret_cast<const Wide *>(p); }
inline void store(float *p, const Wide &v) { *reinterpret_cast<Wide *>(p) = v; }

// Gives the columns after a row's position the weight 0.
inline void hide_future(float *row, std::size_t position, std::size_t n_columns) {
    std::fill(row + position + 1, row + n_columns, -INFINITY);
}

}  // namespace
}  // namespace s7train
#endif
