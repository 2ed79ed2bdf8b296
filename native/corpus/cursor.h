// Text under a generated lexer: UTF-8 in memory, with the calls that lexers and external scanners make.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "grammar.h"

namespace s7corpus {

struct Cursor : Lexer {
    const uint8_t* text;
    uint32_t n_bytes, place, width, token_start, token_end;
    uint32_t reached;  // bytes that were looked at end here; NOWHERE: more than these bytes was asked for (the end, the column)
    bool has_end;
    static constexpr uint32_t NOWHERE = 0xffffffff;

    void open(const uint8_t* bytes, uint32_t n) {
        text = bytes, n_bytes = n;
        lookahead = 0, result_symbol = 0, reached = 0;
        advance = [](Lexer* self, bool skip) { static_cast<Cursor*>(self)->step(skip); };
        mark_end = [](Lexer* self) { static_cast<Cursor*>(self)->mark(); };
        get_column = [](Lexer* self) {
            auto* cursor = static_cast<Cursor*>(self);
            cursor->reached = NOWHERE;
            return cursor->column();
        };
        is_at_included_range_start = [](const Lexer* self) { return !static_cast<const Cursor*>(self)->place; };
        eof = [](const Lexer* self) {
            const auto* cursor = static_cast<const Cursor*>(self);
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
    static void ignore(const Lexer*, const char*, ...) {}
    void mark() { token_end = place, has_end = true; }

    void step(bool skip) {
        if (place >= n_bytes) return;
        place += width;
        if (skip) token_start = place;
        look();
    }

    void look() {
        if (place >= n_bytes) {
            lookahead = 0, width = 1, reached = NOWHERE;
            return;
        }
        const uint8_t first = text[place];
        if (first < 0x80) {
            lookahead = first, width = 1;
            if (place >= reached) reached = place + 1;
            return;
        }
        width = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        if (place + width > n_bytes) width = n_bytes - place, reached = NOWHERE;
        if (place + width > reached) reached = place + width;
        lookahead = first & (0x7f >> width);
        for (uint32_t i = 1; i < width; ++i) lookahead = lookahead << 6 | (text[place + i] & 0x3f);
    }

    uint32_t column() const {
        uint32_t n = 0, at = place < n_bytes ? place : n_bytes;
        while (at && text[at - 1] != '\n') n += (text[--at] & 0xc0) != 0x80;
        return n - (!at && n && n_bytes >= 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf);
    }
};

}  // namespace s7corpus
