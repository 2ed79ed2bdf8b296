// The driver of reader.h: stacks, tokens, shifts and reductions.
#include "reader.h"

#include <cstring>

namespace s7corpus {

namespace {
constexpr size_t MAX_VERSIONS = 6;  // tree-sitter follows as many
constexpr size_t MEMORY_BYTES = 1024, NONE = static_cast<size_t>(-1);
}  // namespace

Reader::Reader(const Language& language) : grammar_(language) {
    if (language.scanner.create) scanner_ = language.scanner.create();
}

Reader::~Reader() {
    if (scanner_ && grammar_.is.scanner.destroy) grammar_.is.scanner.destroy(scanner_);
}

bool Reader::read(const uint8_t* text, uint32_t n_bytes) {
    cursor_.open(text, n_bytes);
    tree_.nodes.clear(), tree_.children.clear(), doubts_.clear();
    levels_.assign(1, {0, 0, 0, 1});
    versions_.assign(1, {0, 0, 0, false});
    memories_.clear(), memory_.assign(1, {0, 0});
    has_cached_ = accepted_ = false;
    for (uint32_t last = 0; !versions_.empty();) {
        for (size_t v = 0; v < versions_.size(); ++v) {
            while (!versions_[v].halted) {
                if (!advance(v)) return false;
                const uint32_t place = versions_[v].place;
                if (place > last || (v && place == last)) {
                    last = place;
                    break;
                }
            }
        }
        condense();
        if (versions_.size() > MAX_VERSIONS) return false;
    }
    if (accepted_) settle_doubts();
    return accepted_;
}

// Versions that have ended or that say the same as others leave; the others stand by the precedence of their trees.
void Reader::condense() {
    for (size_t v = 0; v < versions_.size();) {
        if (versions_[v].halted || merged(v, NONE)) {
            drop(v);
            continue;
        }
        for (size_t other = 0; other < v; ++other)
            if (levels_[versions_[v].top].precedence > levels_[versions_[other].top].precedence) std::swap(versions_[v], versions_[other]);
        ++v;
    }
}

// One step of a version: until it has taken a token, or has ended. False: give up.
bool Reader::advance(size_t v) {
    uint16_t state = levels_[versions_[v].top].state;
    Token token;
    if (!find_token(versions_[v], state, token)) return stop(v);
    uint16_t symbol = token.is_null ? END : token.symbol;
    for (;;) {
        const ActionEntry* entry = &grammar_.entry(state, symbol);
        const uint8_t n_actions = entry->entry.count;
        size_t last_reduced = 0;
        bool did_reduce = false;
        for (uint8_t i = 1; i <= n_actions; ++i) {
            const Action& action = entry[i].action;
            if (action.kind == SHIFT) {
                if (action.shift.repetition) continue;
                token.symbol = symbol;
                shift(versions_[v], action.shift.extra ? state : action.shift.state, token, action.shift.extra);
                return true;
            }
            if (action.kind == ACCEPT) {
                finish(versions_[v]);
                versions_[v].halted = true;
                return true;
            }
            if (action.kind == RECOVER) return false;
            did_reduce = true;
            if (n_actions == 1 && versions_.size() == 1) {
                reduce(versions_[v], action, token.is_null);
                last_reduced = v + 1;
                break;
            }
            if (versions_.size() > MAX_VERSIONS) return false;
            versions_.push_back(versions_[v]);
            reduce(versions_.back(), action, token.is_null);
            if (merged(versions_.size() - 1, v)) versions_.pop_back();
            else last_reduced = versions_.size();
        }
        if (last_reduced) {
            if (last_reduced - 1 != v) {
                versions_[v] = versions_[last_reduced - 1];
                drop(last_reduced - 1);
            }
            state = levels_[versions_[v].top].state;
            if (token.is_null) {
                if (!find_token(versions_[v], state, token)) return stop(v);
                symbol = token.is_null ? END : token.symbol;
            }
            continue;
        }
        if (did_reduce) {
            versions_[v].halted = true;
            return true;
        }
        const uint16_t capture = grammar_.is.capture;
        if (!token.is_null && token.is_keyword && symbol != capture && !grammar_.is_reserved(state, symbol) &&
            grammar_.entry(state, capture).entry.count) {
            symbol = capture;
            continue;
        }
        return stop(v);
    }
}

// A version that cannot go on is of no account while another one does; otherwise tree-sitter would begin to repair: give up.
bool Reader::stop(size_t v) {
    versions_[v].halted = true;
    for (const Version& other : versions_)
        if (!other.halted) return true;
    return accepted_;
}

bool Reader::find_token(const Version& version, uint16_t state, Token& token) {
    if (has_cached_ && cached_place_ == version.place && cached_memory_ == version.memory && reusable(cached_, state)) {
        token = cached_;
        return true;
    }
    if (!lex(version, state, token)) return false;
    if (!token.is_null) cached_ = token, cached_place_ = version.place, cached_memory_ = version.memory, has_cached_ = true;
    return true;
}

bool Reader::reusable(const Token& token, uint16_t state) const {
    const LexMode &mode = grammar_.mode(state), &was = grammar_.mode(token.state);
    if (mode.state == NO_LOOKAHEAD) return false;
    const ActionEntry& entry = grammar_.entry(state, token.symbol);
    const bool is_capture = token.symbol == grammar_.is.capture;
    if (entry.entry.count && mode == was && (!is_capture || (!token.is_keyword && token.state == state))) return true;
    if (token.start == token.end && token.symbol != END) return false;
    return !mode.external && entry.entry.reusable;
}

// The next token in a state. False: what is there is none.
bool Reader::lex(const Version& version, uint16_t state, Token& token) {
    const LexMode& mode = grammar_.mode(state);
    token = {0, state, 0, 0, version.memory, false, false, mode.state == NO_LOOKAHEAD};
    if (token.is_null) return true;
    cursor_.go(version.place);
    if (mode.external) {
        cursor_.start();
        if (scan(state, version.memory, token)) return true;
        cursor_.go(version.place);
    }
    cursor_.start();
    if (!grammar_.is.lex(&cursor_, mode.state)) return false;
    cursor_.finish();
    token.symbol = cursor_.result_symbol, token.start = cursor_.token_start, token.end = cursor_.token_end;
    if (token.symbol == grammar_.is.capture && token.symbol) cut_keyword(state, token);
    return true;
}

bool Reader::scan(uint16_t state, uint32_t memory, Token& token) {
    const auto& scanner = grammar_.is.scanner;
    const uint32_t from = cursor_.place;
    const auto [first, length] = memory_[memory];
    scanner.deserialize(scanner_, length ? &memories_[first] : nullptr, length);
    const bool* wanted = scanner.states + size_t{grammar_.mode(state).external} * grammar_.is.n_external;
    if (!scanner.scan(scanner_, &cursor_, wanted)) return false;
    cursor_.finish();
    char bytes[MEMORY_BYTES];
    const uint32_t n = scanner.serialize(scanner_, bytes);
    const bool changed = n != length || (n && std::memcmp(bytes, &memories_[first], n));
    const uint16_t symbol = scanner.symbols[cursor_.result_symbol];
    // An empty token that changes nothing would come for ever.
    if (cursor_.token_end <= from && !changed && grammar_.next_state(state, symbol) == state) return false;
    token.symbol = symbol, token.start = cursor_.token_start, token.end = cursor_.token_end;
    token.is_external = true, token.memory = changed ? remember(bytes, n) : memory;
    return true;
}

uint32_t Reader::remember(const char* bytes, uint32_t n) {
    for (size_t i = memory_.size(); i-- > 0 && i + 4 > memory_.size();)
        if (memory_[i].second == n && (!n || !std::memcmp(bytes, &memories_[memory_[i].first], n))) return static_cast<uint32_t>(i);
    memory_.emplace_back(static_cast<uint32_t>(memories_.size()), n);
    memories_.insert(memories_.end(), bytes, bytes + n);
    return static_cast<uint32_t>(memory_.size() - 1);
}

void Reader::cut_keyword(uint16_t state, Token& token) {
    cursor_.go(token.start);
    cursor_.start();
    token.is_keyword = grammar_.is.lex_keyword(&cursor_, 0);
    cursor_.finish();
    const uint16_t keyword = cursor_.result_symbol;
    if (token.is_keyword && cursor_.token_end == token.end &&
        (grammar_.cell(state, keyword) || grammar_.is_reserved(state, keyword)))
        token.symbol = keyword;
}

void Reader::shift(Version& version, uint16_t next, const Token& token, bool extra) {
    const auto node = static_cast<uint32_t>(tree_.nodes.size());
    tree_.nodes.push_back({token.symbol, 0, token.start, token.end, 0, 0, 0, 0, 0, extra});
    push(version, node, next);
    version.place = token.end;
    if (token.is_external) version.memory = token.memory;
}

uint16_t Reader::alias(const Node& node, uint32_t place) const {
    const Language& is = grammar_.is;
    return node.production ? is.alias_sequences[size_t{node.production} * is.max_alias_length + place] : uint16_t{0};
}

void Reader::reduce(Version& version, const Action& action, bool ends_extra) {
    popped_.clear(), extras_.clear();
    uint32_t level = version.top;
    for (uint32_t left = action.reduce.n_children; left; level = levels_[level].below) {
        const uint32_t node = levels_[level].node;
        // Extras behind the last child stay on the stack.
        const bool is_extra = tree_.nodes[node].extra;
        (is_extra && popped_.empty() ? extras_ : popped_).push_back(node);
        left -= !is_extra;
    }
    const auto n = static_cast<uint32_t>(popped_.size());
    const auto first = static_cast<uint32_t>(tree_.children.size());
    Node made{action.reduce.symbol, action.reduce.production, version.place, version.place, first, n, 0, 0, action.reduce.precedence, false};
    if (n) made.start = tree_.nodes[popped_[n - 1]].start, made.end = tree_.nodes[popped_[0]].end;
    const Metadata* metadata = grammar_.is.metadata;
    uint32_t place = 0;
    for (uint32_t i = n; i-- > 0;) {
        const Node& child = tree_.nodes[popped_[i]];
        tree_.children.push_back(popped_[i]);
        made.precedence += child.precedence;
        made.n_visible_below += child.n_visible_below;
        const bool visible = (!child.extra && alias(made, place)) || metadata[child.symbol].visible;
        made.n_visible_below += visible;
        made.n_visible_children += visible ? 1 : child.n_visible_children;
        place += !child.extra;
    }
    const uint16_t state = levels_[level].state, next = grammar_.next_state(state, made.symbol);
    made.extra = ends_extra && next == state;
    tree_.nodes.push_back(made);
    version.top = level;
    push(version, static_cast<uint32_t>(tree_.nodes.size() - 1), next);
    for (size_t i = extras_.size(); i-- > 0;) push(version, extras_[i], next);
}

void Reader::push(Version& version, uint32_t node, uint16_t state) {
    levels_.push_back({version.top, node, levels_[version.top].precedence + tree_.nodes[node].precedence, state});
    version.top = static_cast<uint32_t>(levels_.size() - 1);
}

// Whether version `v` has come to the states of one before it (other than `but`), which then stands for both.
bool Reader::merged(size_t v, size_t but) {
    const Version& version = versions_[v];
    for (size_t other = 0; other < v; ++other) {
        const Version& kept = versions_[other];
        if (other == but || kept.halted || kept.place != version.place || kept.memory != version.memory) continue;
        if (!same_states(kept.top, version.top)) continue;
        if (is_better(kept.top, version.top)) versions_[other].top = version.top;
        return true;
    }
    return false;
}

bool Reader::same_states(uint32_t a, uint32_t b) const {
    for (; a != b; a = levels_[a].below, b = levels_[b].below)
        if (!a || !b || levels_[a].state != levels_[b].state) return false;
    return true;
}

// Of two stacks with the same states: whether the second has the better tree. Where tree-sitter goes by which of them was first, the trees
// are a doubt, unless nobody can see the difference; so are several that differ at once.
bool Reader::is_better(uint32_t kept, uint32_t other) {
    bool is_better = false, is_open = false;
    popped_.clear(), extras_.clear();  // here: the trees in which they differ
    for (; kept != other; kept = levels_[kept].below, other = levels_[other].below) {
        const uint32_t mine = levels_[kept].node, its = levels_[other].node;
        if (same_trees(mine, its)) continue;
        const Node &a = tree_.nodes[mine], &b = tree_.nodes[its];
        const bool is_alike = a.symbol == b.symbol && a.start == b.start && a.end == b.end && a.n_children == b.n_children;
        is_better = a.precedence != b.precedence ? b.precedence > a.precedence : compare(a, b) > 0;
        is_open |= is_alike && a.precedence == b.precedence;
        popped_.push_back(mine), extras_.push_back(its);
    }
    if (is_open || popped_.size() > 1) {
        const auto& taken = is_better ? extras_ : popped_;
        doubts_.insert(doubts_.end(), taken.begin(), taken.end());
    }
    return is_better;
}

// tree-sitter's order of trees: by symbol, then by number of children, then by the first child that differs.
int Reader::compare(const Node& a, const Node& b) const {
    if (a.symbol != b.symbol) return a.symbol < b.symbol ? -1 : 1;
    if (a.n_children != b.n_children) return a.n_children < b.n_children ? -1 : 1;
    for (uint32_t i = 0; i < a.n_children; ++i) {
        const uint32_t mine = tree_.children[a.first_child + i], its = tree_.children[b.first_child + i];
        if (mine == its) continue;
        if (const int order = compare(tree_.nodes[mine], tree_.nodes[its])) return order;
    }
    return 0;
}

// Whether two trees of one symbol look the same: visible nodes of the same kinds in the same places.
bool Reader::same_trees(uint32_t a, uint32_t b) const {
    return a == b || (tree_.nodes[a].symbol == tree_.nodes[b].symbol && same_below(a, b));
}

bool Reader::same_below(uint32_t a, uint32_t b) const {
    if (a == b) return true;
    const Node &left = tree_.nodes[a], &right = tree_.nodes[b];
    if (left.start != right.start || left.end != right.end || left.n_visible_below != right.n_visible_below) return false;
    std::vector<Visible> mine, its;
    visible_below(a, mine), visible_below(b, its);
    if (mine.size() != its.size()) return false;
    for (size_t i = 0; i < mine.size(); ++i)
        if (mine[i].kind != its[i].kind || !same_below(mine[i].node, its[i].node)) return false;
    return true;
}

// Visible nodes below a node, the last first.
void Reader::visible_below(uint32_t parent, std::vector<Visible>& out) const {
    const Metadata* metadata = grammar_.is.metadata;
    // Hidden nodes are opened where they stand; a chain of repetitions may be as long as the text.
    std::vector<std::pair<uint32_t, uint16_t>> waiting{{parent, 0}};
    bool is_parent = true;
    while (!waiting.empty()) {
        const auto [at, alias] = waiting.back();
        waiting.pop_back();
        const Node& node = tree_.nodes[at];
        if (!is_parent && (alias || metadata[node.symbol].visible)) {
            out.push_back({at, alias ? alias : node.symbol, false});
            continue;
        }
        is_parent = false;
        uint32_t place = 0;
        for (uint32_t i = 0; i < node.n_children; ++i) {
            const uint32_t child = tree_.children[node.first_child + i];
            const bool extra = tree_.nodes[child].extra;
            waiting.emplace_back(child, extra ? uint16_t{0} : this->alias(node, place));
            place += !extra;
        }
    }
}

// Most doubts are in readings that came to nothing: only those in the tree that was made are left.
void Reader::settle_doubts() {
    tree_.doubts.clear();
    for (const uint32_t doubt : doubts_) {
        const uint32_t start = tree_.nodes[doubt].start, end = tree_.nodes[doubt].end;
        popped_.assign(1, tree_.root);
        while (!popped_.empty()) {
            const uint32_t at = popped_.back();
            popped_.pop_back();
            if (at == doubt) {
                tree_.doubts.emplace_back(start, end);
                break;
            }
            const Node& node = tree_.nodes[at];
            for (uint32_t i = 0; i < node.n_children; ++i) {
                const uint32_t child = tree_.children[node.first_child + i];
                if (tree_.nodes[child].start <= start && tree_.nodes[child].end >= end) popped_.push_back(child);
            }
        }
    }
}

void Reader::finish(const Version& version) {
    if (accepted_) doubts_.push_back(levels_[1].node);
    accepted_ = true;
    // What is left beside the root are extras, before and after it; they are its children.
    uint32_t n_extra = 0;
    for (uint32_t level = version.top; level; level = levels_[level].below) {
        const Node& node = tree_.nodes[levels_[level].node];
        if (node.extra) n_extra += node.n_visible_below + grammar_.is.metadata[node.symbol].visible;
        else tree_.root = levels_[level].node;
    }
    tree_.nodes[tree_.root].n_visible_below += n_extra;
}

}  // namespace s7corpus
