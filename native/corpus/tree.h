// Syntax trees of the reader: nodes in one array, and what can be seen below one.
#pragma once
#include <stdint.h>
#include <optional>
#include <utility>
#include <vector>

#include "grammar.h"

namespace s7corpus {

struct Node {
    uint16_t symbol, production;
    uint32_t start, end;               // bytes, without what separates it from the node before
    uint32_t first_child, n_children;  // in `Tree::children`; of a token: the scanner's memory behind it
    uint32_t n_visible_below;
    int32_t precedence;
    uint16_t outer;  // hidden nodes with this one as their only child are not made: symbol of the outermost of them, or its own
    bool extra, has_visible_child;

    static constexpr uint16_t NOT_KNOWN = 0xffff;
    bool is_wrapped() const { return outer != symbol; }
    uint32_t n_outer_children() const { return is_wrapped() ? 1 : n_children; }
};

struct Visible {
    uint32_t node;
    uint16_t kind;  // its symbol, or its alias
    bool is_end;    // for whoever walks
};

struct Tree {
    explicit Tree(const Language& language) : is(language) {}

    // The alias that a node's production gives to its child at `place` among those that are not extra; 0: none.
    uint16_t alias(const Node& node, uint32_t place) const {
        return node.production ? is.alias_sequences[size_t{node.production} * is.max_alias_length + place] : uint16_t{0};
    }
    // Whether a node of one child need not be made, since nobody sees it: it may be noted in the child as `outer`.
    bool is_idle(uint16_t symbol, uint16_t production) const {
        return !is.metadata[symbol].visible && (!production || !is.alias_sequences[size_t{production} * is.max_alias_length]);
    }
    // Adds a node above the children from `first_child` on, which are the last there are; `end`: of the node if it has none.
    uint32_t add(uint16_t symbol, uint16_t production, uint32_t first_child, uint32_t end);
    // tree-sitter's order of trees: by symbol, then by number of children, then by the first child that differs. Nothing where that is
    // decided by nodes that were not made.
    std::optional<int> compare(uint32_t a, uint32_t b) const;
    // Adds the visible nodes below a node, the last first.
    void visible_below(uint32_t parent, std::vector<Visible>& out) const;

    const Language& is;
    std::vector<Node> nodes;
    std::vector<uint32_t> children;
    uint32_t root = 0;

  private:
    void unwrap(const uint16_t* aliases, uint32_t& first_child);

    mutable std::vector<std::pair<uint32_t, uint32_t>> waiting_;
};

}  // namespace s7corpus
