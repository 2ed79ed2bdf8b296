// Words and runs of words. The definitions are those of sevenfold.corpus.text.ngrams,
// whose NumPy is the oracle.
#include <array>

#include "s7corpus.h"

namespace {

constexpr uint64_t P = 0x9E3779B97F4A7C15, Q = 0xD1342543DE82EF95;

// What a byte counts in a word; 0: it is in none.
constexpr std::array<uint16_t, 256> values() {
    std::array<uint16_t, 256> table{};
    for (uint16_t code = 0; code < 256; ++code) {
        const bool is_letter = (code >= 'A' && code <= 'Z') || (code >= 'a' && code <= 'z');
        if (is_letter)
            table[code] = static_cast<uint16_t>((code | 0x20) + 1);
        else if ((code >= '0' && code <= '9') || code == '_' || code >= 128)
            table[code] = static_cast<uint16_t>(code + 1);
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

uint64_t s7_words(const uint8_t *text, uint64_t n_bytes, uint64_t block, uint64_t *out) {
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
            for (uint64_t power = 1; i < stop && VALUES[text[i]]; ++i, power *= P)
                sum += VALUES[text[i]] * power;
            out[n++] = mix(sum);
        }
        start = stop;
    }
    return n;
}

namespace {

// Calls `take` with the hash of every run of `length` words, in order.
template <typename Take>
void each_run(const uint64_t *words, uint64_t n_words, uint64_t length, Take take) {
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

void s7_runs(const uint64_t *words, uint64_t n_words, uint64_t length, uint64_t *out) {
    each_run(words, n_words, length, [&](uint64_t hash) { *out++ = hash; });
}

uint64_t s7_likely_runs(const uint64_t *words, uint64_t n_words, uint64_t length,
                        const uint8_t *tables, uint32_t bits, uint64_t *out) {
    const uint8_t *second = tables + (uint64_t{1} << bits) / 8;
    const auto is_marked = [](const uint8_t *table, uint64_t place) {
        return table[place >> 3] >> (place & 7) & 1;
    };
    uint64_t n = 0;
    each_run(words, n_words, length, [&](uint64_t hash) {
        if (is_marked(tables, hash >> (64 - bits)) &&
            is_marked(second, hash << bits >> (64 - bits)))
            out[n++] = hash;
    });
    return n;
}
