// Parses a text with the tables of a tree-sitter grammar, but without tree-sitter. For a text
// without an error the tree is the same.
//
// tree-sitter's driver is made for editing: reference counts, error costs, reuse. This one keeps
// only what decides about texts without an error. There is a stack that all readings of the text
// share. Stacks that have reached the same state are merged, with several links down. The order of
// the readings is kept, because it decides which of two trees is taken. The parser gives up
// ("unsure") where tree-sitter would begin to repair, or would drop readings because there are too
// many. So no text is called clean in which tree-sitter finds an error.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <vector>

#include "array.h"
#include "grammar.h"
#include "tokens.h"
#include "tree.h"

namespace s7corpus {

class Reader {
  public:
    Reader(const Language &language, bool with_tables);

    // Whether the text has no error for sure. Memory: about 20 times the text, kept for the next
    // one.
    bool read(const uint8_t *text, uint32_t n_bytes);

    const Grammar &grammar() const { return grammar_; }
    const Tree &tree() const { return tree_; }
    const uint8_t *text() const { return tokens_.text(); }

  private:
    struct Link {                    // one way down from a level: a node, and the level below it
        uint32_t below, node, next;  // next: another way, or 0
    };
    struct Level {
        Link link;
        int32_t precedence;  // the highest of all trees down to the bottom
        uint16_t state;
    };
    struct Version {
        uint32_t top, memory;
        bool halted;
    };
    struct Path {  // down from a level, while nodes are taken from it
        uint32_t level, n_left, taken;
    };
    struct Taken {  // the node taken last, which is the first in the text; paths share what they
                    // took before
        uint32_t node, before;
    };

    uint32_t run_alone(Version &version);
    bool advance(size_t v);
    bool stop(size_t v);
    void condense();
    uint32_t place(uint32_t level) const {
        return level ? tree_.nodes[levels_[level].link.node].end : 0;
    }
    void push(Version &version, uint32_t node, uint16_t state);
    void shift(Version &version, uint16_t next, uint16_t symbol, const Token &token, bool extra);
    bool reduce_alone(Version &version, const Action &action, bool ends_extra);
    void push_made(Version &version, uint32_t made, const Action &action, bool ends_extra);
    size_t reduce(size_t v, const Action &action, bool ends_extra);
    void pop(uint32_t level, uint32_t n);
    void go_down(Path &path, const Link &link);
    uint32_t make(const Path &path, const Action &action, uint32_t end,
                  std::vector<uint32_t> &extras);
    bool is_better(uint32_t kept, uint32_t other);
    bool merge(size_t v, size_t other);
    void add_links(uint32_t level, uint32_t from, uint32_t depth);
    void add_link(uint32_t level, Link link, uint32_t depth);
    bool is_equivalent(const Link &a, const Link &b) const;
    void finish(const Version &version);
    void drop(size_t v) { versions_.erase(versions_.begin() + static_cast<std::ptrdiff_t>(v)); }

    Grammar grammar_;
    Tokens tokens_;
    Tree tree_;
    Array<Level> levels_;
    std::vector<Link> links_;  // beyond the first of each level
    std::vector<Version> versions_;
    std::vector<uint32_t> extras_, other_extras_;
    std::vector<Path> paths_, ended_;
    Array<Taken> taken_;  // the first stands for none
    uint32_t n_shared_;   // levels that more than one version has had
    bool accepted_, gave_up_;
};

}  // namespace s7corpus
