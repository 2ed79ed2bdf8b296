// The rules of pretokenize.h. A rule is an ordered list of alternatives; each function takes the
// first that matches, as long as it goes.

#include "pretokenize.h"

#include "classes.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace s7tokens {

namespace {

constexpr std::array<Byte, 128> ascii_classes() {
    std::array<Byte, 128> found{};
    for (unsigned c = 0; c < 128; ++c) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) found[c] = LETTER;
        if (c >= '0' && c <= '9') found[c] = NUMBER;
        if (c == ' ' || (c >= '\t' && c <= '\r')) found[c] = SPACE;
    }
    return found;
}

constexpr auto ASCII = ascii_classes();

template <std::size_t n> bool within(const Run (&runs)[n], std::uint32_t code_point) {
    const Run *after =
        std::upper_bound(std::begin(runs), std::end(runs), code_point,
                         [](std::uint32_t value, const Run &run) { return value < run.first; });
    return after != std::begin(runs) && code_point <= after[-1].last;
}

struct Char {
    Byte kind, n_bytes;
};

// A byte that begins no character is one by itself, of kind OTHER.
Char beyond_ascii(const Byte *p, const Byte *end) {
    const unsigned n = *p >= 0xF0 ? 4 : *p >= 0xE0 ? 3 : *p >= 0xC0 ? 2 : 1;
    if (n == 1 || static_cast<std::size_t>(end - p) < n) return {OTHER, 1};
    std::uint32_t code_point = *p & (0xFFu >> (n + 1));
    for (unsigned i = 1; i < n; ++i) {
        if ((p[i] & 0xC0) != 0x80) return {OTHER, 1};
        code_point = code_point << 6 | (p[i] & 0x3F);
    }
    return {class_of(code_point), static_cast<Byte>(n)};
}

inline Char at(const Byte *p, const Byte *end) {
    return *p < 0x80 ? Char{ASCII[*p], 1} : beyond_ascii(p, end);
}

inline const Byte *run(Byte kind, const Byte *p, const Byte *end) {
    while (p < end) {
        const Char c = at(p, end);
        if (c.kind != kind) break;
        p += c.n_bytes;
    }
    return p;
}

inline bool is_line_end(Byte c) { return c == '\n' || c == '\r'; }
inline bool is_blank(Byte c) { return c == ' ' || c == '\t'; }

// [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3}; null when neither matches.
inline const Byte *word_or_number(const Byte *p, const Byte *end, Char c) {
    if (c.kind == LETTER) return run(LETTER, p + c.n_bytes, end);
    if (c.kind == NUMBER) {
        const Byte *q = p + c.n_bytes;
        for (int more = 2; more > 0 && q < end; --more) {
            const Char next = at(q, end);
            if (next.kind != NUMBER) break;
            q += next.n_bytes;
        }
        return q;
    }
    if (!is_line_end(*p)) {
        const Byte *q = run(LETTER, p + c.n_bytes, end);
        if (q > p + c.n_bytes) return q;
    }
    return nullptr;
}

// ' ?[^\s\p{L}\p{N}]+'; null when it does not match.
inline const Byte *marks(const Byte *p, const Byte *end, Char c) {
    if (c.kind == OTHER) return run(OTHER, p + c.n_bytes, end);
    if (*p != ' ') return nullptr;
    const Byte *q = run(OTHER, p + 1, end);
    return q > p + 1 ? q : nullptr;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d); null when it does not match. U+017F is an s of another case.
const Byte *contraction(const Byte *p, const Byte *end) {
    if (*p != '\'' || end - p < 2) return nullptr;
    const auto lower = [](Byte c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; };
    const int first = lower(p[1]), second = end - p > 2 ? lower(p[2]) : 0;
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
    if ((first == 'r' || first == 'v') && second == 'e') return p + 3;
    if (first == 'l' && second == 'l') return p + 3;
    if (end - p > 2 && p[1] == 0xC5 && p[2] == 0xBF) return p + 3;
    return nullptr;
}

}  // namespace

Class class_of(std::uint32_t code_point) {
    if (code_point < 0x80) return static_cast<Class>(ASCII[code_point]);
    return within(LETTERS, code_point)   ? LETTER
           : within(NUMBERS, code_point) ? NUMBER
           : within(SPACES, code_point)  ? SPACE
                                         : OTHER;
}

const Byte *code_piece(const Byte *p, const Byte *end) {
    const Char c = at(p, end);
    if (const Byte *q = word_or_number(p, end, c)) return q;
    if (const Byte *q = marks(p, end, c)) return q;
    const Byte *q = p;
    if (is_line_end(*p)) {  // [\r\n]+[ \t]*
        while (q < end && is_line_end(*q)) ++q;
        while (q < end && is_blank(*q)) ++q;
        return q;
    }
    while (q < end && is_blank(*q)) ++q;  // [ \t]+(?!\S)
    if (q > p && (q == end || at(q, end).kind == SPACE)) return q;
    if (q - p > 1) return q - 1;
    return run(SPACE, p, end);  // \s+
}

const Byte *llama3_piece(const Byte *p, const Byte *end) {
    if (const Byte *q = contraction(p, end)) return q;
    const Char c = at(p, end);
    if (const Byte *q = word_or_number(p, end, c)) return q;
    if (const Byte *q = marks(p, end, c)) {
        while (q < end && is_line_end(*q)) ++q;
        return q;
    }
    const Byte *after_line_end = nullptr, *last = p, *q = p;
    while (q < end) {
        const Char next = at(q, end);
        if (next.kind != SPACE) break;
        last = q;
        q += next.n_bytes;
        if (is_line_end(*last)) after_line_end = q;
    }
    if (after_line_end) return after_line_end;  // \s*[\r\n]+
    return q == end || last == p ? q : last;    // \s+(?!\S) | \s+
}

void Symbols::add(Symbol symbol) {
    by_first_[static_cast<Byte>(symbol.bytes[0])].push_back(std::move(symbol));
    ++n_symbols_;
}

const Byte *Symbols::match(const Byte *p, const Byte *end, bool after_blank) const {
    for (const Symbol &symbol : by_first_[*p]) {
        const std::size_t n = symbol.bytes.size();
        if (after_blank && !(symbol.flags & BLANK_BEFORE)) continue;
        if (static_cast<std::size_t>(end - p) < n || std::memcmp(p, symbol.bytes.data(), n) != 0)
            continue;
        const Byte *q = p + n;
        if (q < end && symbol.flags & NO_WORD_AFTER) {
            const Byte kind = at(q, end).kind;
            if (kind == LETTER || kind == NUMBER || *q == '_') continue;
        }
        if (q < end && symbol.flags & NO_QUOTE_AFTER && *q == '\'') continue;
        return q;
    }
    return nullptr;
}

bool Symbols::find(const Byte *p, const Byte *end, const Byte *&first, const Byte *&last) const {
    for (; p < end; ++p) {
        const bool blank = *p == ' ' && p + 1 < end;
        last = blank ? match(p + 1, end, true) : match(p, end, false);
        if (last) {
            first = p;
            return true;
        }
    }
    return false;
}

}  // namespace s7tokens
