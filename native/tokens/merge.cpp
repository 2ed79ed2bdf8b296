// Merging and Viterbi of merge.h. Both do what the `tokenizers` library does, to the tie.

#include "merge.h"

#include <algorithm>

namespace s7tokens {

namespace {

constexpr std::uint64_t NONE = ~std::uint64_t{0};
constexpr std::size_t SHORT = 48;  // parts up to which looking at all of them beats a heap

std::uint64_t key_of(std::uint32_t left, std::uint32_t right) {
    return std::uint64_t{left} << 32 | right;
}

}  // namespace

Pairs::Pairs() : table_(16, Pair{NONE, 0, 0}), shift_(60) {}

std::size_t Pairs::place(std::uint64_t key) const {
    std::size_t at = (key ^ key >> 29) * 0x9E3779B97F4A7C15u >> shift_;
    while (table_[at].key != NONE && table_[at].key != key) at = (at + 1) & (table_.size() - 1);
    return at;
}

void Pairs::grow() {
    std::vector<Pair> old(table_.size() * 2, Pair{NONE, 0, 0});
    old.swap(table_);
    --shift_;
    for (const Pair &pair : old)
        if (pair.key != NONE) table_[place(pair.key)] = pair;
}

void Pairs::add(std::uint32_t left, std::uint32_t right, std::uint32_t rank, std::int32_t into) {
    if (2 * (n_pairs_ + 1) > table_.size()) grow();
    Pair &found = table_[place(key_of(left, right))];
    n_pairs_ += found.key == NONE;
    found = {key_of(left, right), rank, into};
}

const Pair *Pairs::find(std::uint32_t left, std::uint32_t right) const {
    const Pair &found = table_[place(key_of(left, right))];
    return found.key == NONE ? nullptr : &found;
}

void Bpe::add_entry(std::string_view bytes, Id id) {
    if (bytes.size() == 1) byte_ids_[static_cast<Byte>(bytes[0])] = id;
    if (whole_) entries_[std::string(bytes)] = id;
}

bool Bpe::complete() const {
    return std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end();
}

std::size_t Bpe::encode(const Byte *piece, std::size_t n, Id *ids) {
    if (whole_) {
        const auto found = entries_.find(std::string(reinterpret_cast<const char *>(piece), n));
        if (found != entries_.end()) {
            *ids = found->second;
            return 1;
        }
    }
    for (std::size_t i = 0; i < n; ++i) ids[i] = byte_ids_[piece[i]];
    return n <= SHORT ? merge_short(n, ids) : merge_long(n, ids);
}

std::size_t Bpe::merge_short(std::size_t n, Id *ids) const {
    constexpr std::uint32_t NEVER = ~std::uint32_t{0};
    std::uint32_t ranks[SHORT];
    Id becomes[SHORT];
    const auto ask = [&](std::size_t i) {
        const Pair *found = merges_.find(ids[i], ids[i + 1]);
        ranks[i] = found ? found->rank : NEVER;
        becomes[i] = found ? found->into : 0;
    };
    for (std::size_t i = 0; i + 1 < n; ++i) ask(i);
    while (n > 1) {
        const std::size_t at =
            std::min_element(ranks, ranks + n - 1) - ranks;  // of equals the leftmost
        if (ranks[at] == NEVER) break;
        ids[at] = becomes[at];
        std::copy(ids + at + 2, ids + n, ids + at + 1);
        if (at + 2 < n) {
            std::copy(ranks + at + 2, ranks + n - 1, ranks + at + 1);
            std::copy(becomes + at + 2, becomes + n - 1, becomes + at + 1);
        }
        --n;
        if (at > 0) ask(at - 1);
        if (at + 1 < n) ask(at);
    }
    return n;
}

std::size_t Bpe::merge_long(std::size_t n, Id *ids) {
    constexpr std::uint32_t END = ~std::uint32_t{0};
    const auto later = [](const Candidate &a, const Candidate &b) {
        return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
    };
    parts_.resize(n);
    heap_.clear();
    const auto ask = [&](std::uint32_t at) {
        const std::uint32_t next = parts_[at].after;
        if (next == END) return;
        if (const Pair *found = merges_.find(parts_[at].id, parts_[next].id)) {
            heap_.push_back({found->rank, at, parts_[at].id, parts_[next].id});
            std::push_heap(heap_.begin(), heap_.end(), later);
        }
    };
    for (std::uint32_t i = 0; i < n; ++i)
        parts_[i] = {ids[i], i ? i - 1 : END, i + 1 < n ? i + 1 : END};
    for (std::uint32_t i = 0; i < n; ++i) ask(i);
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        const Candidate first = heap_.back();
        heap_.pop_back();
        Part &left = parts_[first.at];
        const std::uint32_t next = left.after;
        // What has merged since is another part; one that was taken into its neighbour has id -1.
        if (left.id != first.left || next == END || parts_[next].id != first.right) continue;
        left.id = merges_.find(first.left, first.right)->into;
        left.after = parts_[next].after;
        parts_[next].id = -1;
        if (left.after != END) parts_[left.after].before = first.at;
        if (left.before != END) ask(left.before);
        ask(first.at);
    }
    std::size_t n_ids = 0;
    for (std::uint32_t at = 0; at != END; at = parts_[at].after) ids[n_ids++] = parts_[at].id;
    return n_ids;
}

Unigram::Unigram() : nodes_(1) {}

void Unigram::add_entry(std::string_view bytes, Id id, double score) {
    std::uint32_t node = 0;
    for (const char c : bytes) {
        const Byte byte = static_cast<Byte>(c);
        const Pair *found = edges_.find(node, byte);
        const auto next = found ? found->into : static_cast<std::int32_t>(nodes_.size());
        if (!found) {
            edges_.add(node, byte, 0, next);
            nodes_.emplace_back();
        }
        node = next;
    }
    nodes_[node] = {id, score};
}

bool Unigram::complete() const {
    for (unsigned byte = 0; byte < 256; ++byte) {
        const Pair *found = edges_.find(0, byte);
        if (!found || nodes_[found->into].id < 0) return false;
    }
    return true;
}

std::size_t Unigram::encode(const Byte *piece, std::size_t n, Id *ids) {
    best_.assign(n + 1, Best{0, 0, -1});
    for (std::size_t from = 0; from < n; ++from) {
        std::uint32_t node = 0;
        for (std::size_t at = from; at < n; ++at) {
            const Pair *found = edges_.find(node, piece[at]);
            if (!found) break;
            node = found->into;
            const Node &entry = nodes_[node];
            if (entry.id < 0) continue;
            Best &best = best_[at + 1];
            const double score = entry.score + best_[from].score;
            if (best.id < 0 || score > best.score)
                best = {score, static_cast<std::uint32_t>(from), entry.id};
        }
    }
    std::size_t n_ids = 0;
    for (std::size_t at = n; at > 0; at = best_[at].begins) ids[n_ids++] = best_[at].id;
    std::reverse(ids, ids + n_ids);
    return n_ids;
}

}  // namespace s7tokens
