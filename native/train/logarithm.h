/* The natural logarithm in binary64, from operations that IEEE 754 defines. */
#ifndef S7_TRAIN_LOGARITHM_H
#define S7_TRAIN_LOGARITHM_H

#include "anywhere.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace s7train {
namespace { /* a copy for each instruction set */

/* ln(x) for a positive normal x: x = m 2^e with m in [0.7071, 1.4142), s = (m - 1) / (m + 1), ln m
 * = 2 (s + s^3 / 3 + ...). */
S7_ANYWHERE inline double logarithm(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    std::int64_t exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL;
    double m;
    std::memcpy(&m, &bits, sizeof m);
    if (m >= 1.4142135623730951) {
        m *= 0.5;
        ++exponent;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21.0;
    for (int odd = 19; odd >= 3; odd -= 2) p = std::fma(p, z, 1.0 / odd);
    const double e = static_cast<double>(exponent), twice = s + s;
    const double small = std::fma(twice * z, p, e * 5.497923018708371e-14);
    return std::fma(e, 0.6931471805598903, twice + small);
}

}  // namespace
}  // namespace s7train
#endif
