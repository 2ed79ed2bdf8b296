// Converts a generated lexer into a table by calling it.
//
// tree-sitter generates lexers as functions: a switch over states, and a call through a pointer for
// each byte. They are finite automata, and each state can be entered from outside. So the state
// that follows a byte is identified by its behaviour on further bytes. The table holds the states
// that differ in their behaviour on ASCII. Text with other bytes is left to the function.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <vector>

#include "grammar.h"

namespace s7corpus {

class Automaton {
  public:
    using Function = bool (*)(Lexer *, uint16_t);
    static constexpr uint32_t N_CODES = 128;

    // Nothing is tabulated where the function is null or does not behave as such lexers do.
    explicit Automaton(Function lex);

    enum Answer : uint8_t {
        NO_TOKEN,
        TOKEN,
        ASK_IT
    };  // ask it: other bytes than ASCII, or the end, were met
    // What the function finds from `place` on when it is called with `state`: a token, behind what
    // is skipped.
    Answer find(uint16_t state, const uint8_t *text, uint32_t place, uint32_t n_bytes,
                uint16_t &symbol, uint32_t &start, uint32_t &end) const {
        if (state >= rows_.size()) return ASK_IT;
        uint32_t from = place, accepted = NONE, cell = rows_[state];
        for (;; ++place) {
            const uint32_t row = cell & ROW;
            if (cell & ACCEPT) accepted = row, end = place;
            if (place >= n_bytes || text[place] >= N_CODES) return ASK_IT;
            cell = cells_[row * N_CODES + text[place]];
            if (cell & (STOP | SKIP)) {
                if (cell & STOP) break;
                from = place + 1;
            }
        }
        if (accepted == NONE) return NO_TOKEN;
        start = from < end ? from : end, symbol = symbols_[accepted];
        return TOKEN;
    }

    // Whether `find` says the same of a word, whatever stands behind it that is ASCII and no part
    // of a word.
    bool is_settled(uint16_t state, const uint8_t *word, uint32_t n_bytes) const {
        if (state >= rows_.size()) return false;
        uint32_t cell = rows_[state];
        for (uint32_t i = 0; i < n_bytes; ++i) {
            cell = cells_[(cell & ROW) * N_CODES + word[i]];
            if (cell & STOP) return true;
        }
        return ends_words_[cell & ROW];
    }
    // Whether a space is skipped in a state, and the same state follows.
    bool is_blank(uint16_t state) const {
        const uint32_t row = rows_[state] & ROW;
        return (cells_[row * N_CODES + ' '] & (STOP | SKIP | ROW)) == (SKIP | row);
    }
    static constexpr bool is_word(uint8_t code) {
        return static_cast<uint8_t>((code | 0x20) - 'a') < 26 ||
               static_cast<uint8_t>(code - '0') < 10 || code == '_';
    }

  private:
    static constexpr uint16_t ROW = 0x1fff, ACCEPT = 0x2000, SKIP = 0x4000, STOP = 0x8000;
    static constexpr uint32_t NONE = 0xffffffff;

    std::vector<uint16_t> rows_;     // of each state, with ACCEPT
    std::vector<uint16_t> symbols_;  // that the rows accept
    std::vector<uint16_t>
        cells_;  // of each row and byte: the next row, with ACCEPT and SKIP; or STOP
    std::vector<bool> ends_words_;  // whether the rows stop on every byte that is no part of a word
    friend class Questions;
};

}  // namespace s7corpus
