// Which instruction sets this build and this machine have.
#include <initializer_list>

#include "model.h"

#if defined(__x86_64__)
#include "processor.h"
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
    const Processor here;
    if (isa == S7_AVX2) return here.avx2();
    if (isa == S7_AVXVNNI) return here.avxvnni();
    if (isa == S7_AVX512) return here.avx512();
#endif
    // every 64-bit ARM has NEON, and a module with SIMD128 loads only where it is supported
    return 1;
}

s7_isa s7_isa_widest(void) {
    s7_isa found = S7_SCALAR;
    for (const s7_isa isa : {S7_AVX2, S7_AVXVNNI, S7_AVX512, S7_NEON, S7_WASM}) {
        if (s7_isa_supported(isa)) found = isa;
    }
    return found;
}
