/* The functions of an instruction set for the calls of arithmetic.h. Each computes a range of rows,
 * elements or tasks. */
#ifndef S7_TRAIN_OPERATORS_H
#define S7_TRAIN_OPERATORS_H

#include "arithmetic.h"

#include <cstddef>
#include <cstdint>

namespace s7train {

struct Head;
struct HybridHead;

struct Span {
    std::size_t begin, end;
};

struct Operators {
    /* The columns of a panel of packed B, the rows of a tile, the inner indices of a block, and the
     * floats of a packed sliver of A. */
    std::size_t panel, tile_rows, inner, sliver;
    /* The floats of a packed panel. It has an odd number of rows, so that panels do not share cache
     * sets. */
    std::size_t (*panel_floats)(std::size_t n);
    void (*pack_panel)(const s7_product_of &p, std::size_t first, Span inner, float *to);
    /* Packs all panels of a part of a block's inner indices when B is stored by rows. */
    void (*pack_rows)(const s7_product_of &p, Span inner, Span part, float *to);
    void (*multiply)(const s7_product_of &p, Span rows, Span columns, Span inner,
                     const float *panels, float *scratch);
    void (*norm)(const float *x, const float *gain, float eps, float *y, float *scale, Span rows,
                 std::size_t n);
    void (*norm_slope)(const float *x, const float *gain, const float *scale, const float *grad,
                       const float *beside, float *grad_x, Span rows, std::size_t n);
    void (*norm_gain)(const float *x, const float *scale, const float *grad, float *grad_gain,
                      std::size_t n_rows, Span columns, std::size_t n);
    void (*gate)(const float *gate, const float *up, float *y, Span elements);
    void (*gate_slope)(const float *gate, const float *up, const float *grad, float *grad_gate,
                       float *grad_up, Span elements);
    void (*turn)(const s7_turn &t, Span rows);
    void (*losses)(const s7_losses_of &l, Span rows);
    void (*add)(const float *x, const float *y, float *z, Span elements);
    void (*scale)(const float *x, float factor, float *z, Span elements);
    void (*squares)(const float *x, float *sums, Span rows, std::size_t n);
    void (*adam)(const s7_adam_of &a, Span elements);
    void (*attend)(const Head &head, float *scratch);
    void (*attend_slope)(const Head &head, float *scratch);
    void (*attend_hybrid)(const HybridHead &head, float *scratch);
    void (*attend_hybrid_slope)(const HybridHead &head, float *scratch);
};

extern const Operators scalar_operators, avx2_operators, avx512_operators, neon_operators;

/* The operators of the widest instruction set of this processor, or of the one that S7_ISA names;
 * null if there is none. */
const Operators *operators();

}  // namespace s7train
#endif
