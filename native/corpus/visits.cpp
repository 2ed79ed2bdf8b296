// A text through an automaton over bytes, as models of language take it; the tables are those of
// py3langid, which is the oracle.
#include <new>
#include <vector>

#include "s7corpus.h"

int64_t s7_visits(const s7_automaton *automaton, const uint8_t *text, uint64_t n_bytes,
                  int64_t *features, uint32_t *counts) try {
    uint64_t room = 16;
    while (room < 2 * n_bytes) room *= 2;
    std::vector<uint32_t> table(room);  // number in `features` + 1
    int64_t n = 0;
    for (uint64_t i = 0, state = 0; i < n_bytes; ++i) {
        state = automaton->next[static_cast<uint64_t>(automaton->rows[state]) << 8 | text[i]];
        const int64_t feature = automaton->features[state];
        if (feature < 0) continue;
        uint64_t place = static_cast<uint64_t>(feature) * 0x9E3779B1u & (room - 1);
        while (table[place] && features[table[place] - 1] != feature)
            place = (place + 1) & (room - 1);
        if (!table[place]) {
            features[n] = feature, counts[n] = 0;
            table[place] = static_cast<uint32_t>(++n);
        }
        ++counts[table[place] - 1];
    }
    return n;
} catch (const std::bad_alloc &) {
    return S7_NO_MEMORY;
}
