// Tokens of a text, as tree-sitter's driver asks a grammar's lexer, its external scanner and its
// lexer of keywords for them.
//
// The lexers are tables (automaton.h). The answer of the scanner depends only on the wanted tokens,
// its memory and the bytes that it reads. So its answers are cached with those bytes. Most of them
// say that there is no token here, or what the indentation of a line means.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string>
#include <unordered_map>
#include <vector>

#include "automaton.h"
#include "cursor.h"
#include "grammar.h"

namespace s7corpus {

struct Token {
    uint16_t symbol, state;  // in which it was read
    uint32_t start, end, memory;
    bool is_external, is_keyword, is_null;  // null: of a state in which nothing is read
};

class Tokens {
  public:
    // `with_tables`: false: lexers and scanner are asked for every token, which is the oracle of
    // the tests.
    Tokens(const Grammar &grammar, bool with_tables);
    ~Tokens();
    Tokens(const Tokens &) = delete;
    Tokens &operator=(const Tokens &) = delete;

    void open(const uint8_t *text, uint32_t n_bytes);
    // The token behind a place, for a state of the parser and what the scanner remembers there,
    // until the next call. Null: what is there is none.
    const Token *find(uint32_t place, uint32_t memory, uint16_t state);
    const uint8_t *text() const { return cursor_.text; }

  private:
    enum Known : uint8_t {
        NOTHING,
        SAID,
        LONGER
    };  // LONGER: the scanner looks at more than these bytes
    static constexpr uint32_t WINDOW = 32, N_ANSWERS = 1 << 11;
    struct alignas(64) Answer {  // a line of the processor's cache
        uint64_t bytes[WINDOW / 8], question;
        uint32_t start, end, memory;  // of the token; start and end from the place on
        uint16_t symbol;
        bool is_token, is_empty;  // empty: and nothing is changed
        Known known;
    };

    // Bytes at which the scanner, asked one thing, says nothing at once; the second row: behind a
    // space.
    struct Silence {
        uint64_t question;
        uint64_t bits[2][4];
    };
    static constexpr uint32_t N_SILENCES = 256;

    struct Word {  // of at most 15 bytes, filled up with zeros
        uint64_t bytes[2];
        uint16_t mode, symbol, keyword;
        bool is_keyword;
    };
    static constexpr uint32_t N_WORDS = 1 << 11, WORD_BYTES = 16;

    bool reusable(uint16_t state) const;
    bool lex(uint32_t place, uint32_t memory, uint16_t state);
    bool scan(uint32_t place, uint32_t memory, uint16_t state);
    const Answer &answer(uint32_t place, uint32_t memory, uint16_t mode, Silence &silence);
    Answer &look_up(uint32_t place, uint32_t n_bytes, uint64_t question);
    void ask(uint32_t place, uint32_t memory, uint16_t mode, Answer &answer);
    bool find_word(uint32_t place, uint16_t mode, uint16_t state);
    bool find_token(uint32_t place, uint16_t mode, uint16_t &keyword);
    void settle(uint16_t keyword, uint16_t state);
    bool find_by(const Automaton &table, Automaton::Function function, uint16_t state,
                 uint32_t place, uint16_t &symbol, uint32_t &start, uint32_t &end);
    uint32_t remember(const char *bytes, uint32_t n);

    const Grammar &grammar_;
    const bool with_tables_;
    const Automaton words_, keywords_;
    void *scanner_ = nullptr;
    Cursor cursor_;
    std::vector<Answer> answers_;
    std::vector<Silence> silences_;
    std::vector<Word> known_words_;
    Answer unkept_;
    std::vector<std::string> memories_;  // of the external scanner, each once; the first is empty
    std::unordered_map<std::string, uint32_t> places_;
    Token last_{};
    uint32_t last_place_, last_memory_;
    bool has_last_;
    const Token none_{END, 0, 0, 0, 0, false, false, true};
};

}  // namespace s7corpus
