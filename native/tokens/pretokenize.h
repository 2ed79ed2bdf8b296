/* Pieces of text that no token crosses: the two rules of `sevenfold.tokenizer.pieces`, written out,
 * and protected symbols. */
#ifndef S7_TOKENS_CUT_H
#define S7_TOKENS_CUT_H

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace s7tokens {

using Byte = std::uint8_t;
enum Class : Byte { OTHER, LETTER, NUMBER, SPACE };

Class class_of(std::uint32_t code_point);

/* Where the piece that begins at `p` ends; p < end. */
using Rule = const Byte *(*)(const Byte *p, const Byte *end);
const Byte *code_piece(const Byte *p, const Byte *end);
const Byte *llama3_piece(const Byte *p, const Byte *end);

enum SymbolFlag : Byte { BLANK_BEFORE = 1, NO_WORD_AFTER = 2, NO_QUOTE_AFTER = 4 };

struct Symbol {
    std::string bytes;
    Byte flags;
};

/* Symbols in the order in which they are tried, found by their first byte. */
class Symbols {
  public:
    void add(Symbol symbol);
    bool empty() const { return n_symbols_ == 0; }
    /* The leftmost symbol from `p` on: true with where it begins and ends. */
    bool find(const Byte *p, const Byte *end, const Byte *&first, const Byte *&last) const;

  private:
    const Byte *match(const Byte *p, const Byte *end, bool after_blank) const;

    std::array<std::vector<Symbol>, 256> by_first_;
    std::size_t n_symbols_ = 0;
};

/* `take(first, last)` for every piece, in order. */
template <class Take>
void cut(Rule rule, const Symbols &symbols, const Byte *text, const Byte *end, const Take &take) {
    const auto pieces = [&](const Byte *p, const Byte *stop) {
        while (p < stop) {
            const Byte *next = rule(p, stop);
            take(p, next);
            p = next;
        }
    };
    const Byte *first, *last;
    while (!symbols.empty() && symbols.find(text, end, first, last)) {
        pieces(text, first);
        pieces(first, last);
        text = last;
    }
    pieces(text, end);
}

}  // namespace s7tokens
#endif
