// The tokenizer in the DICT lane: its form (src/sevenfold/tokenizer/form.py), the bytes of every
// id, the roles of ids, and the encoder of native/tokens.
#pragma once

#include "json.h"
#include "tokens.h"

namespace s7f {

constexpr u32 kMaxEnds = 64;

// Token ids by what they do; -1 where there is none.
struct Roles {
    i32 begin = -1, bos = -1, pad = -1, boundary = -1;
    i32 ends[kMaxEnds] = {};
    u32 n_ends = 0;
    bool is_end(i32 id) const {
        for (u32 i = 0; i < n_ends; ++i)
            if (ends[i] == id) return true;
        return false;
    }
};

class Tokenizer {
  public:
    Tokenizer() = default;
    Tokenizer(const Tokenizer &) = delete;
    Tokenizer &operator=(const Tokenizer &) = delete;
    ~Tokenizer() {
        if (encoder_ != nullptr) s7_tokens_close(encoder_);
    }

    // `graph` may have `tokens`, which names the roles of ids.
    s7f_status open(const Slice &dictionary, const Document &graph, s7f_error *error);

    i32 vocab_size() const { return static_cast<i32>(ends_.size()); }
    const Roles &roles() const { return roles_; }
    // The bytes that a token stands for; ids are within the vocabulary.
    Slice token(i32 id) const;
    // -1 when there is none of this name.
    i32 special_id(const Slice &name) const;
    // Append the ids of UTF-8 text.
    s7f_status encode(const Slice &text, Vec<i32> &ids);

  private:
    friend class TokenizerReader;
    Vec<char> bytes_;  // of every id, in a row
    Vec<u32> ends_;
    Vec<char> names_;  // of the special tokens
    Vec<u32> name_ends_;
    Vec<i32> name_ids_;
    Roles roles_;
    s7_tokens *encoder_ = nullptr;
};

}  // namespace s7f
