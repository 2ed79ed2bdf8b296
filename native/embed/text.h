// Characters from bytes that come in pieces.
#pragma once

#include "common.h"

namespace s7f {

// What the bytes complete; returns its length, of which at most `room` bytes are written.
size_t text_feed(s7f_text &text, const Slice &bytes, char *to, size_t room);
// What is left at the end.
size_t text_end(s7f_text &text, char *to, size_t room);

}  // namespace s7f
