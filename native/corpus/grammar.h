// What a tree-sitter grammar is made of: the layout that generated parsers share with the library
// (interface versions 13 to 15), and look-ups.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <vector>

namespace s7corpus {

struct Lexer {
    int32_t lookahead;
    uint16_t result_symbol;
    void (*advance)(Lexer *, bool);
    void (*mark_end)(Lexer *);
    uint32_t (*get_column)(Lexer *);
    bool (*is_at_included_range_start)(const Lexer *);
    bool (*eof)(const Lexer *);
    void (*log)(const Lexer *, const char *, ...);
};

enum Kind : uint8_t { SHIFT, REDUCE, ACCEPT, RECOVER };

union Action {
    uint8_t kind;
    struct {
        uint8_t kind;
        uint16_t state;
        bool extra, repetition;
    } shift;
    struct {
        uint8_t kind, n_children;
        uint16_t symbol;
        int16_t precedence;
        uint16_t production;
    } reduce;
};

union ActionEntry {
    Action action;
    struct {
        uint8_t count;
        bool reusable;
    } entry;
};

struct LexMode {
    uint16_t state, external, reserved;
    bool operator==(const LexMode &) const = default;
};

struct Metadata {
    bool visible, named, supertype;
};

struct Language {
    uint32_t abi_version, n_symbols, n_aliases, n_tokens, n_external, n_states, n_large_states,
        n_productions, n_fields;
    uint16_t max_alias_length;
    const uint16_t *table, *small_table;
    const uint32_t *small_table_map;
    const ActionEntry *actions;
    const char *const *symbol_names, *const *field_names;
    const void *field_slices, *field_entries;
    const Metadata *metadata;
    const uint16_t *public_symbols, *alias_map, *alias_sequences;
    const void *lex_modes;  // of two numbers before version 15
    bool (*lex)(Lexer *, uint16_t);
    bool (*lex_keyword)(Lexer *, uint16_t);
    uint16_t capture;  // the token of which keywords are cut
    struct {
        const bool *states;
        const uint16_t *symbols;
        void *(*create)();
        void (*destroy)(void *);
        bool (*scan)(void *, Lexer *, const bool *);
        unsigned (*serialize)(void *, char *);
        void (*deserialize)(void *, const char *, unsigned);
    } scanner;
    const uint16_t *primary_states;
    const char *name;  // from version 15 on
    const uint16_t *reserved_words;
    uint16_t max_reserved_words;
};

constexpr uint16_t END = 0, NO_LOOKAHEAD = 0xffff;

// The tables of one language, unpacked: one cell for each state and symbol.
class Grammar {
  public:
    explicit Grammar(const Language &language)
        : is(language), cells_(size_t{language.n_states} * language.n_symbols) {
        for (uint32_t state = 0; state < is.n_states; ++state) {
            uint16_t *row = &cells_[size_t{state} * is.n_symbols];
            if (state < is.n_large_states) {
                for (uint32_t s = 0; s < is.n_symbols; ++s)
                    row[s] = is.table[size_t{state} * is.n_symbols + s];
                continue;
            }
            const uint16_t *data = is.small_table + is.small_table_map[state - is.n_large_states];
            for (uint16_t group = *data++; group; --group) {
                const uint16_t value = *data++;
                for (uint16_t n = *data++; n; --n) row[*data++] = value;
            }
        }
        for (uint32_t state = 0; state < is.n_states; ++state) {
            const auto *modes = static_cast<const uint16_t *>(is.lex_modes);
            const bool has_reserved = is.abi_version >= 15;
            const uint16_t *mode = modes + size_t{state} * (has_reserved ? 3 : 2);
            modes_.push_back({mode[0], mode[1], has_reserved ? mode[2] : uint16_t{0}});
        }
    }

    // Index into the actions for a token, or the next state for anything else; 0: none.
    uint16_t cell(uint16_t state, uint16_t symbol) const {
        return cells_[size_t{state} * is.n_symbols + symbol];
    }
    const ActionEntry &entry(uint16_t state, uint16_t token) const {
        return is.actions[cell(state, token)];
    }
    const LexMode &mode(uint16_t state) const { return modes_[state]; }

    uint16_t next_state(uint16_t state, uint16_t symbol) const {
        if (symbol >= is.n_tokens) return cell(state, symbol);
        const ActionEntry *found = &entry(state, symbol);
        if (!found->entry.count) return 0;
        const Action &last = found[found->entry.count].action;
        return last.kind != SHIFT ? uint16_t{0} : last.shift.extra ? state : last.shift.state;
    }

    bool is_reserved(uint16_t state, uint16_t symbol) const {
        const uint16_t set = mode(state).reserved;
        if (!set) return false;
        const uint16_t *words = is.reserved_words + size_t{set} * is.max_reserved_words;
        for (uint16_t i = 0; i < is.max_reserved_words && words[i]; ++i)
            if (words[i] == symbol) return true;
        return false;
    }

    const Language &is;

  private:
    std::vector<uint16_t> cells_;
    std::vector<LexMode> modes_;
};

}  // namespace s7corpus
