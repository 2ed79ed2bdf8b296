// The kernels of every instruction set: the products of packed codes, and the row operations around
// them.
//
// Packed codes: panels of 16 outputs. Panel p holds, for each group of 4 inputs, 16 outputs x 4
// inputs, 64 bytes: byte[(g * 16 + o) * 4 + i] is the code of output 16 p + o, input 4 g + i.
// Missing outputs and inputs are codes of 0. Projections, the keys of a head (outputs: positions)
// and its values (inputs: positions) all have this form.
//
// Acts: the other factor, one byte for each input, an i8 xor `act_xor`. When the multiply-add needs
// it unsigned, act_xor is 0x80. This adds 128 times the sum of an output's codes, which `start`
// subtracts.
#pragma once

#include "fixed.h"

namespace s7 {

constexpr i64 kPanel = 16, kGroup = 4, kCell = kPanel * kGroup;
constexpr i64 kPage = 64;  // positions of a page of the KV cache

constexpr i64 round_up(i64 n, i64 unit) { return (n + unit - 1) / unit * unit; }

struct Pair {  // a scale, in a form that all objects share
    i32 m, e;
};

// One packed projection. m, s and start have room for whole panels.
struct Projection {
    const i8 *panels;
    const i32 *start;  // -128 * the sum of an output's codes; nullptr if act_xor is 0
    const u16 *m;
    const u8 *s;
    i64 n_groups;
    i32 lift;
    bool narrow;  // every s >= 17: the rescale fits 32-bit lanes
};

// The offsets in a head's block of a page, in bytes.
struct HeadLayout {
    i64 k_groups, v_panels;  // groups of 4 dimensions, panels of 16
    i64 k, v, start, k_m, v_m, k_e, v_e,
        n_bytes;  // k [4 panels], v [v_panels], start i32 [64], others 16 bits [64]

    explicit HeadLayout(i64 head_dim)
        : k_groups(round_up(head_dim, kGroup) / kGroup),
          v_panels(round_up(head_dim, kPanel) / kPanel),
          k(0),
          v(kPage / kPanel * k_groups * kCell),
          start(v + v_panels * kPage / kGroup * kCell),
          k_m(start + 4 * kPage),
          v_m(k_m + 2 * kPage),
          k_e(v_m + 2 * kPage),
          v_e(k_e + 2 * kPage),
          n_bytes(v_e + 2 * kPage) {}
};

// The cached positions of one key/value head. Page i begins at pages[i] + offset.
struct Head {
    const u8 *const *pages;
    i64 offset;
    const HeadLayout *layout;
    const u8 *page(i64 i) const { return pages[i] + offset; }
};

struct Span {
    i64 begin, end;
};

// One query row over a head.
struct Query {
    Pair scale;
    i64 n_keys;      // positions that it sees
    i32 largest;     // of its scores
    u32 total;       // of P
    i32 low;         // the smallest exponent among the visible values
    Span near, far;  // what it sees under hybrid attention, in the list of pages
};

struct Kernels {
    u8 act_xor;
    // y[t, o] = MULSH(sum of acts * codes << lift, m[o], s[o]) for outputs 16 p0 .. 16 p1 - 1 and n
    // rows.
    void (*linear)(const Projection &w, i64 p0, i64 p1, const u8 *acts, i64 acts_stride, i64 n,
                   i32 *y, i64 y_stride);
    // out[i] = MULSH(y[i], m, s); with `add` out[i] = sat32(out[i] + MULSH(y[i], m, s)).
    void (*units)(const i32 *y, i64 n, i32 m, i32 s, bool add, i32 *out);
    Pair (*rms_norm)(const i32 *x, i64 n, const i16 *gain, i64 eps, const i32 *rsqrt_table,
                     i32 *scratch,
                     u8 *acts);  // without the norm's exponent
    Pair (*quantize)(const i32 *v, i64 n, u8 *acts);
    Pair (*rotate)(const i32 *head, i64 half, const i16 *cosine, const i16 *sine, i32 *scratch,
                   u8 *acts);
    // Acts of silu(gate) * up. The scale lacks the token's scale, the exponents and the constant
    // 15. a and b are scratch rows.
    Pair (*swiglu)(const i32 *gate, const i32 *up, i64 n, i32 m, i32 s, const u32 *sigmoid_steps,
                   i32 *a, i32 *b, u8 *acts);
    // out[i] = RSHIFT(o[i], s)
    void (*shift)(const i32 *o, i64 n, i32 s, i32 *out);
    // The lowest index of the largest of n >= 1.
    i32 (*argmax)(const i32 *v, i64 n);
    // The scores of n query rows (acts [n, acts_stride]) on their keys, scores [n, stride]. Sets
    // `largest`.
    void (*scores)(const Head &head, i32 lift, const u8 *acts, i64 acts_stride, Query *queries,
                   i64 n, i32 *scores, i64 stride);
    // Replaces a row of scores by P, and writes P times the scales of V to the 2 * stride bytes of
    // `limbs`. The instruction set chooses the form of `limbs` (usually the high bytes, then the
    // low bytes). Writes zeros from the last key up to `end`, a page boundary. Sets `total` and
    // `low`.
    void (*weights)(const Head &head, Query &query, i32 *scores, const u32 *exp2_steps, u8 *limbs,
                    i64 stride, i64 end);
    // o [n, o_stride] = sum over positions of P times V, from the limbs of n rows.
    void (*values)(const Head &head, const u8 *limbs, i64 stride, i64 n, i64 n_keys, i32 *o,
                   i64 o_stride);
    // `weights` of the keys in the two spans of a query, over a list of pages up to `end`; all
    // other keys get 0.
    void (*span_weights)(const Head &head, Query &query, i32 *scores, const u32 *exp2_steps,
                         u8 *limbs, i64 stride, i64 end);
    // 2^12 rounds of multiply-adds in registers; gives how many it did.
    i64 (*peak)();
};

// Each returns nullptr if the build lacks it. `s7_isa_supported` asks whether the machine has it.
const Kernels *scalar_kernels();
const Kernels *avx2_kernels();
const Kernels *avxvnni_kernels();
const Kernels *avx512_kernels();
const Kernels *neon_kernels();
const Kernels *wasm_kernels();
const Kernels *kernels_of(s7_isa isa);

}  // namespace s7
