// One text through the automaton of a tree-sitter grammar, without tree-sitter: for texts that have no error, the same tree.
//
// tree-sitter's driver is made for editing: reference counts, error costs, reuse. This one keeps a plain stack for each
// reading of the text and gives up ("unsure") where tree-sitter would begin to repair, or where it would have to choose between more
// readings than it follows. So no text is called clean in which tree-sitter finds an error.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <utility>
#include <vector>

#include "cursor.h"
#include "grammar.h"

namespace s7corpus {

struct Node {
    uint16_t symbol, production;
    uint32_t start, end;              // bytes, without what separates it from the node before
    uint32_t first_child, n_children;  // in `Tree::children`
    uint32_t n_visible_children, n_visible_below;
    int32_t precedence;
    bool extra;
};

struct Tree {
    std::vector<Node> nodes;
    std::vector<uint32_t> children;
    uint32_t root;
    std::vector<std::pair<uint32_t, uint32_t>> doubts;  // where two trees were possible, and which one tree-sitter takes is not known here
};

struct Visible {
    uint32_t node;
    uint16_t kind;  // its symbol, or its alias
    bool is_end;    // for whoever walks
};

class Reader {
  public:
    explicit Reader(const Language& language);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    // Whether the text has no error for sure. Memory: about 25 times the text, kept for the next one.
    bool read(const uint8_t* text, uint32_t n_bytes);

    const Grammar& grammar() const { return grammar_; }
    const Tree& tree() const { return tree_; }
    const uint8_t* text() const { return cursor_.text; }
    // The alias that a node's production gives to its child at `place` among those that are not extra; 0: none.
    uint16_t alias(const Node& node, uint32_t place) const;
    // Adds the visible nodes below a node, the last first.
    void visible_below(uint32_t parent, std::vector<Visible>& out) const;

  private:
    struct Level {  // of a stack; stacks share what lies below
        uint32_t below, node;
        int32_t precedence;  // of all trees down to the bottom
        uint16_t state;
    };
    struct Version {
        uint32_t top, place, memory;
        bool halted;
    };
    struct Token {
        uint16_t symbol, state;  // in which it was read
        uint32_t start, end, memory;
        bool is_external, is_keyword, is_null;
    };

    bool advance(size_t v);
    bool stop(size_t v);
    void condense();
    void push(Version& version, uint32_t node, uint16_t state);
    bool find_token(const Version& version, uint16_t state, Token& token);
    bool reusable(const Token& token, uint16_t state) const;
    bool lex(const Version& version, uint16_t state, Token& token);
    bool scan(uint16_t state, uint32_t memory, Token& token);
    void cut_keyword(uint16_t state, Token& token);
    void shift(Version& version, uint16_t next, const Token& token, bool extra);
    void reduce(Version& version, const Action& action, bool ends_extra);
    bool merged(size_t v, size_t but);
    bool same_states(uint32_t a, uint32_t b) const;
    bool is_better(uint32_t kept, uint32_t other);
    int compare(const Node& a, const Node& b) const;
    bool same_trees(uint32_t a, uint32_t b) const;
    bool same_below(uint32_t a, uint32_t b) const;
    uint32_t remember(const char* bytes, uint32_t n);
    void finish(const Version& version);
    void settle_doubts();
    void drop(size_t v) { versions_.erase(versions_.begin() + static_cast<std::ptrdiff_t>(v)); }

    Grammar grammar_;
    void* scanner_ = nullptr;
    Cursor cursor_;
    Tree tree_;
    std::vector<Level> levels_;
    std::vector<Version> versions_;
    std::vector<uint32_t> popped_, extras_, doubts_;
    std::vector<char> memories_;             // states of the external scanner, one behind the other
    std::vector<std::pair<uint32_t, uint32_t>> memory_;  // start, length; the first is empty
    Token cached_;
    uint32_t cached_place_, cached_memory_;
    bool has_cached_, accepted_;
};

}  // namespace s7corpus
