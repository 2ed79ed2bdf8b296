// Scores of the exact scan: integers only, the same on every machine.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S7_MEMORY_ABI 1

int32_t s7_memory_abi(void);

// The widest instruction set of this machine: 0 scalar, 1 AVX2, 2 AVX-512.
int32_t s7_memory_isa(void);

// out[i] = sum over j of rows[i * width + j] * query[j], for codes in [-127, 127] and a width below
// 2^17, so that every sum fits 32 bits. `isa` is one of the above, or -1 for the widest. If the
// machine lacks it, its widest is used.
void s7_memory_dots(const int8_t *rows, uint64_t n_rows, uint32_t width, const int8_t *query,
                    int32_t isa, int32_t *out);

#ifdef __cplusplus
}
#endif
