// The CM-1 state machine of specs/control.md. It accepts any bytes and fails closed.
#pragma once

#include "common.h"

struct s7f_gate {
    enum State : s7f::u8 { kStart, kHeader, kBody, kShifted, kLiteral, kClosed, kEnded, kRefused };

    State state = kStart;
    s7f::u64 offset = 0;  // bytes taken so far
    int depth = 0;        // spans open
    s7f::Vec<char> header, body;

    // Take the next bytes. After a refusal every later call is refused.
    s7f_status feed(const s7f::Slice &bytes, s7f_error *error);
    bool is_open() const { return state == kBody || state == kShifted; }
    s7f_status require_open(const char *call, s7f_error *error) const;
    // The state to return to when an admitted call could not be done.
    struct Mark {
        State state;
        s7f::u64 offset;
        int depth;
        s7f::u8 held[4], n_held;
        size_t n_header, n_body;
    };
    Mark mark() const;
    void back_to(const Mark &mark);
    // The same state, with a copy of the text.
    [[nodiscard]] bool copy_to(s7f_gate &to) const;

  private:
    s7f_status take(s7f::u8 byte, s7f_error *error);
    s7f_status take_control(s7f::u8 code, s7f_error *error);
    s7f_status character(s7f_error *error);
    s7f_status keep(const char *text, size_t n, s7f_error *error);
    s7f_status refuse_here(s7f_error *error, const char *what) const;

    s7f::u8 held_[4] = {};  // bytes of a character that is not whole yet
    s7f::u8 n_held_ = 0;
};

namespace s7f {

// Refuse control characters that are not text, and what is no UTF-8; `line`: TAB, LF and CR, too.
s7f_status check_prompt(const Slice &text, s7f_error *error);

}  // namespace s7f
