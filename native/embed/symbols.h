// Protected symbols: the expression that `protected_pattern` of sevenfold.tokenizer.pieces makes of
// them, taken apart again.
#pragma once

#include "common.h"

namespace s7f {

// As s7_tokens_file takes them.
struct Symbols {
    Vec<char> bytes;
    Vec<u32> ends;
    Vec<u8> flags;

    // S7F_TOKENIZER for any other expression.
    s7f_status read(const Slice &pattern);
};

}  // namespace s7f
