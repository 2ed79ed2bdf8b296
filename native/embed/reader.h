// A `.s7l` file that the reader accepted (specs/artifact.md), for every other file of this folder.
#pragma once

#include "json.h"

namespace s7f {

constexpr u16 kVersion = 3;
constexpr u8 kDense = 1, kMoe = 2;
constexpr u8 kInt8Flag = 0x01, kMoeFlag = 0x04, kPaddedFlag = 0x80;
constexpr u8 kDict = 1, kField = 2, kLane = 3, kEdge = 4, kBatch = 5;
constexpr size_t kHeaderBytes = 40, kRootOffset = 8, kLaneHead = 5;
constexpr u64 kMaxDictBytes = u64{64} << 20, kMaxJsonBytes = u64{16} << 20,
              kMaxLaneBytes = 0xFFFFFFFF;
constexpr u32 kMaxLanes = 1024, kMaxRank = 8;
constexpr u64 kMinChunk = 4096, kMaxChunk = u64{16} << 20;

// The `kind` of a JSON payload; kNoKind for DICT, FIELD and empty payloads.
enum LaneKind : u8 {
    kNoKind,
    kControl,
    kGraph,
    kProvenance,
    kSealKind,
    kTrace,
    kGradient,
    kNKinds
};
Slice kind_name(LaneKind kind);
const char *lane_name(u8 id);

struct Lane {
    u8 id = 0;
    LaneKind kind = kNoKind;
    u32 index = 0;
    u64 offset = 0, n_bytes = 0;  // of the id byte; of the payload
    Digest sha256{};
    u64 payload() const { return offset + kLaneHead; }
    u64 end() const { return offset + kLaneHead + n_bytes + kDigest; }
};

// "lane 2 (LANE) at offset 1234".
struct Where {
    char text[64];
    explicit Where(const Lane &lane);
};

struct Record {
    Slice name;
    u32 dims[kMaxRank] = {};
    u32 rank = 0;
    float scale = 0;
    u64 start = 0, offset = 0, n_values = 0;  // of the record and of its data in the file
};

struct Piece {
    Slice name;
    u64 n_bytes = 0, first_chunk = 0, n_chunks = 0;
};

struct SealedLane {
    u8 id = 0;
    Slice kind;
    u64 n_bytes = 0;
    Digest sha256{};
    size_t first_piece = 0, n_pieces = 0;
};

struct SealedPart {
    Slice name;
    Digest root{};
};

struct Seal {
    Slice header;
    u64 chunk_bytes = 0;
    Vec<SealedLane> lanes;
    Vec<Piece> pieces;
    Vec<Digest> chunks;
    Vec<SealedPart> parts;  // by name
};

// The amount of JSON that the payloads of one file may still hold together.
struct JsonBudget {
    i64 n_bytes, n_wide_bytes, n_values;
    explicit JsonBudget(u64 file_bytes);
    s7f_status take(const Slice &payload, const char *where, s7f_error *error);
};

}  // namespace s7f

struct s7f_file {
    s7f::Vec<s7f::u8> owned;  // empty where the bytes are the caller's
    s7f::Slice bytes;
    s7f::u16 version = 0;
    s7f::u8 class_ = 0, flags = 0;
    s7f::Digest root{};
    char root_hex[s7f::kHex + 1] = {};
    s7f::Vec<s7f::Lane> lanes;
    s7f::Document json[s7f::kNKinds];
    bool has[s7f::kNKinds] = {};  // the file has a payload of the kind
    bool has_seal = false;
    s7f::u32 seal_lane = 0;
    s7f::Seal seal;
    s7f::Vec<s7f::Record> records;      // in file order
    s7f::Vec<s7f::u32> records_sorted;  // by name

    bool is_published() const { return version < s7f::kVersion; }
    bool is_padded() const {
        return is_published() ? version == 2 : (flags & s7f::kPaddedFlag) != 0;
    }
    s7f::Slice raw(s7f::u64 offset, s7f::u64 n) const { return {bytes.data + offset, n}; }
    s7f::Slice payload(const s7f::Lane &lane) const { return raw(lane.payload(), lane.n_bytes); }
    const s7f::Document &of(s7f::LaneKind kind) const { return json[kind]; }
    const s7f::Record *record(const s7f::Slice &name) const;
    // The DICT payload; empty when the file has none.
    s7f::Slice dictionary() const;
};

namespace s7f {

// `file->bytes` is set: prove all of it.
s7f_status read_file(s7f_file &file, s7f_error *error);

// Steps of it, in the files named after them.
s7f_status read_header(s7f_file &file, s7f_error *error);
s7f_status read_lanes(s7f_file &file, s7f_error *error);
s7f_status prove_fields(const s7f_file &file, s7f_error *error);
s7f_status check_binding(s7f_file &file, s7f_error *error);
s7f_status read_json(s7f_file &file, s7f_error *error);
s7f_status parse_json(const Slice &payload, JsonBudget &budget, const char *where, Document &to,
                      s7f_error *error);
s7f_status parse_seal(const Document &value, const char *where, Seal &to, s7f_error *error);
s7f_status read_records(s7f_file &file, s7f_error *error);

inline u32 big_endian(const u8 *from, int n) {
    u32 found = 0;
    for (int i = 0; i < n; ++i) found = found << 8 | from[i];
    return found;
}

}  // namespace s7f
