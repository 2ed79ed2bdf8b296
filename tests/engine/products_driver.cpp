// Products of codes on every instruction set of this machine, against plain loops: all quadruples
// of extreme acts by all quadruples of extreme codes, all pairs of values, tiles of every size, and
// rows longer than what a kernel prepares. A pair that saturated, or a sum that lost a carry,
// shows.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.h"

namespace {

struct Block {  // on a cache line, as the engine's
    explicit Block(i64 n) : bytes(static_cast<size_t>(n) + 64) {}
    u8 *get() { return bytes.data() + (64 - reinterpret_cast<u64>(bytes.data()) % 64) % 64; }
    std::vector<u8> bytes;
};

// acts [n, k], codes [n_out, k]; k is a multiple of 4. False where a sum is another.
bool same(const s7::Kernels &kernels, const std::vector<i8> &acts, const std::vector<i8> &codes,
          i64 n, i64 n_out, i64 k, bool narrow) {
    const i64 padded = s7::round_up(n_out, s7::kPanel), groups = k / s7::kGroup;
    Block panels(padded * k);
    std::vector<i32> start(static_cast<size_t>(padded)), y(static_cast<size_t>(n * padded));
    // MULSH by 2^15 and a shift of 15 + lift is the sum itself.
    const std::vector<u16> m(static_cast<size_t>(padded), 32768);
    const std::vector<u8> s(static_cast<size_t>(padded), narrow ? 17 : 15);
    std::vector<u8> turned(static_cast<size_t>(n * k));
    for (i64 i = 0; i < n * k; ++i)
        turned[static_cast<size_t>(i)] =
            static_cast<u8>(acts[static_cast<size_t>(i)]) ^ kernels.act_xor;
    for (i64 o = 0; o < n_out; ++o) {
        for (i64 i = 0; i < k; ++i) {
            const i8 code = codes[static_cast<size_t>(o * k + i)];
            const i64 at = o / s7::kPanel * groups * s7::kCell +
                           (i / s7::kGroup * s7::kPanel + o % s7::kPanel) * s7::kGroup +
                           i % s7::kGroup;
            panels.get()[at] = static_cast<u8>(code);
            start[static_cast<size_t>(o)] -= 128 * code;
        }
    }
    const s7::Projection w{reinterpret_cast<const i8 *>(panels.get()),
                           kernels.act_xor != 0 ? start.data() : nullptr,
                           m.data(),
                           s.data(),
                           groups,
                           narrow ? 2 : 0,
                           narrow};
    kernels.linear(w, 0, padded / s7::kPanel, turned.data(), k, n, y.data(), padded);
    for (i64 t = 0; t < n; ++t) {
        for (i64 o = 0; o < n_out; ++o) {
            i32 sum = 0;
            for (i64 i = 0; i < k; ++i)
                sum += i32{acts[static_cast<size_t>(t * k + i)]} *
                       codes[static_cast<size_t>(o * k + i)];
            if (y[static_cast<size_t>(t * padded + o)] != sum) {
                std::printf("row %d, output %d of %d x %d x %d: %d, not %d\n", static_cast<int>(t),
                            static_cast<int>(o), static_cast<int>(n), static_cast<int>(k),
                            static_cast<int>(n_out), y[static_cast<size_t>(t * padded + o)], sum);
                return false;
            }
        }
    }
    return true;
}

// Every quadruple of the values, `times` after each other.
std::vector<i8> quadruples(const std::vector<i8> &values, int times) {
    std::vector<i8> all;
    for (const i8 a : values)
        for (const i8 b : values)
            for (const i8 c : values)
                for (const i8 d : values)
                    for (int i = 0; i < times; ++i) all.insert(all.end(), {a, b, c, d});
    return all;
}

bool good(const s7::Kernels &kernels) {
    const std::vector<i8> ends = {-127, -1, 0, 1, 127};
    for (const int times : {1, 2, 5}) {
        const auto four = quadruples(ends, times);
        if (!same(kernels, four, four, 625, 625, 4 * times, times > 1)) return false;
    }
    std::vector<i8> all;
    for (int v = -127; v <= 127; ++v) all.insert(all.end(), 8, static_cast<i8>(v));
    if (!same(kernels, all, all, 255, 255, 8, true)) return false;
    u32 state = 1;
    const auto random = [&](i64 n) {
        std::vector<i8> values(static_cast<size_t>(n));
        for (i8 &value : values) {
            state = state * 1664525 + 1013904223;
            value = static_cast<i8>(static_cast<i32>(state >> 24) % 255 - 127);
        }
        return values;
    };
    for (i64 n = 1; n <= 27; ++n) {
        const i64 outputs = 16 * (n % 10) + 7, k = 4 * (n % 6 + 1);
        if (!same(kernels, random(n * k), random(outputs * k), n, outputs, k, n % 2 == 0))
            return false;
    }
    for (const i64 k : {i64{6528}, i64{6560}, i64{32768}, i64{32772}, i64{66572}}) {
        std::vector<i8> high(static_cast<size_t>(7 * k), 127),
            low(static_cast<size_t>(33 * k), -127);
        if (!same(kernels, high, low, 7, 33, k, false)) return false;
        if (!same(kernels, random(7 * k), random(33 * k), 7, 33, k, false)) return false;
    }
    return true;
}

}  // namespace

int main() {
    int n_bad = 0;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        const bool is_good = good(*s7::kernels_of(static_cast<s7_isa>(isa)));
        std::printf("%d: %s\n", isa, is_good ? "equal" : "other sums");
        n_bad += !is_good;
    }
    return n_bad;
}
