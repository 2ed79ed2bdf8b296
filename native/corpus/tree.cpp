// tree.h: makes, compares and opens nodes. There is no recursion, because the depth of a text is
// only bounded by its length.
#include "tree.h"

#include <cassert>

namespace s7corpus {

// An alias makes a hidden child seen, so it has to be there. The child becomes another node, since
// other readings may have the old one.
void Tree::unwrap(const uint16_t *aliases, uint32_t &first_child) {
    uint32_t place = 0;
    for (size_t i = first_child; i < children.size(); ++i) {
        Node inner = nodes[children[i]];
        if (inner.extra || !aliases[place++] || !inner.is_wrapped()) continue;
        assert(inner.outer != Node::NOT_KNOWN);  // in builds of the tests alone
        Node wrapper = inner;
        const bool is_visible = is.metadata[inner.symbol].visible;
        wrapper.symbol = wrapper.outer, wrapper.production = 0;
        wrapper.n_visible_below += is_visible, wrapper.has_visible_child |= is_visible;
        wrapper.first_child = first_child, wrapper.n_children = 1;
        inner.outer = Node::NOT_KNOWN;  // what lay between them is forgotten
        children.add();
        for (uint32_t at = children.size() - 1; at > first_child; --at)
            children[at] = children[at - 1];
        children[first_child] = nodes.size();
        *nodes.add() = inner;
        ++first_child, ++i;
        children[i] = nodes.size();
        *nodes.add() = wrapper;
    }
}

std::optional<int> Tree::compare(uint32_t a, uint32_t b) const {
    waiting_.assign(1, {a, b});
    while (!waiting_.empty()) {
        const auto [mine, its] = waiting_.back();
        waiting_.pop_back();
        if (mine == its) continue;
        const Node &left = nodes[mine], &right = nodes[its];
        if (left.outer == Node::NOT_KNOWN || right.outer == Node::NOT_KNOWN) return std::nullopt;
        if (left.outer != right.outer) return left.outer < right.outer ? -1 : 1;
        const uint32_t mine_n = left.n_outer_children(), its_n = right.n_outer_children();
        if (mine_n != its_n) return mine_n < its_n ? -1 : 1;
        if (left.is_wrapped() || right.is_wrapped()) return std::nullopt;
        for (uint32_t i = left.n_children; i-- > 0;)
            waiting_.emplace_back(children[left.first_child + i], children[right.first_child + i]);
    }
    return 0;
}

void Tree::visible_below(uint32_t parent, std::vector<Visible> &out) const {
    // Hidden nodes are opened where they stand; a chain of repetitions may be as long as the text.
    waiting_.assign(1, {parent, 0});
    bool is_parent = true;
    while (!waiting_.empty()) {
        const auto [at, alias] = waiting_.back();
        waiting_.pop_back();
        const Node &node = nodes[at];
        if (!is_parent && (alias || is.metadata[node.symbol].visible)) {
            out.push_back({at, static_cast<uint16_t>(alias ? alias : node.symbol), false});
            continue;
        }
        is_parent = false;
        uint32_t place = 0;
        for (uint32_t i = 0; i < node.n_children; ++i) {
            const uint32_t child = children[node.first_child + i];
            const bool extra = nodes[child].extra;
            waiting_.emplace_back(child, extra ? 0u : this->alias(node, place));
            place += !extra;
        }
    }
}

}  // namespace s7corpus
