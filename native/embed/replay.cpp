// Rule V6: hashes every chunk, piece and part again, and checks the form of the golden prompts.
#include <algorithm>

#include "rules.h"

namespace s7f {

namespace {

// The part of the model that a record belongs to: "trunk", "training", or an expert by its digits.
struct PartKey {
    u8 order = 0;  // trunk, expert, training
    Slice digits;
};

PartKey part_of(const Slice &name) {
    if (name.starts_with("training.")) return {2, {}};
    for (size_t i = 0; i < name.n; ++i) {
        if ((i > 0 && name.data[i - 1] != '.') || !name.from(i).starts_with("experts.")) continue;
        const size_t begin = i + 8;
        size_t end = begin;
        while (end < name.n && name.data[end] >= '0' && name.data[end] <= '9') ++end;
        if (end > begin && end < name.n && name.data[end] == '.')
            return {1, {name.data + begin, end - begin}};
    }
    return {0, {}};
}

int compare_parts(const PartKey &a, const PartKey &b) {
    return a.order != b.order ? a.order - b.order : compare(a.digits, b.digits);
}

// "expert.12".
struct PartName {
    char text[272];
    Slice slice;

    explicit PartName(const PartKey &part) {
        if (part.order != 1) {
            slice = part.order == 0 ? Slice("trunk") : Slice("training");
            return;
        }
        std::memcpy(text, "expert.", 7);
        std::memcpy(text + 7, part.digits.data, part.digits.n);
        slice = {text, 7 + part.digits.n};
    }
};

struct Leaf {
    PartKey part;
    u32 index;
    Digest hash;
};

// Calls `take` with every piece of the seal, its lane and its offset in the file, until `take`
// returns false. Returns whether it never did.
template <typename Take> bool each_piece(const s7f_file &file, Take take) {
    size_t n_lane = 0;
    for (const Lane &lane : file.lanes) {
        if (lane.kind == kSealKind) continue;
        const SealedLane &listed = file.seal.lanes[n_lane++];
        u64 offset = lane.payload();
        for (size_t k = 0; k < listed.n_pieces; ++k) {
            const Piece &piece = file.seal.pieces[listed.first_piece + k];
            if (!take(lane, piece, offset)) return false;
            offset += piece.n_bytes;
        }
    }
    return true;
}

// Checks that every piece with a name is a record, in the same order and place.
bool pieces_are_records(Rule &rule) {
    const s7f_file &file = rule.file;
    size_t i = 0;
    const bool all = each_piece(file, [&](const Lane &, const Piece &piece, u64 offset) {
        if (piece.name.n == 0) return true;
        if (i == file.records.size()) return false;
        const Record &record = file.records[i++];
        return record.name == piece.name && record.start == offset;
    });
    return rule.need(all && i == file.records.size(),
                     "seal: its pieces are not the records of FIELD");
}

// Hash the chunks of a piece again; `level` gets their leaves.
bool check_chunks(Rule &rule, const Lane &lane, const Piece &piece, u64 offset,
                  Vec<Digest> &level) {
    const Seal &seal = rule.file.seal;
    level.shrink(0);
    if (!rule.memory(level.resize(piece.n_chunks))) return false;
    for (u64 i = 0; i < piece.n_chunks; ++i) {
        const u64 first = i * seal.chunk_bytes,
                  n = std::min(seal.chunk_bytes, piece.n_bytes - first);
        const Digest found = sha256(rule.file.bytes.data + offset + first, n);
        if (!rule.need(found == seal.chunks[piece.first_chunk + i],
                       "%s: the chunk at offset %llu does not hash to what the seal lists",
                       Where(lane).text, static_cast<unsigned long long>(offset + first)))
            return false;
        level[i] = leaf_hash(found.bytes, kDigest);
    }
    return true;
}

const SealedPart *sealed_part(const Seal &seal, const PartKey &part) {
    const PartName name(part);
    const SealedPart *found = std::lower_bound(
        seal.parts.begin(), seal.parts.end(), name.slice,
        [](const SealedPart &sealed, const Slice &key) { return compare(sealed.name, key) < 0; });
    return found != seal.parts.end() && found->name == name.slice ? found : nullptr;
}

bool check_parts(Rule &rule, Vec<Leaf> &leaves) {
    const Seal &seal = rule.file.seal;
    std::sort(leaves.begin(), leaves.end(), [](const Leaf &a, const Leaf &b) {
        const int order = compare_parts(a.part, b.part);
        return order != 0 ? order < 0 : a.index < b.index;
    });
    size_t n_parts = 0;
    Vec<Digest> level;
    for (size_t i = 0; i < leaves.size(); ++n_parts) {
        // More parts than the seal lists are found before they can be many.
        if (!rule.need(n_parts < seal.parts.size(), "seal: the sub-root of a part is missing"))
            return false;
        const PartKey part = leaves[i].part;
        level.shrink(0);
        for (; i < leaves.size() && compare_parts(leaves[i].part, part) == 0; ++i)
            if (!rule.memory(level.push(leaves[i].hash))) return false;
        const SealedPart *sealed = sealed_part(seal, part);
        const Digest root = merkle_fold(level.data(), level.size());
        if (!rule.need(sealed != nullptr && sealed->root == root,
                       "seal: the sub-root of a part is not that of its records"))
            return false;
    }
    return rule.need(n_parts == seal.parts.size(),
                     "seal: the sub-root of a part that has no records");
}

bool are_ids(const Document &document, const Value *list) {
    if (list == nullptr || !list->is(Kind::kList)) return false;
    for (u32 i = 0; i < list->n; ++i)
        if (!is_natural(&document.child(*list, i))) return false;
    return true;
}

bool check_golden(Rule &rule, u32 i, const Value &row) {
    const Document &provenance = rule.file.of(kProvenance);
    const Value *prompt = provenance.get(&row, "prompt"), *ids = provenance.get(&row, "ids"),
                *steps = provenance.get(&row, "n_steps"), *tokens = provenance.get(&row, "tokens");
    i64 n_steps = 0;
    const bool counted = integer_within(steps, 1, INT64_MAX, n_steps);
    return rule.need(prompt != nullptr && prompt->is(Kind::kString), "golden prompt %u has no text",
                     i) &&
           rule.need(are_ids(provenance, ids) && ids->n > 0, "golden prompt %u has no token ids",
                     i) &&
           rule.need(counted, "golden prompt %u has the step count of no run", i) &&
           rule.need(tokens != nullptr && tokens->is(Kind::kList) && tokens->n == n_steps,
                     "golden prompt %u has not one token for each step", i) &&
           rule.need(are_ids(provenance, tokens), "golden prompt %u has tokens that are no ids",
                     i) &&
           rule.need(is_digest(provenance.get(&row, "logits_sha256")),
                     "golden prompt %u has no logits_sha256", i);
}

}  // namespace

bool v6_chunks(Rule &rule) {
    const s7f_file &file = rule.file;
    if (!pieces_are_records(rule)) return false;
    Vec<Leaf> leaves;
    Vec<Digest> level;
    const auto take = [&](const Lane &lane, const Piece &piece, u64 offset) {
        if (!check_chunks(rule, lane, piece, offset, level)) return false;
        if (piece.name.n == 0) return true;
        const Digest root = merkle_fold(level.data(), level.size());
        const Leaf leaf{part_of(piece.name), static_cast<u32>(leaves.size()),
                        leaf_hash(root.bytes, kDigest)};
        return rule.memory(leaves.push(leaf));
    };
    return each_piece(file, take) && check_parts(rule, leaves);
}

bool v6_golden(Rule &rule, i64 &n_golden) {
    const Value *golden = rule.list(kProvenance, "golden");
    if (golden == nullptr || !rule.need(golden->n > 0, "no golden logits travel with the model"))
        return false;
    for (u32 i = 0; i < golden->n; ++i)
        if (!check_golden(rule, i, rule.file.of(kProvenance).child(*golden, i))) return false;
    n_golden = golden->n;
    return true;
}

}  // namespace s7f
