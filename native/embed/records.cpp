// FIELD records: names, shapes and places of the tensors. Their data is passed over.
#include <algorithm>
#include <bit>
#include <cstdio>

#include "reader.h"

namespace s7f {

namespace {

// Printable ASCII without path separators.
bool valid_name(const Slice &name) {
    for (size_t i = 0; i < name.n; ++i) {
        const u8 c = name.bytes()[i];
        if (c < 0x21 || c > 0x7E || c == '/' || c == '\\') return false;
    }
    return !(name == Slice(".") || name == Slice(".."));
}

// A position in one FIELD lane that can never leave it.
class Cursor {
  public:
    Cursor(const s7f_file &file, const Lane &lane, s7f_error *error)
        : file_(file),
          lane_(lane),
          at_(lane.payload()),
          end_(lane.payload() + lane.n_bytes),
          error_(error) {}

    bool done() const { return at_ == end_; }

    s7f_status next(Record &to) {
        to = Record();
        to.start = start_ = at_;
        if (const s7f_status bad = name(to)) return bad;
        if (const s7f_status bad = dims(to)) return bad;
        const u8 *scale = take(4);
        if (scale == nullptr) return cut("its scale");
        to.scale = std::bit_cast<float>(big_endian(scale, 4));
        // The product stays below 2^64: a factor is below 2^32, and past the lane it is enough.
        to.n_values = 1;
        for (u32 i = 0; i < to.rank; ++i)
            if (to.n_values <= kMaxLaneBytes) to.n_values *= to.dims[i];
        to.offset = at_;
        if (to.n_values > kMaxLaneBytes || take(to.n_values) == nullptr) return cut("its data");
        const u64 n_padding = file_.is_padded() ? (32 - to.n_values % 32) % 32 : 0;
        const u8 *padding = take(n_padding);
        if (padding == nullptr) return cut("its padding");
        for (u64 i = 0; i < n_padding; ++i)
            if (padding[i] != 0) return fail(S7F_PADDING, "its padding is not all zero");
        return S7F_OK;
    }

    s7f_status fail(s7f_status status, const char *what) {
        char where[120];
        std::snprintf(where, sizeof where, "%s, record at offset %llu", Where(lane_).text,
                      static_cast<unsigned long long>(start_));
        return refuse(error_, status, where, "%s", what);
    }

  private:
    const u8 *take(u64 n) {
        if (n > end_ - at_) return nullptr;
        const u8 *here = file_.bytes.bytes() + at_;
        at_ += n;
        return here;
    }
    s7f_status cut(const char *what) {
        char text[80];
        std::snprintf(text, sizeof text, "%s passes the end of the lane", what);
        return fail(S7F_TRUNCATED_RECORD, text);
    }

    s7f_status name(Record &to) {
        const u8 *head = take(2);
        if (head == nullptr) return cut("the length of its name");
        const u32 length = big_endian(head, 2);
        if (length < 1 || length > 255) return fail(S7F_TENSOR_NAME, "a name has 1 to 255 bytes");
        const u8 *text = take(length);
        if (text == nullptr) return cut("its name");
        to.name = {reinterpret_cast<const char *>(text), length};
        return valid_name(to.name) ? S7F_OK
                                   : fail(S7F_TENSOR_NAME,
                                          "a name holds a character that is not printable ASCII, "
                                          "or a path separator");
    }

    s7f_status dims(Record &to) {
        const u8 *rank = take(1);
        if (rank == nullptr) return cut("its rank");
        if (*rank < 1 || *rank > kMaxRank) return fail(S7F_RANK, "a rank is 1 to 8");
        to.rank = *rank;
        const u8 *from = take(4 * to.rank);
        if (from == nullptr) return cut("its shape");
        bool zero = false;
        for (u32 i = 0; i < to.rank; ++i) {
            to.dims[i] = big_endian(from + 4 * i, 4);
            zero = zero || to.dims[i] == 0;
        }
        return zero ? fail(S7F_DIMENSION, "a dimension is zero") : S7F_OK;
    }

    const s7f_file &file_;
    const Lane &lane_;
    u64 at_;
    const u64 end_;
    u64 start_ = 0;
    s7f_error *error_;
};

// Sort the names of what was read; the record that is the second of its name, or none.
s7f_status second_of_a_name(s7f_file &file, const Record *&found, s7f_error *error) {
    const size_t n = file.records.size();
    found = nullptr;
    file.records_sorted.shrink(0);
    if (!file.records_sorted.resize(n)) return no_memory(error);
    u32 *const order = file.records_sorted.data();
    const Record *records = file.records.data();
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<u32>(i);
    std::sort(order, order + n, [&](u32 a, u32 b) {
        const int by_name = compare(records[a].name, records[b].name);
        return by_name != 0 ? by_name < 0 : a < b;
    });
    for (size_t i = 1; i < n; ++i) {
        const Record *later = records + order[i];
        if (later->name == records[order[i - 1]].name && (found == nullptr || later < found))
            found = later;
    }
    return S7F_OK;
}

s7f_status read_all(s7f_file &file, s7f_error *error) {
    const u64 limit = std::min<u64>(u64{1} << 16, 2048 + file.bytes.n / 512);
    for (const Lane &lane : file.lanes) {
        if (lane.id != kField) continue;
        Cursor cursor(file, lane, error);
        while (!cursor.done()) {
            Record record;
            if (const s7f_status bad = cursor.next(record)) return bad;
            if (file.records.size() >= limit)
                return cursor.fail(S7F_LIMIT, "more tensors than a file of this size may hold");
            if (!file.records.push(record)) return no_memory(error);
        }
    }
    return S7F_OK;
}

}  // namespace

s7f_status read_records(s7f_file &file, s7f_error *error) {
    const s7f_status bad = read_all(file, error);
    if (bad == S7F_MEMORY) return bad;
    // A name that is there twice stands before whatever else ended the reading.
    const Record *twice = nullptr;
    if (const s7f_status none = second_of_a_name(file, twice, error)) return none;
    if (twice != nullptr) {
        char where[80];
        std::snprintf(where, sizeof where, "FIELD, record at offset %llu",
                      static_cast<unsigned long long>(twice->start));
        return refuse(error, S7F_DUPLICATE_TENSOR, where, "tensor '%.*s' is there twice",
                      shown(twice->name), twice->name.data);
    }
    if (bad != S7F_OK) return bad;
    bool has_field = false;
    for (const Lane &lane : file.lanes) has_field = has_field || lane.id == kField;
    for (const Slice name : {Slice("embedding.weight"), Slice("lm_head.weight")})
        if (has_field && file.record(name) == nullptr)
            return refuse(error, S7F_MISSING_TENSOR, "FIELD", "no tensor '%s'", name.data);
    return S7F_OK;
}

}  // namespace s7f

const s7f::Record *s7f_file::record(const s7f::Slice &name) const {
    const s7f::u32 *const end = records_sorted.end();
    const s7f::u32 *found = std::lower_bound(
        records_sorted.begin(), end, name,
        [&](s7f::u32 i, const s7f::Slice &key) { return s7f::compare(records[i].name, key) < 0; });
    return found != end && records[*found].name == name ? &records[*found] : nullptr;
}
