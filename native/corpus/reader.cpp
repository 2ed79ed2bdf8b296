// The driver of reader.h: readings of a text take tokens in turns, as in tree-sitter.
#include "reader.h"

#include <algorithm>

namespace s7corpus {

namespace {
// tree-sitter follows as many readings, and as many more between two tokens; ways down from a
// level, and ways that are followed at once.
constexpr size_t MAX_VERSIONS = 6, MAX_MORE = 4, MAX_LINKS = 8, MAX_PATHS = 64;
constexpr size_t NONE = static_cast<size_t>(-1);
constexpr uint32_t NO_LIMIT = 0xffffffff, MAX_DEPTH = 1000;
}  // namespace

Reader::Reader(const Language &language, bool with_tables)
    : grammar_(language), tokens_(grammar_, with_tables), tree_(language) {}

bool Reader::read(const uint8_t *text, uint32_t n_bytes) {
    tokens_.open(text, n_bytes);
    tree_.nodes.cut(0), tree_.children.cut(0), levels_.cut(0);
    *levels_.add() = {{0, 0, 0}, 0, 1};
    links_.assign(1, {});
    versions_.assign(1, {0, 0, false});
    n_shared_ = 1;
    accepted_ = gave_up_ = false;
    for (uint32_t last = 0; !versions_.empty();) {
        if (versions_.size() == 1) last = std::max(last, run_alone(versions_[0]));
        for (size_t v = 0; v < versions_.size(); ++v) {
            while (!versions_[v].halted) {
                if (!advance(v) || gave_up_) return false;
                const uint32_t at = place(versions_[v].top);
                if (at > last || (v && at == last)) {
                    last = at;
                    break;
                }
            }
        }
        condense();
        if (gave_up_ || versions_.size() > MAX_VERSIONS) return false;
    }
    return accepted_;
}

// Takes tokens while there is one reading with one possible action. Returns where it stopped.
// `advance` continues from there.
uint32_t Reader::run_alone(Version &version) {
    uint16_t state = levels_[version.top].state;
    uint32_t at = place(version.top);
    for (;;) {
        const Token *token = tokens_.find(at, version.memory, state);
        if (!token || token->is_null) return at;
        for (;;) {
            const ActionEntry *entry = &grammar_.entry(state, token->symbol);
            const Action &action = entry[1].action;
            if (entry->entry.count != 1) return at;
            if (action.kind == REDUCE) {
                if (!reduce_alone(version, action, false)) return at;
                state = levels_[version.top].state;
                continue;
            }
            if (action.kind != SHIFT || action.shift.repetition) return at;
            state = action.shift.extra ? state : action.shift.state;
            shift(version, state, token->symbol, *token, action.shift.extra);
            break;
        }
        at = token->end;
    }
}

// Versions that have ended or that have come to the state of others leave; the others stand by the
// precedence of their trees.
void Reader::condense() {
    if (versions_.size() == 1 && !versions_[0].halted) return;
    n_shared_ = levels_.size();
    for (size_t v = 0; v < versions_.size();) {
        bool is_gone = versions_[v].halted;
        for (size_t other = 0; other < v && !is_gone; ++other) {
            const bool is_higher =
                levels_[versions_[v].top].precedence > levels_[versions_[other].top].precedence;
            is_gone = merge(other, v);
            if (is_higher && !is_gone) std::swap(versions_[v], versions_[other]);
        }
        if (is_gone)
            drop(v);
        else
            ++v;
    }
}

// One step of a version: until it has taken a token, or has ended. False: give up.
bool Reader::advance(size_t v) {
    uint16_t state = levels_[versions_[v].top].state;
    const Token *token = tokens_.find(place(versions_[v].top), versions_[v].memory, state);
    if (!token) return stop(v);
    uint16_t symbol = token->symbol;
    for (;;) {
        const ActionEntry *entry = &grammar_.entry(state, symbol);
        const uint8_t n_actions = entry->entry.count;
        size_t made = NONE;
        bool did_reduce = false;
        for (uint8_t i = 1; i <= n_actions; ++i) {
            const Action &action = entry[i].action;
            if (action.kind == SHIFT) {
                if (action.shift.repetition) continue;
                shift(versions_[v], action.shift.extra ? state : action.shift.state, symbol, *token,
                      action.shift.extra);
                return true;
            }
            if (action.kind == ACCEPT) {
                finish(versions_[v]);
                versions_[v].halted = true;
                return true;
            }
            if (action.kind == RECOVER) return false;
            did_reduce = true;
            if (n_actions == 1 && versions_.size() == 1 &&
                reduce_alone(versions_[v], action, token->is_null)) {
                made = v;
                break;
            }
            const size_t first = reduce(v, action, token->is_null);
            if (gave_up_) return false;
            if (first != NONE) made = first;
        }
        if (made != NONE) {
            if (made != v) {
                versions_[v] = versions_[made];
                drop(made);
            }
            state = levels_[versions_[v].top].state;
            if (token->is_null) {
                token = tokens_.find(place(versions_[v].top), versions_[v].memory, state);
                if (!token) return stop(v);
                symbol = token->symbol;
            }
            continue;
        }
        if (did_reduce) {
            versions_[v].halted = true;
            return true;
        }
        const uint16_t capture = grammar_.is.capture;
        if (!token->is_null && token->is_keyword && symbol != capture &&
            !grammar_.is_reserved(state, symbol) && grammar_.entry(state, capture).entry.count) {
            symbol = capture;
            continue;
        }
        return stop(v);
    }
}

// A version that cannot continue is dropped while another one can. Otherwise tree-sitter would
// begin to repair, so this parser gives up.
bool Reader::stop(size_t v) {
    versions_[v].halted = true;
    for (const Version &other : versions_)
        if (!other.halted) return true;
    return accepted_;
}

void Reader::push(Version &version, uint32_t node, uint16_t state) {
    const uint32_t number = levels_.size();
    Level &level = *levels_.add();
    level.link.below = version.top, level.link.node = node, level.link.next = 0;
    level.precedence = levels_[version.top].precedence + tree_.nodes[node].precedence;
    level.state = state;
    version.top = number;
}

void Reader::shift(Version &version, uint16_t next, uint16_t symbol, const Token &token,
                   bool extra) {
    const uint32_t number = tree_.nodes.size();
    Node &node = *tree_.nodes.add();
    node.symbol = node.outer = symbol, node.production = 0;
    node.start = token.start, node.end = token.end;
    node.first_child = token.is_external ? token.memory : 0;
    node.n_children = node.n_visible_below = 0, node.precedence = 0;
    node.extra = extra, node.has_visible_child = false;
    if (token.is_external) version.memory = token.memory;
    push(version, number, next);
}

// A reduction where there is one reading, and one way down; false: there are several.
bool Reader::reduce_alone(Version &version, const Action &action, bool ends_extra) {
    uint32_t level = version.top;
    const uint16_t symbol = action.reduce.symbol, production = action.reduce.production;
    Level &top = levels_[level];
    if (action.reduce.n_children == 1 && !ends_extra && !top.link.next &&
        tree_.is_idle(symbol, production)) {
        Node &node = tree_.nodes[top.link.node];
        if (!node.extra) {
            node.outer = symbol, node.precedence += action.reduce.precedence;
            top.state = grammar_.next_state(levels_[top.link.below].state, symbol);
            top.precedence += action.reduce.precedence;
            return true;
        }
    }
    // Extras behind the last child stay on the stack.
    uint32_t n_extras = 0, n = 0;
    for (uint32_t left = action.reduce.n_children; left; level = levels_[level].link.below) {
        const Link &link = levels_[level].link;
        if (link.next) return false;
        const bool is_extra = tree_.nodes[link.node].extra;
        n_extras += is_extra && n == n_extras;
        left -= !is_extra, ++n;
    }
    const uint32_t bottom = level, first = tree_.children.size(), end = place(version.top);
    uint32_t *children = tree_.children.add(n - n_extras) + (n - n_extras);
    level = version.top;
    extras_.clear();
    for (uint32_t i = 0; i < n; ++i, level = levels_[level].link.below) {
        if (i < n_extras)
            extras_.push_back(levels_[level].link.node);
        else
            *--children = levels_[level].link.node;
    }
    const uint32_t made = tree_.add(symbol, production, first, end);
    version.top = bottom;
    levels_.cut(std::min(levels_.size(), std::max(bottom + 1, n_shared_)));
    push_made(version, made, action, ends_extra);
    return true;
}

// Puts a new node and the extras behind it onto the stack.
void Reader::push_made(Version &version, uint32_t made, const Action &action, bool ends_extra) {
    const uint16_t state = levels_[version.top].state,
                   next = grammar_.next_state(state, action.reduce.symbol);
    tree_.nodes[made].precedence += action.reduce.precedence;
    tree_.nodes[made].extra = ends_extra && next == state;
    push(version, made, next);
    for (size_t i = extras_.size(); i-- > 0;) push(version, extras_[i], next);
}

// A reduction along all ways down, each to a version of its own at the end of all; returns the
// first of them that is left, or NONE.
size_t Reader::reduce(size_t v, const Action &action, bool ends_extra) {
    const size_t n_before = versions_.size();
    size_t n_halted = 0;
    for (const Version &version : versions_) n_halted += version.halted;
    pop(versions_[v].top, action.reduce.n_children);
    for (size_t i = 0; i < ended_.size();) {
        const uint32_t bottom = ended_[i].level;
        if (versions_.size() > MAX_VERSIONS + MAX_MORE + n_halted) gave_up_ = true;
        uint32_t made = make(ended_[i], action, place(versions_[v].top), extras_);
        for (++i; i < ended_.size() && ended_[i].level == bottom; ++i) {
            const uint32_t other = make(ended_[i], action, place(versions_[v].top), other_extras_);
            if (!is_better(made, other)) continue;
            made = other;
            std::swap(extras_, other_extras_);
        }
        versions_.push_back({bottom, versions_[v].memory, false});
        push_made(versions_.back(), made, action, ends_extra);
        for (size_t other = 0; other + 1 < versions_.size(); ++other) {
            if (other == v || !merge(other, versions_.size() - 1)) continue;
            versions_.pop_back();
            break;
        }
    }
    n_shared_ = levels_.size();
    return versions_.size() > n_before ? n_before : NONE;
}

// All ways down from a level over `n` nodes that are no extras, or to the bottom, into `ended_`;
// those that come to one level stand together.
void Reader::pop(uint32_t level, uint32_t n) {
    ended_.clear(), paths_.clear(), taken_.cut(0);
    *taken_.add() = {};
    paths_.push_back({level, n, 0});
    while (!paths_.empty()) {
        size_t n_now = paths_.size();
        for (size_t i = 0; i < n_now; ++i) {
            const uint32_t at = paths_[i].level;
            if (!paths_[i].n_left || !at) {
                auto where = ended_.end();
                while (where != ended_.begin() && (where - 1)->level != at) --where;
                ended_.insert(where == ended_.begin() ? ended_.end() : where, paths_[i]);
                paths_.erase(paths_.begin() + static_cast<std::ptrdiff_t>(i));
                --i, --n_now;
                continue;
            }
            const Link first = levels_[at].link;
            for (uint32_t more = first.next; more; more = links_[more].next) {
                if (paths_.size() >= MAX_PATHS) continue;
                paths_.push_back(paths_[i]);
                go_down(paths_.back(), links_[more]);
            }
            go_down(paths_[i], first);
        }
    }
}

void Reader::go_down(Path &path, const Link &link) {
    const uint32_t number = taken_.size();
    *taken_.add() = {link.node, path.taken};
    path.taken = number, path.level = link.below;
    path.n_left -= !tree_.nodes[link.node].extra;
}

// A node above those of a path, but for extras at its end.
uint32_t Reader::make(const Path &path, const Action &action, uint32_t end,
                      std::vector<uint32_t> &extras) {
    const uint32_t first = tree_.children.size();
    for (uint32_t at = path.taken; at; at = taken_[at].before)
        *tree_.children.add() = taken_[at].node;
    extras.clear();
    for (uint32_t n = tree_.children.size(); n > first && tree_.nodes[tree_.children[n - 1]].extra;
         --n) {
        extras.push_back(tree_.children[n - 1]);
        tree_.children.cut(n - 1);
    }
    return tree_.add(action.reduce.symbol, action.reduce.production, first, end);
}

// Whether tree-sitter takes the second of two trees of one text.
bool Reader::is_better(uint32_t kept, uint32_t other) {
    const int32_t mine = tree_.nodes[kept].precedence, its = tree_.nodes[other].precedence;
    if (mine != its) return its > mine;
    const std::optional<int> order = tree_.compare(kept, other);
    gave_up_ |= !order;
    return order.value_or(0) > 0;
}

// Whether two versions have come to the same state; the first then has the ways down of both.
bool Reader::merge(size_t v, size_t other) {
    const Version &kept = versions_[v], &its = versions_[other];
    if (kept.halted || its.halted || kept.memory != its.memory ||
        levels_[kept.top].state != levels_[its.top].state || place(kept.top) != place(its.top))
        return false;
    if (its.top) add_links(kept.top, its.top, 0);
    return true;
}

void Reader::add_links(uint32_t level, uint32_t from, uint32_t depth) {
    if (!level || depth > MAX_DEPTH) {
        gave_up_ = true;
        return;
    }
    Link link = levels_[from].link;
    for (;;) {
        add_link(level, link, depth);
        if (!link.next || gave_up_) return;
        link = links_[link.next];
    }
}

// One more way down from a level, unless it has an equal one.
void Reader::add_link(uint32_t level, Link link, uint32_t depth) {
    if (link.below == level) return;
    const int32_t precedence = levels_[link.below].precedence + tree_.nodes[link.node].precedence;
    uint32_t at = 0, n_links = 1;  // 0: the first of the level
    for (;; ++n_links) {
        Link &mine = at ? links_[at] : levels_[level].link;
        if (is_equivalent(mine, link)) {
            if (mine.below == link.below) {
                if (tree_.nodes[link.node].precedence > tree_.nodes[mine.node].precedence) {
                    mine.node = link.node;
                    levels_[level].precedence = precedence;
                }
                return;
            }
            if (levels_[mine.below].state == levels_[link.below].state) {
                if (link.below) add_links(mine.below, link.below, depth + 1);
                levels_[level].precedence = std::max(levels_[level].precedence, precedence);
                return;
            }
        }
        if (!mine.next) break;
        at = mine.next;
    }
    if (n_links >= MAX_LINKS) return;
    (at ? links_[at] : levels_[level].link).next = static_cast<uint32_t>(links_.size());
    links_.push_back({link.below, link.node, 0});
    levels_[level].precedence = std::max(levels_[level].precedence, precedence);
}

bool Reader::is_equivalent(const Link &a, const Link &b) const {
    if (a.node == b.node) return true;
    const Node &mine = tree_.nodes[a.node], &its = tree_.nodes[b.node];
    const uint32_t n = mine.n_outer_children();
    return mine.outer == its.outer && mine.start == its.start && mine.end == its.end &&
           n == its.n_outer_children() && mine.extra == its.extra &&
           place(a.below) == place(b.below) && (n || mine.first_child == its.first_child);
}

// Makes one tree of the whole text. The other nodes on the stack are extras before and after the
// root, and become its children.
void Reader::finish(const Version &version) {
    pop(version.top, NO_LIMIT);
    for (const Path &path : ended_) {
        uint32_t root = NO_LIMIT;
        for (uint32_t at = path.taken; at; at = taken_[at].before)
            if (!tree_.nodes[taken_[at].node].extra) root = taken_[at].node;
        if (root == NO_LIMIT) continue;
        const Node found = tree_.nodes[root];
        const uint32_t first = tree_.children.size();
        for (uint32_t at = path.taken; at; at = taken_[at].before) {
            if (taken_[at].node != root) {
                *tree_.children.add() = taken_[at].node;
                continue;
            }
            for (uint32_t i = 0; i < found.n_children; ++i) {
                const uint32_t child = tree_.children[found.first_child + i];
                *tree_.children.add() = child;
            }
        }
        root = tree_.add(found.symbol, found.production, first, found.end);
        if (!accepted_ || is_better(tree_.root, root)) tree_.root = root;
        accepted_ = true;
    }
}

}  // namespace s7corpus
