// Measures of a text and hints of what may be in it, 64 bytes at a time. Oracles: measures.py
// (NumPy) and the patterns of secrets.py.
#include <random>
#include <vector>

#include "masks.h"
#include "s7corpus.h"

using namespace s7corpus;

s7_measures s7_measure(const uint8_t *text, uint64_t n_bytes) {
    s7_measures m{};
    uint64_t word = 0, line = 0;  // where they start
    for (uint64_t start = 0; start < n_bytes; start += 64) {
        const Bytes64 bytes(text + start, n_bytes - start);
        m.n_digits += static_cast<uint64_t>(__builtin_popcountll(bytes.between('0', '9')));
        m.n_letters += static_cast<uint64_t>(
            __builtin_popcountll(bytes.letters() | bytes.between(0x80, 0xff)));
        const uint64_t spaces = bytes.between(0, ' ');
        if (const uint64_t controls = spaces & ~bytes.equal(' ') & ~bytes.equal('\n')) {
            m.n_controls += static_cast<uint64_t>(
                __builtin_popcountll(controls & ~bytes.equal('\t') & ~bytes.between('\f', '\r')));
        }
        // A word ends where a run of spaces starts; the next starts behind the last of them.
        const uint64_t ends = spaces & ~(spaces << 1);
        each_bit(ends, [&](uint64_t i) {
            m.longest_word = std::max(m.longest_word, start + i - std::min(word, start + i));
            const uint64_t beyond = ~(spaces >> i);  // its lowest bit is where the run ends
            word = start + i + (beyond ? static_cast<uint64_t>(__builtin_ctzll(beyond)) : 64);
        });
        each_bit(bytes.equal('\n'), [&](uint64_t i) {
            ++m.n_lines;
            m.longest_line = std::max(m.longest_line, start + i - line);
            line = start + i + 1;
        });
    }
    m.longest_word = std::max(m.longest_word, n_bytes - std::min(word, n_bytes));
    m.longest_line = std::max(m.longest_line, n_bytes - line);
    m.n_lines += line < n_bytes || !n_bytes;
    return m;
}

namespace {

struct Line {
    uint64_t hash, start, n_bytes;
};

uint64_t load(const uint8_t *bytes, uint64_t n) {
    uint64_t value = 0;
    std::memcpy(&value, bytes, std::min<uint64_t>(n, 8));
    return value;
}

// Lines are equal when their bytes are equal. The seed keeps a text from choosing lines whose
// hashes collide. It changes no answer.
uint64_t hash_of(const uint8_t *bytes, uint64_t n) {
    static const uint64_t seed = [] {
        std::random_device device;
        return static_cast<uint64_t>(device()) << 32 | device();
    }();
    uint64_t h = seed ^ n;
    for (uint64_t i = 0; i < n; i += 8) {
        const auto product =
            static_cast<unsigned __int128>(h ^ load(bytes + i, n - i)) * (seed | 1);
        h = (static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64)) +
            0x9E3779B97F4A7C15;
    }
    return h ^ h >> 29;
}

}  // namespace

int64_t s7_distinct_lines(const uint8_t *text, uint64_t n_bytes) try {
    const uint64_t n_lines = static_cast<uint64_t>(std::count(text, text + n_bytes, '\n')) + 1;
    uint64_t room = 16;
    while (room < 2 * n_lines) room *= 2;
    std::vector<Line> table(room, Line{0, 0, UINT64_MAX});
    uint64_t sum = 0;
    for (uint64_t start = 0; start <= n_bytes;) {
        const void *found =
            start < n_bytes ? std::memchr(text + start, '\n', n_bytes - start) : nullptr;
        const uint64_t n =
            (found ? static_cast<uint64_t>(static_cast<const uint8_t *>(found) - text) : n_bytes) -
            start;
        const uint64_t hash = hash_of(text + start, n);
        uint64_t place = hash & (room - 1);
        for (;; place = (place + 1) & (room - 1)) {
            const Line &line = table[place];
            if (line.n_bytes == UINT64_MAX) {
                table[place] = {hash, start, n};
                sum += n;
                break;
            }
            if (line.hash == hash && line.n_bytes == n &&
                !std::memcmp(text + line.start, text + start, n))
                break;
        }
        start += n + 1;
    }
    return static_cast<int64_t>(sum);
} catch (const std::bad_alloc &) {
    return S7_NO_MEMORY;
}

namespace {

using Wide = unsigned __int128;  // the block before, in the low half, and this one

// Where a run of `n` bits starts (it may be longer).
Wide runs_of(Wide mask, unsigned n) {
    for (unsigned have = 1; have < n;) {
        const unsigned more = std::min(have, n - have);
        mask &= mask >> more;
        have += more;
    }
    return mask;
}

bool is_digit(uint8_t code) { return static_cast<uint8_t>(code - '0') < 10; }
bool is_capital(uint8_t code) { return static_cast<uint8_t>(code - 'A') < 26; }
bool is_word(uint8_t code) { return is_digit(code) || is_capital(code & 0xdf) || code == '_'; }
bool is_key(uint8_t code) {
    return is_word(code) || code == '/' || code == '+' || code == '=' || code == '-';
}
bool is_space(uint8_t code) { return code == ' ' || (code >= '\t' && code <= '\r'); }

// A text, for questions about a position in it.
struct Asked {
    const uint8_t *text;
    uint64_t n_bytes;

