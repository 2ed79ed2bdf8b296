// Words, runs of words, measures and hints. The definitions are those of sevenfold.corpus.steps.shingles,
// whose NumPy is the oracle.
#include <algorithm>
#include <array>

#include "s7corpus.h"

namespace {

constexpr uint64_t P = 0x9E3779B97F4A7C15, Q = 0xD1342543DE82EF95;

// What a byte counts in a word; 0: it is in none.
constexpr std::array<uint16_t, 256> values() {
    std::array<uint16_t, 256> table{};
    for (uint16_t code = 0; code < 256; ++code) {
        const bool is_letter = (code >= 'A' && code <= 'Z') || (code >= 'a' && code <= 'z');
        if (is_letter) table[code] = static_cast<uint16_t>((code | 0x20) + 1);
        else if ((code >= '0' && code <= '9') || code == '_' || code >= 128) table[code] = static_cast<uint16_t>(code + 1);
    }
    return table;
}
constexpr std::array<uint16_t, 256> VALUES = values();

uint64_t mix(uint64_t h) {
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9;
    h = (h ^ h >> 27) * 0x94D049BB133111EB;
    return h ^ h >> 31;
}

}  // namespace

uint64_t s7_words(const uint8_t* text, uint64_t n_bytes, uint64_t block, uint64_t* out) {
    uint64_t n = 0;
    for (uint64_t start = 0; start < n_bytes;) {
        uint64_t stop = n_bytes;
        if (n_bytes - start > block) {
            stop = start + block;
            while (stop > start && VALUES[text[stop - 1]]) --stop;
            if (stop == start) stop = start + block;
        }
        for (uint64_t i = start; i < stop;) {
            if (!VALUES[text[i]]) {
                ++i;
                continue;
            }
            uint64_t sum = 0;
            for (uint64_t power = 1; i < stop && VALUES[text[i]]; ++i, power *= P) sum += VALUES[text[i]] * power;
            out[n++] = mix(sum);
        }
        start = stop;
    }
    return n;
}

namespace {

// Calls `take` with the hash of every run of `length` words, in order.
template <typename Take>
void each_run(const uint64_t* words, uint64_t n_words, uint64_t length, Take take) {
    if (!length || n_words < length) return;
    uint64_t sum = 0, highest = 1;
    for (uint64_t i = 0; i < length; ++i) sum = sum * Q + words[i];
    for (uint64_t i = 1; i < length; ++i) highest *= Q;
    for (uint64_t i = 0;; ++i) {
        take(mix(sum));
        if (i + length >= n_words) return;
        sum = (sum - words[i] * highest) * Q + words[i + length];
    }
}

}  // namespace

void s7_runs(const uint64_t* words, uint64_t n_words, uint64_t length, uint64_t* out) {
    each_run(words, n_words, length, [&](uint64_t hash) { *out++ = hash; });
}

uint64_t s7_likely_runs(const uint64_t* words, uint64_t n_words, uint64_t length, const uint8_t* tables, uint32_t bits, uint64_t* out) {
    const uint8_t* second = tables + (uint64_t{1} << bits) / 8;
    const auto is_marked = [](const uint8_t* table, uint64_t place) { return table[place >> 3] >> (place & 7) & 1; };
    uint64_t n = 0;
    each_run(words, n_words, length, [&](uint64_t hash) {
        if (is_marked(tables, hash >> (64 - bits)) && is_marked(second, hash << bits >> (64 - bits))) out[n++] = hash;
    });
    return n;
}

s7_measures s7_measure(const uint8_t* text, uint64_t n_bytes) {
    s7_measures m{};
    uint64_t word = 0, line = 0;  // where they start
    for (uint64_t i = 0; i < n_bytes; ++i) {
        const uint8_t code = text[i];
        m.n_digits += static_cast<uint8_t>(code - '0') < 10;
        m.n_letters += static_cast<uint8_t>((code | 0x20) - 'a') < 26 || code >= 128;
        if (code > 32) continue;
        m.longest_word = std::max(m.longest_word, i - word);
        word = i + 1;
        if (code != '\n') continue;
        ++m.n_lines;
        m.longest_line = std::max(m.longest_line, i - line);
        line = i + 1;
    }
    m.longest_word = std::max(m.longest_word, n_bytes - word);
    m.longest_line = std::max(m.longest_line, n_bytes - line);
    m.n_lines += line < n_bytes || !n_bytes;
    return m;
}

namespace {
bool is_digit(uint8_t code) { return static_cast<uint8_t>(code - '0') < 10; }
bool is_capital(uint8_t code) { return static_cast<uint8_t>(code - 'A') < 26; }
bool is_key(uint8_t code) { return VALUES[code] ? code < 128 : code == '/' || code == '+' || code == '=' || code == '-'; }
}  // namespace

uint32_t s7_hints(const uint8_t* text, uint64_t n_bytes) {
    uint32_t hints = 0;
    uint64_t n_digits = 0, n_keys = 0;
    bool after_quote = false;
    for (uint64_t i = 0; i < n_bytes; ++i) {
        const uint8_t code = text[i];
        if (is_digit(code)) {
            if (++n_digits >= 16) hints |= S7_SIXTEEN_DIGITS;
            if (i >= 2 && is_capital(text[i - 1]) && is_capital(text[i - 2])) hints |= S7_CAPITALS_AND_DIGIT;
        } else if (code != ' ' && code != '-') {
            n_digits = 0;
        }
        if (code == '"' || code == '\'') {
            if (after_quote && n_keys >= 20) hints |= S7_QUOTED_KEY;
            after_quote = true, n_keys = 0;
        } else if (is_key(code)) {
            ++n_keys;
        } else {
            after_quote = false;
        }
    }
    return hints;
}
