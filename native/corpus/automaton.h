// A generated lexer as a table, made by asking it.
//
// tree-sitter generates lexers as functions: a switch over states, a call through a pointer for each byte. They are finite automata, and
// each of their states can be entered from outside, so which state follows on a byte is found by what it does with further bytes. The
// table has the states that differ in what they do with ASCII; text with other bytes is left to the function.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <vector>

#include "grammar.h"

namespace s7corpus {

class Automaton {
  public:
    using Function = bool (*)(Lexer*, uint16_t);
    static constexpr uint32_t N_CODES = 128;

    // Nothing is tabulated where the function is null or does not behave as such lexers do.
    explicit Automaton(Function lex);

    struct Found {
        uint32_t start, end;  // of the token: behind what is skipped, and where it was accepted last
        uint16_t symbol;
        bool is_known, is_token;  // known: by the table alone
    };
    // What the function finds from `place` on when it is called with `state`. Not known: other bytes than ASCII, or the end, were met.
    Found find(uint16_t state, const uint8_t* text, uint32_t place, uint32_t n_bytes) const {
        Found found{place, place, 0, false, false};
        if (state >= class_of_.size()) return found;
        uint32_t row = class_of_[state];
        for (;;) {
            if (accepts_[row] != NO_SYMBOL) found.symbol = accepts_[row], found.end = place, found.is_token = true;
            if (place >= n_bytes || text[place] >= N_CODES) return found;
            const uint16_t cell = cells_[row * N_CODES + text[place]];
            if (cell == STOP) break;
            ++place;
            row = cell & ROW;
            if (cell & SKIP) found.start = place;
        }
        if (found.end < found.start) found.start = found.end;
        found.is_known = true;
        return found;
    }
    size_t n_rows() const { return accepts_.size(); }

  private:
    static constexpr uint16_t ROW = 0x3fff, SKIP = 0x4000, STOP = 0x8000, NO_SYMBOL = 0xffff;

    std::vector<uint16_t> class_of_;  // row of each state
    std::vector<uint16_t> accepts_;   // symbol of each row
    std::vector<uint16_t> cells_;     // of each row and byte: the next row, with SKIP; or STOP
    friend class Questions;
};

}  // namespace s7corpus
