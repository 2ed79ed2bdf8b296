// The integer model of a file, built from its records and its graph and nothing else
// (specs/arithmetic.md, section 4).
#pragma once

#include "reader.h"
#include "s7.h"

namespace s7f {

// S7F_GRAPH names the record or the key that is missing, misshapen or out of range.
s7f_status load_engine(const s7f_file &file, s7_isa isa, s7_model **to, s7_shape &shape,
                       s7f_error *error);

// What a status of the engine is called here.
s7f_status of_engine(s7_status status);

// The widest instruction set that is here.
s7_isa widest_isa();

}  // namespace s7f
