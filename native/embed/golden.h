// Golden prompts: compares the answers in a file with those of an engine.
#pragma once

#include "reader.h"
#include "s7.h"
#include "tokenizer.h"

namespace s7f {

struct Golden {
    Vec<i32> ids, tokens;
    i64 n_steps = 0;
    Digest logits{};
};

// The `index`-th golden prompt; rule V6 has checked its form. An id past 32 bits becomes -1, which
// no engine takes.
s7f_status read_golden(const s7f_file &file, u32 index, Golden &to);

// Greedy steps from `from.ids`: tokens, and the hash of the logits as big-endian int32.
s7f_status run_golden(const s7_model *engine, const s7_shape &shape, const Golden &from,
                      Golden &to);

// Ids of a prompt as the model saw text in training; S7F_ARGUMENT for a domain without a token.
s7f_status prompt_ids(Tokenizer &tokenizer, const Slice &prompt, const Slice &domain,
                      Vec<i32> &ids);

i32 argmax(const i32 *logits, i64 n);

}  // namespace s7f
