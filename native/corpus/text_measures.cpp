// Converts the text of a licence to the form in which notices are searched. The definition and the
// oracle are `normalise` of licences/wording/notices.py.
#include <cstring>

#include "s7corpus.h"

namespace {

bool is_blank(uint8_t code) { return code == ' ' || code == '\t'; }
// White space as Python's `str` has it within ASCII, and marks that only set words apart.
bool is_gap(uint8_t code) {
    return code == ' ' || (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= 0x1f) ||
           code == '"' || code == '`' || code == '_' || code == '*';
}
bool is_word(uint8_t code) {
    const uint8_t lowered = code | 0x20;
    return (lowered >= 'a' && lowered <= 'z') || (code >= '0' && code <= '9') || code == '_';
}

// A text with its end.
struct Piece {
    const uint8_t *end;

    // Behind a run of `code` of at least `least` bytes; where it is, when there is none.
    const uint8_t *behind(const uint8_t *place, uint8_t code, int least = 1) const {
        const uint8_t *stop = place;
        while (stop < end && *stop == code) ++stop;
        return stop - place >= least ? stop : place;
    }

    // Behind the mark of a comment at `place`; `place` when there is none.
    const uint8_t *behind_mark(const uint8_t *place) const {
        if (place == end) return place;
        switch (*place) {
            case '#':
            case ';':
            case '%':
            case '|':
            case '>':
            case '*':
                return behind(place, *place);
            case '-':
                return behind(place, '-', 2);
            case '.':
                return end - place >= 2 && place[1] == '.' ? place + 2 : place;
            case '/': {
                if (const uint8_t *stop = behind(place, '/', 2); stop != place) return stop;
                const uint8_t *stop = behind(place + 1, '*');
                return stop == place + 1 ? place : stop;
            }
            case 'd':
            case 'r': {
                const bool is_mark = end - place >= 3 && (!std::memcmp(place, "dnl", 3) ||
                                                          !std::memcmp(place, "rem", 3));
                return is_mark && (end - place == 3 || !is_word(place[3])) ? place + 3 : place;
            }
            default:
                return place;
        }
    }

    // Behind what starts a line before its text: blanks, the mark of a comment, one blank.
    const uint8_t *behind_line_start(const uint8_t *line) const {
        const uint8_t *place = line;
        while (place < end && is_blank(*place)) ++place;
        const uint8_t *stop = behind_mark(place);
        if (stop == place) return line;
        return stop < end && is_blank(*stop) ? stop + 1 : stop;
    }

    // Behind the end of a comment that ends the line, and blanks; `place` when none stands there.
    const uint8_t *behind_comment_end(const uint8_t *place) const {
        const uint8_t *stop = behind(place, '*');
        if (stop == place || stop == end || *stop != '/') return place;
        for (++stop; stop < end && is_blank(*stop);) ++stop;
        return stop == end || *stop == '\n' ? stop : place;
    }
};

}  // namespace

uint64_t s7_plain_text(const uint8_t *text, uint64_t n_bytes, uint8_t *out) {
    const Piece piece{text + n_bytes};
    uint8_t *written = out;
    bool after_gap = false;
    const uint8_t *at = piece.behind_line_start(text);
    while (at < piece.end) {
        const uint8_t code = *at;
        if (code == '*') {
            if (const uint8_t *stop = piece.behind_comment_end(at); stop != at) {
                at = stop;
                continue;
            }
            // The run ends no comment, so it is not examined again.
            at = piece.behind(at, '*');
        } else {
            ++at;
        }
        if (!is_gap(code)) {
            *written++ = static_cast<uint8_t>(code >= 'A' && code <= 'Z' ? code | 0x20 : code);
            after_gap = false;
            continue;
        }
        if (!after_gap) *written++ = ' ';
        after_gap = true;
        if (code == '\n') at = piece.behind_line_start(at);
    }
    return static_cast<uint64_t>(written - out);
}

uint64_t s7_plain_words(const uint8_t *text, uint64_t n_bytes, uint8_t *out) {
    uint8_t *written = out;
    bool is_inside = false;
    for (uint64_t i = 0; i < n_bytes; ++i) {
        const uint8_t code = text[i];
        const bool is_kept = code >= 128 || (is_word(code) && code != '_');
        if (is_kept) {
            if (!is_inside && written != out) *written++ = ' ';
            *written++ = code;
        }
        is_inside = is_kept;
    }
    return static_cast<uint64_t>(written - out);
}
