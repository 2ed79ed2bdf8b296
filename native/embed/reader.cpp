// The total reader: header, frames, JSON payloads. Any bytes give a file or a refusal.
#include "reader.h"

#include <algorithm>
#include <cstdio>

#include "utf8.h"

namespace s7f {

namespace {

constexpr char kHeaderVersion[] = "header, offset 4", kHeaderClass[] = "header, offset 6",
               kHeaderFlags[] = "header, offset 7";

s7f_status check_flags(const s7f_file &file, s7f_error *error) {
    const u8 known =
        file.is_published() ? kInt8Flag | kMoeFlag : kInt8Flag | kMoeFlag | kPaddedFlag;
    const unsigned flags = file.flags;
    for (int bit = 0; bit < 8; ++bit)
        if ((flags >> bit & 1) != 0 && (known >> bit & 1) == 0)
            return refuse(error, S7F_FLAG, kHeaderFlags,
                          "flags 0x%02x: bit %d has no meaning in format version %d", flags, bit,
                          file.version);
    const bool moe = file.class_ == kMoe;
    if ((flags & kMoeFlag) != 0 && !moe)
        return refuse(error, S7F_FLAG, kHeaderFlags,
                      "flags 0x%02x: bit 2 says MoE, the class says dense", flags);
    if (!file.is_published() && ((flags & kInt8Flag) == 0 || ((flags & kMoeFlag) != 0) != moe))
        return refuse(error, S7F_FLAG, kHeaderFlags,
                      "flags 0x%02x: version 3 has bit 0 set, and bit 2 for class 0x02 alone",
                      flags);
    return S7F_OK;
}

u64 cap_of(u8 id) {
    return id == kDict ? kMaxDictBytes : id == kField ? kMaxLaneBytes : kMaxJsonBytes;
}

s7f_status check_lane_digest(const s7f_file &file, const Lane &lane, s7f_error *error) {
    const Slice payload = file.payload(lane);
    if (sha256(payload.data, payload.n) == lane.sha256) return S7F_OK;
    return refuse(error, S7F_LANE_DIGEST, Where(lane).text,
                  "the payload does not hash to the digest stored behind it: a byte was changed");
}

s7f_status read_lane(s7f_file &file, Lane &lane, s7f_error *error) {
    const u64 left = file.bytes.n - lane.offset;
    char where[64];
    std::snprintf(where, sizeof where, "lane %u at offset %llu", lane.index,
                  static_cast<unsigned long long>(lane.offset));
    if (lane.index == kMaxLanes)
        return refuse(error, S7F_LIMIT, where, "more than %u lanes", kMaxLanes);
    if (left < kLaneHead)
        return refuse(error, S7F_TRUNCATED, where, "the file ends inside the lane's first 5 bytes");
    const u8 *head = file.bytes.bytes() + lane.offset;
    lane.id = head[0];
    lane.n_bytes = big_endian(head + 1, 4);
    if (lane.id < kDict || lane.id > kBatch)
        return refuse(error, S7F_LANE_ID, where, "unknown lane id 0x%02x, known are 1 to 5",
                      lane.id);
    if (lane.n_bytes > cap_of(lane.id))
        return refuse(error, S7F_LIMIT, Where(lane).text,
                      "a payload of %llu bytes, the cap of this lane is %llu",
                      static_cast<unsigned long long>(lane.n_bytes),
                      static_cast<unsigned long long>(cap_of(lane.id)));
    if (lane.end() > file.bytes.n)
        return refuse(error, S7F_TRUNCATED, Where(lane).text,
                      "it claims %llu bytes, the file ends %llu bytes after the lane's start",
                      static_cast<unsigned long long>(lane.n_bytes),
                      static_cast<unsigned long long>(left));
    std::memcpy(lane.sha256.bytes, file.bytes.bytes() + lane.end() - kDigest, kDigest);
    return lane.id == kField ? S7F_OK : check_lane_digest(file, lane, error);
}

s7f_status refuse_twins(const s7f_file &file, s7f_error *error) {
    bool seen[kBatch + 1] = {};
    for (const Lane &lane : file.lanes) {
        const bool once =
            lane.id == kDict || (!file.is_published() && (lane.id == kLane || lane.id == kBatch));
        if (once && seen[lane.id])
            return refuse(error, S7F_DUPLICATE_LANE, Where(lane).text,
                          "the file has this lane already");
        seen[lane.id] = true;
    }
    return S7F_OK;
}

// The kinds that a lane may have are `first` to `last`.
bool kinds_of(u8 id, LaneKind &first, LaneKind &last) {
    first = id == kEdge ? kControl : id == kLane ? kTrace : kGradient;
    last = id == kEdge ? kSealKind : first;
    return id == kEdge || id == kLane || id == kBatch;
}

s7f_status check_kinds(const s7f_file &file, s7f_error *error) {
    size_t i = 0;
    for (const Lane &lane : file.lanes) {
        if (lane.kind == kSealKind) continue;
        const Slice listed = file.seal.lanes[i++].kind;
        if (!(listed == kind_name(lane.kind)))
            return refuse(error, S7F_SEAL, Where(lane).text,
                          "the seal calls the lane '%.*s', its payload '%s'", shown(listed),
                          listed.data, kind_name(lane.kind).data);
    }
    return S7F_OK;
}

s7f_status read_payload(s7f_file &file, Lane &lane, JsonBudget &budget, s7f_error *error) {
    LaneKind first, last;
    if (lane.n_bytes == 0 || !kinds_of(lane.id, first, last)) return S7F_OK;
    const Where where(lane);
    Document value;
    if (file.has_seal && lane.index == file.seal_lane) {
        // It was read before the others. It counts, too.
        file.has[kSealKind] = true;
        lane.kind = kSealKind;
        return budget.take(file.payload(lane), where.text, error);
    }
    if (const s7f_status bad = parse_json(file.payload(lane), budget, where.text, value, error))
        return bad;
    const Value *kind = value.get("kind");
    LaneKind found = kNoKind;
    for (int k = first; k <= last; ++k)
        if (kind != nullptr && kind->is_string(kind_name(static_cast<LaneKind>(k))))
            found = static_cast<LaneKind>(k);
    if (found == kNoKind)
        return refuse(error, S7F_LANE_KIND, where.text, "no kind, or one of another lane");
    if (file.has[found])
        return refuse(error, S7F_DUPLICATE_LANE, where.text,
                      "the file has a payload of kind '%s' already", kind_name(found).data);
    file.has[found] = true;
    lane.kind = found;
    file.json[found].swap(value);
    return S7F_OK;
}

}  // namespace

Slice kind_name(LaneKind kind) {
    static constexpr Slice kNames[kNKinds] = {"",     "control", "graph",         "provenance",
                                              "seal", "trace",   "gradient_trace"};
    return kNames[kind];
}

const char *lane_name(u8 id) {
    static constexpr const char *kNames[] = {"DICT", "FIELD", "LANE", "EDGE", "BATCH"};
    return kNames[id - 1];
}

Where::Where(const Lane &lane) {
    std::snprintf(text, sizeof text, "lane %u (%s) at offset %llu", lane.index, lane_name(lane.id),
                  static_cast<unsigned long long>(lane.offset));
}

JsonBudget::JsonBudget(u64 file_bytes)
    : n_bytes(static_cast<i64>(524288 + file_bytes / 4)),
      n_wide_bytes(static_cast<i64>(131072 + file_bytes / 8)),
      n_values(static_cast<i64>(std::min(u64{1} << 19, 16384 + file_bytes / 512))) {}

s7f_status JsonBudget::take(const Slice &payload, const char *where, s7f_error *error) {
    static constexpr char kMore[] = "more JSON than a file of this size may hold";
    n_bytes -= static_cast<i64>(payload.n);
    if (n_bytes < 0) return refuse(error, S7F_LIMIT, where, kMore);
    bool ascii = true, escape = false;
    i64 values = 0;
    for (size_t i = 0; i < payload.n; ++i) {
        const u8 c = payload.bytes()[i];
        ascii = ascii && c < 0x80;
        escape = escape || (c == 'u' && i > 0 && payload.data[i - 1] == '\\');
        values += c == '[' || c == '{' || c == ',';
    }
    if (!ascii || escape) {
        n_wide_bytes -= static_cast<i64>(payload.n);
        if (n_wide_bytes < 0) return refuse(error, S7F_LIMIT, where, kMore);
    }
    for (size_t i = 0; !ascii && i < payload.n;) {
        const size_t length = utf8_length(payload.bytes() + i, payload.n - i);
        if (length == 0) return refuse(error, S7F_JSON, where, "the payload is not UTF-8");
        i += length;
    }
    n_values -= values;
    return n_values < 0 ? refuse(error, S7F_LIMIT, where, kMore) : S7F_OK;
}

s7f_status parse_json(const Slice &payload, JsonBudget &budget, const char *where, Document &to,
                      s7f_error *error) {
    if (const s7f_status bad = budget.take(payload, where, error)) return bad;
    switch (to.parse(payload)) {
        case JsonFault::kSyntax:
            return refuse(error, S7F_JSON, where, "the payload is not JSON: byte %llu of it",
                          static_cast<unsigned long long>(to.offset()));
        case JsonFault::kDuplicateKey:
            return refuse(error, S7F_DUPLICATE_KEY, where, "a key is there twice");
        case JsonFault::kDepth:
            return refuse(error, S7F_LIMIT, where, "JSON nested deeper than %d", kMaxJsonDepth);
        case JsonFault::kMemory:
            return no_memory(error);
        case JsonFault::kNone:
            break;
    }
    if (to.root().is(Kind::kObject)) return S7F_OK;
    return refuse(error, S7F_JSON, where, "the payload is no JSON object");
}

s7f_status read_header(s7f_file &file, s7f_error *error) {
    const Slice bytes = file.bytes;
    if (std::memcmp(bytes.data, "S7LM", std::min(bytes.n, size_t{4})) != 0)
        return refuse(error, S7F_MAGIC, "header", "the first bytes are not S7LM");
    if (bytes.n < kHeaderBytes)
        return refuse(error, S7F_TRUNCATED, "header", "the file ends inside the header");
    file.version = static_cast<u16>(big_endian(bytes.bytes() + 4, 2));
    file.class_ = bytes.bytes()[6];
    file.flags = bytes.bytes()[7];
    std::memcpy(file.root.bytes, bytes.data + kRootOffset, kDigest);
    hex(file.root, file.root_hex);
    if (file.version > kVersion)
        return refuse(error, S7F_NEWER_VERSION, kHeaderVersion,
                      "format version %d, this library knows 1 to 3", file.version);
    if (file.version == 0)
        return refuse(error, S7F_VERSION, kHeaderVersion, "format version 0 never existed");
    if (file.class_ != kDense && file.class_ != kMoe)
        return refuse(error, S7F_CLASS, kHeaderClass,
                      "model class 0x%02x, known are 0x01 dense and 0x02 MoE", file.class_);
    if (file.version == 2 && file.class_ != kMoe)
        return refuse(error, S7F_CLASS, kHeaderClass,
                      "class 0x01 dense, format version 2 is MoE (0x02) only");
    return check_flags(file, error);
}

s7f_status prove_fields(const s7f_file &file, s7f_error *error) {
    for (const Lane &lane : file.lanes) {
        if (lane.id != kField) continue;
        if (const s7f_status bad = check_lane_digest(file, lane, error)) return bad;
    }
    return S7F_OK;
}

s7f_status read_lanes(s7f_file &file, s7f_error *error) {
    for (u64 offset = kHeaderBytes; offset < file.bytes.n;) {
        Lane lane;
        lane.index = static_cast<u32>(file.lanes.size());
        lane.offset = offset;
        if (const s7f_status bad = read_lane(file, lane, error)) {
            // A changed length shows only behind its lane: name the lane.
            const s7f_status earlier = prove_fields(file, error);
            return earlier != S7F_OK ? earlier : bad;
        }
        if (!file.lanes.push(lane)) return no_memory(error);
        offset = lane.end();
    }
    return S7F_OK;
}

s7f_status read_json(s7f_file &file, s7f_error *error) {
    JsonBudget budget(file.bytes.n);
    for (Lane &lane : file.lanes)
        if (const s7f_status bad = read_payload(file, lane, budget, error)) return bad;
    return file.has_seal ? check_kinds(file, error) : S7F_OK;
}

s7f_status read_file(s7f_file &file, s7f_error *error) {
    if (const s7f_status bad = read_header(file, error)) return bad;
    if (const s7f_status bad = read_lanes(file, error)) return bad;
    if (const s7f_status bad = check_binding(file, error)) {
        // If a payload was changed, that is the cause.
        const s7f_status earlier = bad == S7F_ROOT ? prove_fields(file, error) : S7F_OK;
        return earlier != S7F_OK ? earlier : bad;
    }
    if (const s7f_status bad = refuse_twins(file, error)) return bad;
    if (!file.is_published())
        if (const s7f_status bad = read_json(file, error)) return bad;
    if (const s7f_status bad = prove_fields(file, error)) return bad;
    return read_records(file, error);
}

}  // namespace s7f

s7f::Slice s7f_file::dictionary() const {
    for (const s7f::Lane &lane : lanes)
        if (lane.id == s7f::kDict) return payload(lane);
    return {};
}
