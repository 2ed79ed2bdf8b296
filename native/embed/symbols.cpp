// An expression is taken only if it is letter for letter what its symbols would give.
#include "symbols.h"

#include "tokenizer_form.h"
#include "tokens.h"
#include "utf8.h"

namespace s7f {

namespace {

constexpr u8 kBlankBefore = 1, kNoWordAfter = 2, kNoQuoteAfter = 4;
constexpr Slice kAfter = "(?![\\p{L}\\p{N}_])", kAfterQuote = "(?![\\p{L}\\p{N}_'])";

bool is_special(char c) { return c != '\0' && std::strchr(kEscaped.data, c) != nullptr; }

bool ends_with(const Slice &text, const Slice &end) {
    return text.n >= end.n && text.from(text.n - end.n) == end;
}

// Whether a symbol has neither letters nor digits. A blank before such a symbol belongs to it.
bool is_marks(const Slice &symbol) {
    for (size_t i = 0; i < symbol.n;) {
        const size_t length = utf8_length(symbol.bytes() + i, symbol.n - i);
        const int kind = s7_tokens_class(utf8_code_point(symbol.bytes() + i, length));
        if (kind == 1 || kind == 2) return false;
        i += length;
    }
    return true;
}

size_t n_characters(const Slice &text) {
    size_t n = 0;
    for (size_t i = 0; i < text.n; ++i) n += (text.bytes()[i] & 0xC0) != 0x80;
    return n;
}

// Where an alternative that begins at `at` ends: the next bar that no backslash precedes and no
// brackets hold.
size_t end_of(const Slice &pattern, size_t at) {
    bool inside = false;
    for (; at < pattern.n; ++at) {
        if (pattern.data[at] == '\\') {
            ++at;
            continue;
        }
        if (pattern.data[at] == '[') inside = true;
        if (pattern.data[at] == ']') inside = false;
        if (pattern.data[at] == '|' && !inside) break;
    }
    return at < pattern.n ? at : pattern.n;
}

}  // namespace

s7f_status Symbols::read(const Slice &pattern) {
    Slice before;
    for (size_t at = 0; at <= pattern.n;) {
        const size_t end = end_of(pattern, at);
        Slice body(pattern.data + at, end - at);
        at = end + 1;
        const bool marks = body.starts_with(" ?");
        if (marks) body = body.from(2);
        const bool quote = !marks && ends_with(body, kAfterQuote);
        const Slice after = quote ? kAfterQuote : kAfter;
        if (!marks && !ends_with(body, after)) return S7F_TOKENIZER;
        if (!marks) body = body.first(body.n - after.n);
        const size_t begin = bytes.size();
        for (size_t i = 0; i < body.n; ++i) {
            const bool escaped = body.data[i] == '\\';
            i += escaped;
            // A line end behind a backslash is one that Python does not find again.
            if (i >= body.n || body.data[i] == '\n' || is_special(body.data[i]) != escaped)
                return S7F_TOKENIZER;
            if (!bytes.push(body.data[i])) return S7F_MEMORY;
        }
        const Slice symbol(bytes.data() + begin, bytes.size() - begin);
        if (symbol.n == 0 || symbol.data[0] == ' ' || is_marks(symbol) != marks ||
            (!marks && quote != (symbol.data[0] == '\'')))
            return S7F_TOKENIZER;
        // The longest first, then by code points.
        if (!ends.empty()) {
            const size_t start = ends.size() > 1 ? ends[ends.size() - 2] : 0;
            before = {bytes.data() + start, begin - start};
            const size_t longer = n_characters(before), now = n_characters(symbol);
            if (longer < now || (longer == now && compare(before, symbol) > 0))
                return S7F_TOKENIZER;
        }
        const u8 flag = marks ? kBlankBefore : quote ? kNoWordAfter | kNoQuoteAfter : kNoWordAfter;
        if (!ends.push(static_cast<u32>(bytes.size())) || !flags.push(flag)) return S7F_MEMORY;
    }
    return S7F_OK;
}

}  // namespace s7f
