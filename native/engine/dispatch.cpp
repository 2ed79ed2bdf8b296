// Which instruction sets this build and this machine have.
#include <initializer_list>

#include "model.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

const s7::Kernels *s7::kernels_of(s7_isa isa) {
    switch (isa) {
        case S7_SCALAR:
            return scalar_kernels();
        case S7_AVX2:
            return avx2_kernels();
        case S7_AVXVNNI:
            return avxvnni_kernels();
        case S7_AVX512:
            return avx512_kernels();
        case S7_NEON:
            return neon_kernels();
        case S7_WASM:
            return wasm_kernels();
        default:
            return nullptr;
    }
}

int32_t s7_abi(void) { return S7_ABI; }

const char *s7_status_text(s7_status status) {
    switch (status) {
        case S7_OK:
            return "no error";
        case S7_NULL:
            return "a pointer is missing";
        case S7_SHAPE:
            return "a size is outside the law's range, or sizes disagree";
        case S7_RANGE:
            return "a value is outside the law's range";
        case S7_NO_MEMORY:
            return "not enough memory";
        case S7_ISA_ABSENT:
            return "the instruction set is not there";
        case S7_IDS:
            return "no ids, or an id outside the vocabulary";
        case S7_CONTEXT:
            return "more positions than the context has";
        case S7_THREADS:
            return "a number of threads that cannot be had";
    }
    return "an unknown status";
}

int32_t s7_isa_supported(s7_isa isa) {
    if (s7::kernels_of(isa) == nullptr) return 0;
#if defined(__x86_64__)
    // The compiler's run-time library asks CPUID, and the operating system about the wide
    // registers.
    __builtin_cpu_init();
    if (isa == S7_AVX2) return __builtin_cpu_supports("avx2") != 0;
    if (isa == S7_AVXVNNI) {  // leaf 7, subleaf 1, EAX bit 4; compilers do not know its name yet
        u32 a = 0, b = 0, c = 0, d = 0;
        return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
               (a & (1U << 4)) != 0;
    }
    if (isa == S7_AVX512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
    }
#endif
    return 1;  // every ARM of 64 bits has NEON, and a module with SIMD128 does not load where it is
               // not
}

s7_isa s7_isa_widest(void) {
    s7_isa found = S7_SCALAR;
    for (const s7_isa isa : {S7_AVX2, S7_AVXVNNI, S7_AVX512, S7_NEON, S7_WASM}) {
        if (s7_isa_supported(isa)) found = isa;
    }
    return found;
}