    template <typename Is> bool all(uint64_t i, uint64_t n, Is is) const {
        return i + n <= n_bytes && std::all_of(text + i, text + i + n, is);
    }

    // The key bytes from `i` on, behind a quote: whether the quote is behind a colon or an equals
    // sign and at most three white spaces, and another stands at their end.
    bool has_assigned_key(uint64_t i) const {
        uint64_t before = i - 1;
        for (int n = 0; n < 3 && before && is_space(text[before - 1]); ++n) --before;
        if (!before || (text[before - 1] != ':' && text[before - 1] != '=')) return false;
        while (i < n_bytes && is_key(text[i])) ++i;
        return i < n_bytes && (text[i] == '"' || text[i] == '\'');
    }

    bool has_card(uint64_t i) const {
        if (text[i] != '4' && text[i] != '5') return false;
        if (i && (is_word(text[i - 1]) || text[i - 1] == '.' || text[i - 1] == '-')) return false;
        if (!all(i, 4, is_digit)) return false;
        const bool is_apart = i + 4 < n_bytes && (text[i + 4] == ' ' || text[i + 4] == '-');
        for (uint64_t group = 1; group < 4; ++group) {
            const uint64_t place = i + group * (4 + is_apart);
            if (!all(place, 4, is_digit) || (is_apart && text[place - 1] != text[i + 4]))
                return false;
        }
        return true;
    }

    // Behind two capitals and two digits: three groups of four, each with a space before it or
    // none.
    bool has_account(uint64_t i) const {
        const auto is_in_group = [](uint8_t code) { return is_digit(code) || is_capital(code); };
        for (int group = 0; group < 3; ++group, i += 4) {
            if (i < n_bytes && text[i] == ' ') ++i;
            if (!all(i, 4, is_in_group)) return false;
        }
        return true;
    }
};

constexpr unsigned KEY_BYTES = 20;

}  // namespace

uint32_t s7_hints(const uint8_t *text, uint64_t n_bytes) {
    const Asked asked{text, n_bytes};
    uint32_t hints = 0;
    uint64_t keys_before = 0, starts_before = 0, quotes_before = 0, capitals_before = 0,
             names_before = 0, plus_before = 0;
    int n_digits_before = 0;
    // Runs of keys that start behind a quote, in the block before `stop`: they may end in the next.
    const auto look_for_keys = [&](uint64_t stop, uint64_t keys) {
        const uint64_t starts =
            starts_before &
            static_cast<uint64_t>(runs_of(static_cast<Wide>(keys) << 64 | keys_before, KEY_BYTES));
        each_bit(starts, [&](uint64_t i) {
            if (asked.has_assigned_key(stop - 64 + i)) hints |= S7_ASSIGNED_KEY;
        });
    };
    uint64_t start = 0;
    for (; start < n_bytes; start += 64) {
        const Bytes64 bytes(text + start, n_bytes - start);
        const uint64_t digits = bytes.between('0', '9'), capitals = bytes.between('A', 'Z');
        const int n_digits = __builtin_popcountll(digits);
        if (n_digits + n_digits_before >= 16) {
            for (uint64_t i = start ? start - 64 : 0; i < std::min(n_bytes, start + 64); ++i)
                hints |= asked.has_card(i) ? S7_CARD : 0;
        }
        const uint64_t second_capitals = capitals & (capitals << 1 | capitals_before >> 63);
        const uint64_t were_capitals = capitals_before >> 63 & capitals_before >> 62 & 1;
        each_bit((second_capitals << 1 | were_capitals) & digits, [&](uint64_t i) {
            if (asked.all(start + i, 2, is_digit) && asked.has_account(start + i + 2))
                hints |= S7_ACCOUNT;
        });
        uint64_t keys = bytes.letters() | digits;
        for (const char code : {'_', '/', '+', '=', '-'})
            keys |= bytes.equal(static_cast<uint8_t>(code));
        if (starts_before) look_for_keys(start, keys);
        const uint64_t quotes = bytes.equal('"') | bytes.equal('\''), plus = bytes.equal('+'),
                       names = keys | bytes.equal('%');
        starts_before = keys & (quotes << 1 | quotes_before >> 63);
        if (bytes.equal('@') & (names << 1 | names_before >> 63)) hints |= S7_ADDRESS;
        if (digits & (plus << 1 | plus_before >> 63)) hints |= S7_PLUS_DIGIT;
        keys_before = keys, quotes_before = quotes, capitals_before = capitals,
        n_digits_before = n_digits;
        names_before = names, plus_before = plus;
    }
    look_for_keys(start, 0);
    return hints;
}
