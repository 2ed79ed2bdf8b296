// tree.h: making, comparing and opening nodes; without recursion, since a text may nest as deep as it is long.
#include "tree.h"

namespace s7corpus {

uint32_t Tree::add(uint16_t symbol, uint16_t production, uint32_t first_child, uint32_t end) {
    const uint16_t* aliases = production ? is.alias_sequences + size_t{production} * is.max_alias_length : nullptr;
    if (aliases) unwrap(aliases, first_child);
    const auto n = static_cast<uint32_t>(children.size()) - first_child;
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
    made.symbol = made.outer = symbol, made.production = production;
    made.start = n ? nodes[children[first_child]].start : end;
    made.end = n ? nodes[children.back()].end : end;
    made.first_child = n ? first_child : 0, made.n_children = n;
    made.n_visible_below = n_visible_below, made.precedence = precedence;
    made.extra = false, made.has_visible_child = has_visible_child;
    return static_cast<uint32_t>(nodes.size() - 1);
}

// An alias makes a hidden child seen, so it has to be there.
void Tree::unwrap(const uint16_t* aliases, uint32_t& first_child) {
    uint32_t place = 0;
    for (size_t i = first_child; i < children.size(); ++i) {
        const uint32_t child = children[i];
        Node wrapper = nodes[child];
        if (wrapper.extra || !aliases[place++] || !wrapper.is_wrapped()) continue;
        const bool is_visible = is.metadata[wrapper.symbol].visible;
        wrapper.symbol = wrapper.outer, wrapper.production = 0;
        wrapper.n_visible_below += is_visible, wrapper.has_visible_child |= is_visible;
        wrapper.first_child = first_child, wrapper.n_children = 1;
        nodes[child].outer = Node::NOT_KNOWN;  // what lay between them is forgotten
        children.insert(children.begin() + first_child, child);
        ++first_child, ++i;
        children[i] = static_cast<uint32_t>(nodes.size());
        nodes.push_back(wrapper);
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
