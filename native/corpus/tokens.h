// Tokens of a text, as tree-sitter's driver asks a grammar's lexer, its external scanner and its table of keywords for them.
//
// What these say depends on nothing but the mode, the scanner's memory and the bytes that they look at. So answers are remembered
// with those bytes, and most tokens of a program (its words, brackets and line ends) are looked up.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string>
#include <unordered_map>
#include <vector>

#include "cursor.h"
#include "grammar.h"

namespace s7corpus {

struct Token {
    uint16_t symbol, state;  // in which it was read
    uint32_t start, end, memory;
    bool is_external, is_keyword, is_null;
};

class Tokens {
  public:
    explicit Tokens(const Grammar& grammar);
    ~Tokens();
    Tokens(const Tokens&) = delete;
    Tokens& operator=(const Tokens&) = delete;

    void open(const uint8_t* text, uint32_t n_bytes);
    // The token behind a place, for a state of the parser and what the scanner remembers there. False: what is there is none.
    bool find(uint32_t place, uint32_t memory, uint16_t state, Token& token);
    const uint8_t* text() const { return cursor_.text; }

  private:
    enum Known : uint8_t { NOTHING, ANSWER, LONGER };  // LONGER: the lexer looks at more than these bytes
    static constexpr uint32_t WINDOW = 32, N_ANSWERS = 1 << 13;
    // What lexers say about some bytes, whatever the parser's state. A line of the cache, not remembered: start and end are offsets.
    struct alignas(64) Answer {
        uint64_t bytes[WINDOW / 8], mode;
        uint32_t start, end, memory;
        uint16_t symbol, keyword;
        bool is_external, is_keyword, is_empty;  // empty: of an external token that changes nothing
        Known known;
    };

    bool reusable(const Token& token, uint16_t state) const;
    bool lex(uint32_t place, uint32_t memory, uint16_t state, Token& token);
    const Answer* remembered(uint32_t place, uint32_t memory, const LexMode& mode);
    Answer& look_up(uint32_t place, uint32_t n_bytes, uint64_t mode);
    bool ask(uint32_t place, uint32_t memory, const LexMode& mode, bool with_scanner, Answer& answer);
    bool scan(uint32_t memory, const LexMode& mode, Answer& answer);
    uint32_t remember(const char* bytes, uint32_t n);

    const Grammar& grammar_;
    void* scanner_ = nullptr;
    Cursor cursor_;
    std::vector<Answer> answers_;
    std::vector<std::string> memories_;  // of the external scanner, each once; the first is empty
    std::unordered_map<std::string, uint32_t> places_;
    Token cached_;
    uint32_t cached_place_, cached_memory_;
    bool has_cached_;
};

}  // namespace s7corpus
