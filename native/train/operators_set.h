/* The functions of one instruction set, which four files define. Only those files include this
 * header. S7_SET is the namespace. */
#ifndef S7_TRAIN_OPERATORS_SET_H
#define S7_TRAIN_OPERATORS_SET_H

#include "kernels.h"
#include "operators.h"

namespace s7train::S7_SET {

/* product.cpp */
extern const std::size_t panel_columns, tile_rows, inner_block, sliver_floats;
std::size_t panel_floats(std::size_t n);
void pack_panel(const s7_product_of &p, std::size_t first, Span inner, float *to);
void pack_rows(const s7_product_of &p, Span inner, Span part, float *to);
void multiply(const s7_product_of &p, Span rows, Span columns, Span inner, const float *panels,
              float *scratch);

/* attention_head.cpp */
void attend(const Head &head, float *scratch);
void attend_slope(const Head &head, float *scratch);

/* hybrid_head.cpp */
void attend_hybrid(const HybridHead &head, float *scratch);
void attend_hybrid_slope(const HybridHead &head, float *scratch);

}  // namespace s7train::S7_SET
#endif
