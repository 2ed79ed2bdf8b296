// The instruction sets of this x86-64 processor, for every library that has kernels for several.
#pragma once

#include <cpuid.h>
#include <cstdint>

namespace {

// The answers of CPUID, and the registers that the operating system saves. The functions of
// compilers for this are not in every run-time library, and do not know AVX-VNNI yet.
struct Processor {
    uint32_t base_c = 0, b = 0, c = 0, a1 = 0;  // leaf 1; leaf 7, subleafs 0 and 1
    uint32_t saved = 0;                         // XCR0: bits 1 and 2 for AVX, 5 to 7 for AVX-512

    Processor() {
        uint32_t a = 0, other = 0, d = 0;
        if (__get_cpuid(1, &a, &other, &base_c, &d) == 0) return;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return;
        if (__get_cpuid_count(7, 1, &a1, &a, &other, &d) == 0) a1 = 0;
        constexpr uint32_t osxsave = 1U << 27;
        if ((base_c & osxsave) != 0) asm volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    }
    static bool has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }
    bool avx2() const { return has(saved, 0x6) && has(base_c, 1U << 28) && has(b, 1U << 5); }
    bool fma() const { return has(base_c, 1U << 12); }
    bool avxvnni() const { return avx2() && has(a1, 1U << 4); }
    // F, DQ, BW and VL.
    bool avx512_without_vnni() const {
        return avx2() && has(saved, 0xE6) && has(b, 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31);
    }
    bool bf16() const { return avx512_without_vnni() && has(a1, 1U << 5); }
    bool avx512() const { return avx512_without_vnni() && has(c, 1U << 11); }
};

}  // namespace
