// Checks the root over the digests of the payloads, and the seal, which lists the header and every
// other lane.
#include <algorithm>
#include <cstdio>

#include "reader.h"

namespace s7f {

namespace {

constexpr char kRootPlace[] = "header, root field at offset 8";

bool holds(const Slice &text, const Slice &wanted) {
    return std::search(text.data, text.data + text.n, wanted.data, wanted.data + wanted.n) !=
           text.data + text.n;
}

// Whether a payload calls itself a seal; its shape is `parse_seal`'s to judge.
s7f_status seal_value(const s7f_file &file, const Lane &lane, Document &to, bool &is_seal,
                      s7f_error *error) {
    const Slice payload = file.payload(lane);
    is_seal = false;
    if (payload.n > kMaxJsonBytes || payload.n == 0 || payload.data[0] != '{') return S7F_OK;
    // The word, or escapes that may hide it.
    if (!holds(payload, "\"seal\"") && !holds(payload, "\\u")) return S7F_OK;
    JsonBudget budget(file.bytes.n);
    const s7f_status bad = parse_json(payload, budget, "", to, nullptr);
    if (bad == S7F_MEMORY) return no_memory(error);
    const Value *kind = bad == S7F_OK ? to.get("kind") : nullptr;
    is_seal = kind != nullptr && kind->is_string("seal");
    return S7F_OK;
}

bool is_earlier_form(const s7f_file &file, Vec<Digest> &level) {
    level[0] = leaf_hash(file.bytes.data, kRootOffset);
    for (size_t i = 0; i < file.lanes.size(); ++i) {
        u8 leaf[kLaneHead + kDigest];
        std::memcpy(leaf, file.bytes.data + file.lanes[i].offset, kLaneHead);
        std::memcpy(leaf + kLaneHead, file.lanes[i].sha256.bytes, kDigest);
        level[i + 1] = leaf_hash(leaf, sizeof leaf);
    }
    return merkle_fold(level.data(), file.lanes.size() + 1) == file.root;
}

bool head_is(const s7f_file &file, const Slice &listed) {
    char text[2 * kRootOffset + 1];
    for (size_t i = 0; i < kRootOffset; ++i)
        std::snprintf(text + 2 * i, 3, "%02x", file.bytes.bytes()[i]);
    return listed == Slice(text, 2 * kRootOffset);
}

// Which part of a file was changed, by its seal. Every payload but FIELD's matches its own digest
// here: left are the header, ids, and lanes that were added, cut or swapped.
s7f_status changed_place(const s7f_file &file, const Lane *own, s7f_error *error) {
    const Document &seal = file.json[kSealKind];
    if (own == nullptr)
        return refuse(error, S7F_ROOT, kRootPlace,
                      "the lanes found do not give the root in the header: lanes are missing, or "
                      "the root was changed");
    if (own->id != kEdge)
        return refuse(error, S7F_ROOT, Where(*own).text, "its id is %d, a seal lies in EDGE",
                      own->id);
    const Value *header = seal.get("header"), *listed = seal.get("lanes");
    if (header == nullptr || !header->is(Kind::kString) || !head_is(file, header->text))
        return refuse(error, S7F_ROOT, "header",
                      "its first bytes are not those that the seal lists");
    const u32 n_listed = listed != nullptr && listed->is(Kind::kList) ? listed->n : 0;
    u32 i = 0;
    for (const Lane &lane : file.lanes) {
        if (&lane == own) continue;
        const Where where(lane);
        if (i == n_listed)
            return refuse(error, S7F_ROOT, where.text, "the lane is not in the seal");
        const Value &entry = seal.child(*listed, i++);
        const Value *id = seal.get(&entry, "id"), *digest = seal.get(&entry, "sha256");
        if (!equals_integer(id, lane.id))
            return refuse(error, S7F_ROOT, where.text, "its id is %d, the seal lists another",
                          lane.id);
        if (digest == nullptr || !digest->is_string(Hex(lane.sha256).slice()))
            return refuse(error, S7F_ROOT, where.text,
                          "its payload is not the one that the seal lists");
        if (!equals_integer(seal.get(&entry, "n_bytes"), static_cast<i64>(lane.n_bytes)))
            return refuse(error, S7F_ROOT, where.text, "its length is not that in the seal");
    }
    if (i < n_listed)
        return refuse(error, S7F_ROOT, "end of the file",
                      "a lane is missing (truncated): the seal lists %u lanes, the file has %u",
                      n_listed, i);
    if (own != file.lanes.begin())
        return refuse(error, S7F_ROOT, Where(file.lanes[0]).text, "it stands before the seal");
    return refuse(error, S7F_ROOT, kRootPlace,
                  "every lane is the one that was sealed, the root field was changed");
}

bool lists_all(const s7f_file &file, const Lane *own) {
    if (file.seal.lanes.size() + 1 != file.lanes.size()) return false;
    size_t i = 0;
    for (const Lane &lane : file.lanes) {
        if (&lane == own) continue;
        const SealedLane &listed = file.seal.lanes[i++];
        if (listed.id != lane.id || listed.n_bytes != lane.n_bytes ||
            !(listed.sha256 == lane.sha256))
            return false;
    }
    return true;
}

// The root holds: the seal has to list this header and these lanes.
s7f_status check_seal(s7f_file &file, const Lane *own, s7f_error *error) {
    if (own == nullptr) {
        const Lane &first = file.lanes[0];
        if (first.id == kEdge && first.n_bytes > 0) {
            JsonBudget budget(file.bytes.n);
            Document value;
            const s7f_status bad =
                parse_json(file.payload(first), budget, Where(first).text, value, error);
            if (bad != S7F_OK) return bad;
        }
        return refuse(error, S7F_SEAL, "header, offset 4",
                      "format version 3 has a seal among its lanes, this file has none");
    }
    if (own->id == kEdge) {
        const s7f_status bad = parse_seal(file.json[kSealKind], Where(*own).text, file.seal, error);
        if (bad != S7F_OK) return bad;
        if (head_is(file, file.seal.header) && lists_all(file, own)) {
            file.has_seal = true;
            file.seal_lane = own->index;
            return S7F_OK;
        }
    }
    return changed_place(file, own, error);
}

}  // namespace

s7f_status check_binding(s7f_file &file, s7f_error *error) {
    const Lane *own = nullptr;
    for (const Lane &lane : file.lanes) {
        Document value;
        bool is_seal = false;
        if (const s7f_status bad = seal_value(file, lane, value, is_seal, error)) return bad;
        if (is_seal && own == nullptr) own = &lane, file.json[kSealKind].swap(value);
    }
    const size_t n = file.lanes.size();
    Vec<Digest> level;
    if (!level.resize(n + 2)) return no_memory(error);
    for (size_t i = 0; i < n; ++i) level[i] = file.lanes[i].sha256;
    if (!(paired_fold(level.data(), n) == file.root)) {
        if (file.is_published() && is_earlier_form(file, level))
            return refuse(error, S7F_EARLIER_FORM, kRootPlace,
                          "the root is that of the form from before version 3");
        return changed_place(file, own, error);
    }
    if (file.is_published()) {
        if (own == nullptr) return S7F_OK;
        return refuse(error, S7F_VERSION, "header, offset 4",
                      "format version %d has no seal, lane %u is one: the header was changed",
                      file.version, own->index);
    }
    return n == 0 ? S7F_OK : check_seal(file, own, error);
}

}  // namespace s7f
