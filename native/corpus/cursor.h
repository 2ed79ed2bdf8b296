// Text under a generated lexer: UTF-8 in memory, with the calls that lexers and external scanners
// make.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "grammar.h"

namespace s7corpus {

struct Cursor : Lexer {
    const uint8_t *text;
    uint32_t n_bytes, place, width, token_start, token_end;
    bool has_end, met_end;  // met: where the text ends, or which column a place has, was of account

    void open(const uint8_t *bytes, uint32_t n) {
        text = bytes, n_bytes = n;
        lookahead = 0, result_symbol = 0, met_end = false;
        advance = [](Lexer *self, bool skip) { static_cast<Cursor *>(self)->step(skip); };
        mark_end = [](Lexer *self) { static_cast<Cursor *>(self)->mark(); };
        get_column = [](Lexer *self) {
            auto *cursor = static_cast<Cursor *>(self);
            cursor->met_end = true;
            return cursor->column();
        };
        is_at_included_range_start = [](const Lexer *self) {
            return !static_cast<const Cursor *>(self)->place;
        };
        eof = [](const Lexer *self) {
            const auto *cursor = static_cast<const Cursor *>(self);
            return cursor->place >= cursor->n_bytes;
        };
        log = ignore;
        go(0);
    }

    void go(uint32_t where) {
        place = where;
        look();
    }

    void start() {
        token_start = place, has_end = false, result_symbol = 0;
        if (!place && lookahead == 0xfeff) step(true);
    }

    void finish() {
        if (!has_end) mark();
        if (token_end < token_start) token_start = token_end;
    }

  private:
    static void ignore(const Lexer *, const char *, ...) {}
    void mark() { token_end = place, has_end = true; }

    void step(bool skip) {
        if (place >= n_bytes) return;
        place += width;
        if (skip) token_start = place;
        look();
    }

    void look() {
        if (place >= n_bytes) {
            lookahead = 0, width = 1, met_end = true;
            return;
        }
        const uint8_t first = text[place];
        if (first < 0x80) {
            lookahead = first, width = 1;
            return;
        }
        width = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        met_end |= place + width > n_bytes;
        lookahead = first & (0x7f >> width);
        bool is_valid = first >= 0xc2 && place + width <= n_bytes;
        for (uint32_t i = 1; i < width && is_valid; ++i) {
            is_valid = (text[place + i] & 0xc0) == 0x80;
            lookahead = lookahead << 6 | (text[place + i] & 0x3f);
        }
        // Scanners look classes of characters up by their code: as in tree-sitter, what is none is
        // -1 and one byte.
        is_valid &= lookahead <= 0x10ffff && lookahead >> 11 != 0x1b &&
                    (width < 3 || lookahead >= (width == 3 ? 0x800 : 0x10000));
        if (!is_valid) lookahead = -1, width = 1;
    }

    uint32_t column() const {
        uint32_t n = 0, at = place < n_bytes ? place : n_bytes;
        while (at && text[at - 1] != '\n') n += (text[--at] & 0xc0) != 0x80;
        return n -
               (!at && n && n_bytes >= 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf);
    }
};

}  // namespace s7corpus
