// Syntax trees of the reader: nodes in one array, and what can be seen below one.
#pragma once
#include <stdint.h>
#include <optional>
#include <utility>
#include <vector>

#include "array.h"
#include "grammar.h"

namespace s7corpus {

struct Node {
    uint16_t symbol, production;
    uint32_t start, end;  // bytes, without what separates it from the node before
    uint32_t first_child,
        n_children;  // in `Tree::children`; of a token: the scanner's memory behind it
    uint32_t n_visible_below;
    int32_t precedence;
    uint16_t outer;  // hidden nodes with this one as their only child are not made: symbol of the
                     // outermost of them, or its own
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
    explicit Tree(const Language &language) : is(language) {}

    // The alias that a node's production gives to its child at `place` among those that are not
    // extra; 0: none.
    uint16_t alias(const Node &node, uint32_t place) const {
        return node.production
                   ? is.alias_sequences[size_t{node.production} * is.max_alias_length + place]
                   : uint16_t{0};
    }
    // Whether a node of one child need not be made, since nobody sees it: it may be noted in the
    // child as `outer`.
    bool is_idle(uint16_t symbol, uint16_t production) const {
        return !is.metadata[symbol].visible &&
               (!production || !is.alias_sequences[size_t{production} * is.max_alias_length]);
    }
    // Adds a node above the children from `first_child` on, which are the last there are; `end`: of
    // the node if it has none.
    uint32_t add(uint16_t symbol, uint16_t production, uint32_t first_child, uint32_t end) {
        const uint16_t *aliases =
            production ? is.alias_sequences + size_t{production} * is.max_alias_length : nullptr;
        if (aliases) unwrap(aliases, first_child);
        const uint32_t n = children.size() - first_child, number = nodes.size();
        uint32_t n_visible_below = 0, place = 0;
        int32_t precedence = 0;
        bool has_visible_child = false;
        Node &made = *nodes.add();
        const uint32_t *its = n ? &children[first_child] : nullptr;
        for (uint32_t i = 0; i < n; ++i) {
            const Node &child = nodes[its[i]];
            const bool visible =
                is.metadata[child.symbol].visible || (aliases && !child.extra && aliases[place]);
            precedence += child.precedence;
            n_visible_below += child.n_visible_below + visible;
            has_visible_child |= visible | child.has_visible_child;
            place += !child.extra;
        }
        // Field by field: a copy of what has just been written in parts would wait for it.
        made.symbol = made.outer = symbol, made.production = production;
        made.start = n ? nodes[its[0]].start : end;
        made.end = n ? nodes[its[n - 1]].end : end;
        made.first_child = n ? first_child : 0, made.n_children = n;
        made.n_visible_below = n_visible_below, made.precedence = precedence;
        made.extra = false, made.has_visible_child = has_visible_child;
        return number;
    }
    // tree-sitter's order of trees: by symbol, then by number of children, then by the first child
    // that differs. Nothing where that is decided by nodes that were not made.
    std::optional<int> compare(uint32_t a, uint32_t b) const;
    // Adds the visible nodes below a node, the last first.
    void visible_below(uint32_t parent, std::vector<Visible> &out) const;

    const Language &is;
    Array<Node> nodes;
    Array<uint32_t> children;
    uint32_t root = 0;

  private:
    void unwrap(const uint16_t *aliases, uint32_t &first_child);

    mutable std::vector<std::pair<uint32_t, uint32_t>> waiting_;
};

}  // namespace s7corpus
