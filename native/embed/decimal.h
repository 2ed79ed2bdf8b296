// Decimal numbers of JSON to binary64 and back, exactly, without a locale: the nearest double of a
// literal, and the shortest text that reads back the same, in Python's form (`repr`).
#pragma once

#include "common.h"

namespace s7f {

// The double of a JSON number (its grammar already checked), ties to even; infinite where it is too
// large.
double parse_double(const Slice &literal);

constexpr size_t kDoubleRoom = 32;
// Python's repr of a finite double; returns its length.
size_t repr_double(double value, char to[kDoubleRoom]);

}  // namespace s7f
