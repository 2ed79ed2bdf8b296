// functions.h: a walk over visible nodes, which looks through hidden ones and calls nodes by their
// aliases, as tree-sitter's does.
#include "functions.h"

#include <algorithm>
#include <charconv>

namespace s7corpus {

uint32_t Functions::find(const Reader &reader, const uint8_t *roles, uint32_t min_nodes) {
    reader_ = &reader, roles_ = roles;
    found_.clear(), bytes.clear(), ends.clear();
    const Tree &tree = reader.tree();
    std::vector<uint32_t> waiting{tree.root};
    while (!waiting.empty()) {
        const uint32_t at = waiting.back();
        const Node &node = tree.nodes[at];
        waiting.pop_back();
        if (node.n_visible_below + 1 < min_nodes) continue;
        if (role(node.symbol) == FUNCTION && node.n_children) {
            found_.push_back(at);
            shape(at);
        }
        for (uint32_t i = 0; i < node.n_children; ++i)
            waiting.push_back(tree.children[node.first_child + i]);
    }
    return static_cast<uint32_t>(found_.size());
}

// Kind of the first named node below a node, and how many are named.
uint16_t Functions::first_named(uint32_t node, uint32_t &n_named) const {
    std::vector<Visible> items;
    reader_->tree().visible_below(node, items);
    uint16_t kind = 0;
    n_named = 0;
    for (size_t i = items.size(); i-- > 0;) {
        if (!reader_->grammar().is.metadata[items[i].kind].named) continue;
        if (!n_named++) kind = items[i].kind;
    }
    return kind;
}

void Functions::put(std::string_view part) {
    for (int shift = 56; shift >= 0; shift -= 8)
        bytes.push_back(static_cast<uint8_t>(uint64_t{part.size()} >> shift));
    bytes.insert(bytes.end(), part.begin(), part.end());
}

void Functions::shape(uint32_t function) {
    const Language &is = reader_->grammar().is;
    around_.clear(), waiting_.clear();
    reader_->tree().visible_below(function, around_);
    for (const Visible &item : around_)
        if (role(item.kind) == BLOCK) reader_->tree().visible_below(item.node, waiting_);
    for (size_t i = waiting_.size(); i-- > 0;) {
        uint16_t kind = waiting_[i].kind;
        if (!is.metadata[kind].named) continue;
        if (role(kind) == STATEMENT) {
            uint32_t n_named;
            kind = first_named(waiting_[i].node, n_named);
            if (role(kind) == OPAQUE) continue;
        }
        if (role(kind) != SKIPPED) put(is.symbol_names[kind]);
    }
    ends.push_back(static_cast<uint32_t>(bytes.size()));
}

uint32_t Functions::write(uint32_t i) {
    const Language &is = reader_->grammar().is;
    const Tree &tree = reader_->tree();
    const char *text = reinterpret_cast<const char *>(reader_->text());
    bytes.clear(), names_.clear(), around_.clear(), waiting_.clear();
    reader_->tree().visible_below(found_[i], around_);
    for (const Role wanted : {BLOCK, PARAMETERS})  // the stack gives the last first
        for (const Visible &item : around_)
            if (role(item.kind) == wanted) reader_->tree().visible_below(item.node, waiting_);
    uint32_t n_parts = 0;
    while (!waiting_.empty()) {
        const Visible item = waiting_.back();
        waiting_.pop_back();
        const Node &node = tree.nodes[item.node];
        const Role its = role(item.kind);
        if (item.is_end) {
            put(")");
        } else if (its == SKIPPED) {
            continue;
        } else if (its == TRANSPARENT || its == BLOCK || its == STATEMENT) {
            uint32_t n_named = 0;
            const bool is_documentation =
                its == STATEMENT && role(first_named(item.node, n_named)) == OPAQUE && n_named == 1;
            if (!is_documentation) reader_->tree().visible_below(item.node, waiting_);
            continue;
        } else if (its == IDENTIFIER) {
            const auto number = static_cast<uint32_t>(names_.size());
            const uint32_t first =
                names_.try_emplace({text + node.start, node.end - node.start}, number)
                    .first->second;
            char name[12] = "v";
            put({name, static_cast<size_t>(std::to_chars(name + 1, name + sizeof name, first).ptr -
                                           name)});
        } else if (its == OPAQUE) {
            put("S");
        } else if (node.has_visible_child) {
            put(is.symbol_names[item.kind]);
            waiting_.push_back({item.node, item.kind, true});
            reader_->tree().visible_below(item.node, waiting_);
        } else {
            put(is.metadata[item.kind].named
                    ? std::string_view{text + node.start, node.end - node.start}
                    : is.symbol_names[item.kind]);
        }
        ++n_parts;
    }
    return n_parts;
}

namespace {

using Parts = std::vector<std::string_view>;

Parts split(const uint8_t *parts, uint64_t n_bytes) {
    Parts found;
    for (uint64_t i = 0; i + 8 <= n_bytes;) {
        uint64_t size = 0;
        for (int k = 0; k < 8; ++k) size = size << 8 | parts[i + k];
        i += 8;
        size = std::min(size, n_bytes - i);
        found.emplace_back(reinterpret_cast<const char *>(parts + i), size);
        i += size;
    }
    return found;
}

// Without defaults of one part, or of an empty list, tuple or dictionary.
Parts without_defaults(const Parts &parts) {
    Parts kept;
    const auto is = [&](size_t i, std::string_view part) {
        return i < parts.size() && parts[i] == part;
    };
    for (size_t i = 0; i < parts.size();) {
        size_t n = 0;  // behind the kind: the name, an equals sign, one or two parts, the end
        if (parts[i] == "default_parameter" && is(i + 2, "="))
            n = is(i + 4, ")") ? 4 : is(i + 5, ")") ? 5 : 0;
        kept.push_back(parts[n ? i + 1 : i]);
        i += 1 + n;
    }
    return kept;
}

// Whether the first name of a function is its first parameter and stands nowhere else.
bool has_receiver(const Parts &parts) {
    return !parts.empty() && parts[0] == "v0" && std::ranges::count(parts, "v0") == 1;
}

bool is_name(std::string_view part) {
    return part.size() > 1 && part[0] == 'v' &&
           std::ranges::all_of(part.substr(1), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

// Without a receiver, every name has the number before its own.
void Functions::put_form(const Parts &parts, bool has_receiver) {
    for (size_t i = has_receiver; i < parts.size(); ++i) {
        if (!has_receiver || !is_name(parts[i])) {
            put(parts[i]);
            continue;
        }
        int64_t number = 0;
        std::from_chars(parts[i].data() + 1, parts[i].data() + parts[i].size(), number);
        char name[24] = "v";
        put({name, static_cast<size_t>(std::to_chars(name + 1, name + sizeof name, number - 1).ptr -
                                       name)});
    }
    ends.push_back(static_cast<uint32_t>(bytes.size()));
}

uint32_t Functions::as_functions(const uint8_t *parts, uint64_t n_bytes, uint32_t min_parts) {
    bytes.clear(), ends.clear();
    const Parts whole = split(parts, n_bytes), bare = without_defaults(whole);
    const bool has_defaults = bare.size() < whole.size();
    if (has_defaults && bare.size() >= min_parts) put_form(bare, false);
    if (has_receiver(whole) && whole.size() > min_parts) put_form(whole, true);
    if (has_defaults && has_receiver(bare) && bare.size() > min_parts) put_form(bare, true);
    return static_cast<uint32_t>(ends.size());
}

}  // namespace s7corpus
