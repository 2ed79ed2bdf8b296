// The table of kernels that every instruction set fills: one matrix product and the row operations around it.
//
// Packed codes: panels of 16 outputs. Panel p holds, for each group of 4 inputs, 16 outputs x 4 inputs, 64 bytes:
// byte[(g * 16 + o) * 4 + i] is the code of output 16 p + o, input 4 g + i, xor `code_xor`. Missing rows and inputs are codes of 0.
// Projections, the keys of a head (outputs: positions) and its values (inputs: positions) all have this form.
#pragma once

#include "fixed.h"

namespace s7 {

constexpr int64_t kPanel = 16, kGroup = 4, kCell = kPanel * kGroup;

struct Pair {  // a scale that crosses from one instruction set's object to another's
    int32_t m, e;
};

struct Kernels {
    uint8_t code_xor;  // 0, or 0x80 where the multiply-add wants unsigned codes
    // out[t, 16 p + o] = sum over i of a[t, i] * code[16 p + o, i]; a has 4 n_groups readable bytes a row, of any i8.
    void (*product)(const uint8_t *panels, int64_t panel_bytes, int64_t n_panels, int64_t n_groups, const int8_t *a,
                    int64_t a_stride, int64_t n_tokens, int32_t *out, int64_t out_stride);
    // LINEAR after the sum: y[o] = MULSH(y[o] << lift, m[o], s[o]), in place; s in 16 .. 62.
    void (*rescale)(int32_t *y, int64_t n, int32_t lift, const uint16_t *m, const uint8_t *s);
    // out[i] = MULSH(y[i], m, s); for `add` out[i] = sat32(out[i] + that).
    void (*units)(const int32_t *y, int64_t n, int32_t m, int32_t s, int32_t add, int32_t *out);
    Pair (*rms_norm)(const int32_t *x, int64_t n, const int16_t *gain, int64_t eps, const int32_t *rsqrt_table,
                     int32_t *scratch, int8_t *codes);  // without the norm's exponent
    Pair (*quantize)(const int32_t *v, int64_t n, int8_t *codes);
    Pair (*rotate)(const int32_t *head, int64_t half, const int16_t *cosine, const int16_t *sine, int32_t *scratch,
                   int8_t *codes);
    // acc[j] becomes score_j; gives the largest.
    int32_t (*scores)(int32_t *acc, int64_t n, int32_t lift, const uint16_t *k_m, const int32_t *k_e, int32_t q_m,
                      int32_t q_e);
    // Scores become P (in place), then f = 256 hi + lo; gives the total of P.
    uint32_t (*weights)(int32_t *scores, int64_t n, int32_t largest, const uint16_t *v_m, const int32_t *v_e, int32_t low,
                        const int32_t *exp2_table, int8_t *hi, int8_t *lo);
    // codes of silu(gate) * up; both rows are overwritten. The scale is without token, exponents and the constant 15.
    Pair (*swiglu)(int32_t *gate, int32_t *up, int64_t n, int32_t m, int32_t s, const int32_t *sigmoid_table, int8_t *codes);
    // out[i] = RSHIFT(o[i], s)
    void (*shift)(int32_t *o, int64_t n, int32_t s);
};

// Each gives nullptr where the build lacks it; whether the machine has it is asked by `supported`.
const Kernels *scalar_kernels();
const Kernels *avx2_kernels();
const Kernels *avx512_kernels();

}  // namespace s7
