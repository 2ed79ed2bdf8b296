// tree.h: making, comparing and opening nodes; without recursion, since a text may nest as deep as it is long.
#include "tree.h"

namespace s7corpus {

uint32_t Tree::add(uint16_t symbol, uint16_t production, uint32_t first_child, uint32_t end) {
    const auto n = static_cast<uint32_t>(children.size()) - first_child;
    const uint16_t* aliases = production ? is.alias_sequences + size_t{production} * is.max_alias_length : nullptr;
    uint32_t n_visible_below = 0, place = 0;
    int32_t precedence = 0;
    bool has_visible_child = false;
    for (uint32_t i = 0; i < n; ++i) {
        const Node& child = nodes[children[first_child + i]];
        precedence += child.precedence;
        const bool visible = is.metadata[child.symbol].visible || (aliases && !child.extra && aliases[place]);
        n_visible_below += child.n_visible_below + visible;
        has_visible_child |= visible | child.has_visible_child;
        place += !child.extra;
    }
    // Field by field: a copy of what has just been written in parts would wait for it.
    Node& made = nodes.emplace_back();
    made.symbol = symbol, made.production = production;
    made.start = n ? nodes[children[first_child]].start : end;
    made.end = n ? nodes[children.back()].end : end;
    made.first_child = n ? first_child : 0, made.n_children = n;
    made.n_visible_below = n_visible_below, made.precedence = precedence;
    made.extra = false, made.has_visible_child = has_visible_child;
    return static_cast<uint32_t>(nodes.size() - 1);
}

int Tree::compare(uint32_t a, uint32_t b) const {
    waiting_.assign(1, {a, b});
    while (!waiting_.empty()) {
        const auto [mine, its] = waiting_.back();
        waiting_.pop_back();
        if (mine == its) continue;
        const Node &left = nodes[mine], &right = nodes[its];
        if (left.symbol != right.symbol) return left.symbol < right.symbol ? -1 : 1;
        if (left.n_children != right.n_children) return left.n_children < right.n_children ? -1 : 1;
        for (uint32_t i = left.n_children; i-- > 0;)
            waiting_.emplace_back(children[left.first_child + i], children[right.first_child + i]);
    }
    return 0;
}

void Tree::visible_below(uint32_t parent, std::vector<Visible>& out) const {
    // Hidden nodes are opened where they stand; a chain of repetitions may be as long as the text.
    waiting_.assign(1, {parent, 0});
    bool is_parent = true;
    while (!waiting_.empty()) {
        const auto [at, alias] = waiting_.back();
        waiting_.pop_back();
        const Node& node = nodes[at];
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
