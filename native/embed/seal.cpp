// Parses the seal into a structure. Only its shape is checked here. Its claims are compared with
// the bytes elsewhere.
#include <cstdio>

#include "reader.h"

namespace s7f {

namespace {

int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

// `n` bytes as lower-case hexadecimal digits and nothing else: a digest has one spelling.
bool from_hex(const Slice &text, u8 *to, size_t n) {
    if (text.n != 2 * n) return false;
    for (size_t i = 0; i < n; ++i) {
        const int high = digit_of(text.data[2 * i]), low = digit_of(text.data[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        to[i] = static_cast<u8>(high << 4 | low);
    }
    return true;
}

// Extracts typed values from hostile JSON. A mismatch is a refusal that names the place.
class Shape {
  public:
    Shape(const Document &document, const char *where, Seal &to, s7f_error *error)
        : document_(document), where_(where), to_(to), error_(error) {}

    s7f_status run() {
        const Value &root = document_.root();
        i64 size = 0;
        if (!integer_within(document_.get(&root, "chunk_bytes"), kMinChunk, kMaxChunk, size) ||
            (size & (size - 1)) != 0)
            return fail("chunk_bytes is no power of two from 4096 to 16777216");
        to_.chunk_bytes = static_cast<u64>(size);
        const Value *parts = document_.get(&root, "parts");
        if (parts == nullptr || !parts->is(Kind::kObject)) return fail("parts is no object");
        if (!ascii(document_.get(&root, "header"), to_.header)) return fail("header is no text");
        const Value *lanes = document_.get(&root, "lanes");
        if (lanes == nullptr || !lanes->is(Kind::kList)) return fail("lanes is no list");
        for (u32 i = 0; i < lanes->n; ++i)
            if (const s7f_status bad = lane(document_.child(*lanes, i))) return bad;
        for (u32 i = 0; i < parts->n; ++i) {
            const Value &member = document_.by_key(*parts, i);
            SealedPart part;
            part.name = member.key;
            if (!digest(&member, part.root)) return fail("the root of a part is no digest");
            if (!to_.parts.push(part)) return no_memory(error_);
        }
        return S7F_OK;
    }

  private:
    s7f_status fail(const char *what) const {
        return refuse(error_, S7F_SEAL, where_, "the seal: %s", what);
    }

    static bool ascii(const Value *value, Slice &to) {
        if (value == nullptr || !value->is(Kind::kString)) return false;
        for (size_t i = 0; i < value->text.n; ++i)
            if (value->text.bytes()[i] >= 0x80) return false;
        to = value->text;
        return true;
    }

    static bool digest(const Value *value, Digest &to) {
        Slice text;
        return ascii(value, text) && from_hex(text, to.bytes, kDigest);
    }

    s7f_status piece(const Value &value, u64 &n_lane_bytes) {
        Piece found;
        i64 n_bytes = 0;
        Slice text;
        if (!integer_within(document_.get(&value, "n_bytes"), 0, kMaxLaneBytes, n_bytes))
            return fail("n_bytes of a piece is no length");
        if (!ascii(document_.get(&value, "name"), found.name))
            return fail("the name of a piece is no text");
        found.n_bytes = static_cast<u64>(n_bytes);
        found.first_chunk = to_.chunks.size();
        found.n_chunks = (found.n_bytes + to_.chunk_bytes - 1) / to_.chunk_bytes;
        // Before memory is taken for them: as many as the text can hold.
        if (!ascii(document_.get(&value, "chunks"), text) || text.n / kHex != found.n_chunks)
            return fail("the chunks of a piece are not as many digests");
        if (!to_.chunks.resize(to_.chunks.size() + found.n_chunks)) return no_memory(error_);
        u8 none = 0;
        u8 *const to = found.n_chunks == 0 ? &none : to_.chunks[found.first_chunk].bytes;
        if (!from_hex(text, to, found.n_chunks * kDigest))
            return fail("the chunks of a piece are not as many digests");
        n_lane_bytes += found.n_bytes;
        return to_.pieces.push(found) ? S7F_OK : no_memory(error_);
    }

    s7f_status lane(const Value &value) {
        SealedLane found;
        i64 id = 0, n_bytes = 0;
        if (!integer_within(document_.get(&value, "id"), kDict, kBatch, id))
            return fail("the id of a lane is none");
        if (!ascii(document_.get(&value, "kind"), found.kind))
            return fail("the kind of a lane is no text");
        if (!integer_within(document_.get(&value, "n_bytes"), 0, kMaxLaneBytes, n_bytes))
            return fail("n_bytes of a lane is no length");
        if (!digest(document_.get(&value, "sha256"), found.sha256))
            return fail("sha256 of a lane is no digest");
        const Value *pieces = document_.get(&value, "pieces");
        if (pieces == nullptr || !pieces->is(Kind::kList))
            return fail("the pieces of a lane are no list");
        found.id = static_cast<u8>(id);
        found.n_bytes = static_cast<u64>(n_bytes);
        found.first_piece = to_.pieces.size();
        found.n_pieces = pieces->n;
        u64 sum = 0;
        for (u32 i = 0; i < pieces->n; ++i)
            if (const s7f_status bad = piece(document_.child(*pieces, i), sum)) return bad;
        if (sum != found.n_bytes) return fail("the pieces of a lane have another length in all");
        return to_.lanes.push(found) ? S7F_OK : no_memory(error_);
    }

    const Document &document_;
    const char *where_;
    Seal &to_;
    s7f_error *error_;
};

}  // namespace

s7f_status parse_seal(const Document &value, const char *where, Seal &to, s7f_error *error) {
    return Shape(value, where, to, error).run();
}

}  // namespace s7f
