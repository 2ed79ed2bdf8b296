// ROTATE and QUANT of heads on every instruction set of this machine, against the portable text of
// scalar.cpp: every even size up to 130, every length in binary, the ends of i32. Heads of 64 are
// written out in registers where lanes are.
#include <cstdio>
#include <vector>

#include "kernels.h"

namespace {

u32 state = 1;

u32 draw() {
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

// Values whose magnitude takes up to n_bits bits.
std::vector<i32> values(i64 n, i32 n_bits) {
    std::vector<i32> row(static_cast<size_t>(n));
    for (i32 &v : row) {
        const i32 size = static_cast<i32>(draw() & ((u64{1} << n_bits) - 1));
        v = draw() % 2 == 0 ? size : -size;
    }
    return row;
}

struct Result {
    s7::Pair scale;
    std::vector<u8> acts;
    bool operator==(const Result &other) const {
        return scale.m == other.scale.m && scale.e == other.scale.e && acts == other.acts;
    }
};

Result run(const s7::Kernels &kernels, const std::vector<i32> &head, const std::vector<i16> &turn,
           bool rotates) {
    const i64 n = static_cast<i64>(head.size()), half = n / 2;
    // Whole vectors may be read at the end of the engine's buffers.
    std::vector<i32> row(head), scratch(static_cast<size_t>(n) + 64);
    row.resize(row.size() + 64);
    Result to{{}, std::vector<u8>(static_cast<size_t>(n) + 64, 0x55)};
    to.scale = rotates ? kernels.rotate(row.data(), half, turn.data(), turn.data() + half,
                                        scratch.data(), to.acts.data())
                       : kernels.quantize(row.data(), n, to.acts.data());
    for (i64 i = 0; i < n; ++i) to.acts[static_cast<size_t>(i)] ^= kernels.act_xor;
    return to;
}

bool same(const s7::Kernels &kernels, const std::vector<i32> &head, const std::vector<i16> &turn) {
    const s7::Kernels &plain = *s7::scalar_kernels();
    bool lowest = false;  // -2^31 is in the domain of NORMALIZE alone
    for (const i32 v : head) lowest = lowest || v == kMin32;
    for (const bool rotates : {true, false}) {
        if (!rotates && lowest) continue;
        if (run(kernels, head, turn, rotates) == run(plain, head, turn, rotates)) continue;
        std::printf("%s of %d values\n", rotates ? "ROTATE" : "QUANT",
                    static_cast<int>(head.size()));
        return false;
    }
    return true;
}

bool good(const s7::Kernels &kernels) {
    for (i64 n = 2; n <= 130; n += 2) {
        std::vector<i16> turn(static_cast<size_t>(n) + 64);
        const int n_rounds = n == 64 ? 40 : 2;
        for (i32 n_bits = 0; n_bits <= 31; ++n_bits) {
            for (int round = 0; round < n_rounds; ++round) {
                for (i16 &t : turn) t = static_cast<i16>(static_cast<i32>(draw() % 65535) - 32767);
                auto head = values(n, n_bits);
                if (!same(kernels, head, turn)) return false;
                if (n_bits < 31) continue;
                head[draw() % head.size()] = static_cast<i32>(round % 2 == 0 ? kMin32 : kMax32);
                if (!same(kernels, head, turn)) return false;
            }
        }
    }
    return true;
}

}  // namespace

int main() {
    int n_bad = 0;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        const bool is_good = good(*s7::kernels_of(static_cast<s7_isa>(isa)));
        std::printf("%d: %s\n", isa, is_good ? "equal" : "other heads");
        n_bad += !is_good;
    }
    return n_bad;
}
