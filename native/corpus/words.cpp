// Words and runs of words. The definitions are those of sevenfold.corpus.text.ngrams,
// whose NumPy is the oracle.
#include <algorithm>
#include <array>
#include <new>
#include <vector>

#include "s7corpus.h"

namespace {

constexpr uint64_t P = 0x9E3779B97F4A7C15, Q = 0xD1342543DE82EF95;

// The value of a byte in the hash of a word, or 0 for a byte that separates words.
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
    // The tables are larger than the caches, so their places are asked for some hashes ahead.
    constexpr uint64_t N_AHEAD = 16;
    uint64_t ahead[N_AHEAD], n = 0, n_run = 0;
    const auto take = [&](uint64_t hash) {
        if (is_marked(tables, hash >> (64 - bits)) &&
            is_marked(second, hash << bits >> (64 - bits)))
            out[n++] = hash;
    };
    each_run(words, n_words, length, [&](uint64_t hash) {
        __builtin_prefetch(tables + (hash >> (64 - bits) >> 3));
        uint64_t &kept = ahead[n_run % N_AHEAD];
        if (n_run++ >= N_AHEAD) take(kept);
        kept = hash;
    });
    for (uint64_t i = n_run < N_AHEAD ? 0 : n_run - N_AHEAD; i < n_run; ++i)
        take(ahead[i % N_AHEAD]);
    return n;
}

int64_t s7_n_different(const uint64_t *hashes, uint64_t n) {
    uint64_t size = 64;
    while (size < 2 * n) size *= 2;
    try {
        std::vector<uint64_t> table(size);
        int64_t n_different = 0;
        bool has_zero = false;
        for (uint64_t i = 0; i < n; ++i) {
            // Zero stands for a free place.
            if (!hashes[i]) {
                n_different += !has_zero, has_zero = true;
                continue;
            }
            uint64_t at = hashes[i] & (size - 1);
            while (table[at] && table[at] != hashes[i]) at = (at + 1) & (size - 1);
            n_different += !table[at];
            table[at] = hashes[i];
        }
        return n_different;
    } catch (const std::bad_alloc &) {
        return S7_NO_MEMORY;
    }
}

uint64_t s7_find_sorted(const uint64_t *set, uint64_t n_set, const uint8_t *marks, uint32_t bits,
                        const uint64_t *asked, uint64_t n_asked, int64_t *found, int64_t *places) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < n_asked; ++i) {
        const uint64_t mark = asked[i] >> (64 - bits);
        if (!(marks[mark >> 3] >> (mark & 7) & 1)) continue;
        const uint64_t *place = std::lower_bound(set, set + n_set, asked[i]);
        if (place == set + n_set || *place != asked[i]) continue;
        found[n] = static_cast<int64_t>(i), places[n] = place - set;
        ++n;
    }
    return n;
}
