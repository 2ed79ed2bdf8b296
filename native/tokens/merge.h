/* Ids of one piece: BPE joins learnt pairs, the first learnt first and of those the leftmost;
 * Unigram takes the likeliest cut. */
#ifndef S7_TOKENS_MERGE_H
#define S7_TOKENS_MERGE_H

#include "pretokenize.h"

#include <cstddef>
#include <string_view>
#include <unordered_map>

namespace s7tokens {

using Id = std::int32_t;

/* Ids of one piece, appended at `ids`, which has room for one a byte; returns their number. Scratch
 * memory is its own. */
class Pieces {
  public:
    virtual ~Pieces() = default;
    virtual std::size_t encode(const Byte *piece, std::size_t n_bytes, Id *ids) = 0;
};

/* What two numbers give: of neighbours, what they become and when; of a node and a byte, the next
 * node. */
struct Pair {
    std::uint64_t key; /* NONE: an empty place of the table */
    std::uint32_t rank;
    std::int32_t into;
};

/* A table of open addresses, half empty. */
class Pairs {
  public:
    Pairs();
    /* A pair given twice has its last value. */
    void add(std::uint32_t left, std::uint32_t right, std::uint32_t rank, std::int32_t into);
    /* Null when there is none. */
    const Pair *find(std::uint32_t left, std::uint32_t right) const;

  private:
    std::size_t place(std::uint64_t key) const;
    void grow();

    std::vector<Pair> table_;
    std::size_t n_pairs_ = 0;
    int shift_;
};

class Bpe final : public Pieces {
  public:
    explicit Bpe(bool whole) : whole_(whole) { byte_ids_.fill(-1); }
    void add_entry(std::string_view bytes, Id id);
    void add_merge(Id left, Id right, std::uint32_t rank, Id into) {
        merges_.add(left, right, rank, into);
    }
    /* Whether each of the 256 bytes is an entry. */
    bool complete() const;
    std::size_t encode(const Byte *piece, std::size_t n_bytes, Id *ids) override;

  private:
    struct Part {
        Id id;
        std::uint32_t before, after;
    };
    struct Candidate {
        std::uint32_t rank, at;
        Id left, right;
    };

    std::size_t merge_short(std::size_t n, Id *ids) const;
    std::size_t merge_long(std::size_t n, Id *ids);

    Pairs merges_;
    bool whole_;
    std::array<Id, 256> byte_ids_;                /* -1: not an entry */
    std::unordered_map<std::string, Id> entries_; /* only where pieces are taken whole */
    std::vector<Part> parts_;
    std::vector<Candidate> heap_;
};

class Unigram final : public Pieces {
  public:
    Unigram();
    void add_entry(std::string_view bytes, Id id, double score);
    bool complete() const;
    std::size_t encode(const Byte *piece, std::size_t n_bytes, Id *ids) override;

  private:
    struct Node {
        Id id = -1;
        double score = 0;
    };
    struct Best {
        double score;
        std::uint32_t begins;
        Id id; /* -1: nothing ends here yet */
    };

    std::vector<Node> nodes_;
    Pairs edges_;
    std::vector<Best> best_;
};

}  // namespace s7tokens
#endif
