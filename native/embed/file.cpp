// Files of the interface: where their bytes come from, and what they hold.
#include <sys/stat.h>
#include <cerrno>
#include <cstdio>

#include "reader.h"
#include "rules.h"

namespace s7f {

namespace {

s7f_status missing(const char *call, s7f_error *error) {
    return refuse(error, S7F_NULL, call, "a pointer is missing");
}

s7f_status finish(Own<s7f_file> &made, s7f_file **file, s7f_error *error) {
    if (made->bytes.data == nullptr) made->bytes = Slice("", 0);
    if (const s7f_status bad = read_file(*made, error)) return bad;
    *file = made.release();
    return S7F_OK;
}

// A whole regular file. Its bytes are read, not mapped: a file that is cut while it is used would
// end the program otherwise.
s7f_status read_path(const char *path, Vec<u8> &to, s7f_error *error) {
    struct stat status;
    if (stat(path, &status) != 0)
        return refuse(error, S7F_STORAGE, path, "it cannot be read: %s", std::strerror(errno));
    if ((status.st_mode & S_IFMT) != S_IFREG)
        return refuse(error, S7F_STORAGE, path, "it is no regular file");
    std::FILE *in = std::fopen(path, "rb");
    if (in == nullptr && errno == ENOMEM) return no_memory(error);
    if (in == nullptr)
        return refuse(error, S7F_STORAGE, path, "it cannot be read: %s", std::strerror(errno));
    std::setvbuf(in, nullptr, _IONBF, 0);  // it is read at once
    const size_t n = static_cast<size_t>(status.st_size);
    const bool room = static_cast<u64>(status.st_size) <= SIZE_MAX / 2 && to.reserve(n);
    const bool whole = room && to.resize(n) && std::fread(to.data(), 1, n, in) == n;
    std::fclose(in);
    if (!room) return no_memory(error);
    return whole ? S7F_OK
                 : refuse(error, S7F_STORAGE, path, "it ended, or failed, while it was read");
}

}  // namespace

}  // namespace s7f

using namespace s7f;

s7f_status s7f_file_open_path(const char *path, s7f_file **file, s7f_error *error) {
    if (path == nullptr || file == nullptr) return missing("s7f_file_open_path", error);
    Own<s7f_file> made;
    if (!made.make()) return no_memory(error);
    if (const s7f_status bad = read_path(path, made->owned, error)) return bad;
    made->bytes = {reinterpret_cast<const char *>(made->owned.data()), made->owned.size()};
    return finish(made, file, error);
}

s7f_status s7f_file_open_memory(const void *memory, size_t n_bytes, s7f_file **file,
                                s7f_error *error) {
    if ((memory == nullptr && n_bytes > 0) || file == nullptr)
        return missing("s7f_file_open_memory", error);
    Own<s7f_file> made;
    if (!made.make()) return no_memory(error);
    made->bytes = {static_cast<const char *>(memory), n_bytes};
    return finish(made, file, error);
}

s7f_status s7f_file_open_read(s7f_read read, void *user, uint64_t n_bytes, s7f_file **file,
                              s7f_error *error) {
    if (read == nullptr || file == nullptr) return missing("s7f_file_open_read", error);
    Own<s7f_file> made;
    if (n_bytes > SIZE_MAX / 2 || !made.make() || !made->owned.resize(static_cast<size_t>(n_bytes)))
        return no_memory(error);
    for (u64 at = 0; at < n_bytes;) {
        const u64 left = n_bytes - at, wanted = left < (1 << 20) ? left : 1 << 20;
        const i64 got = read(user, at, made->owned.data() + at, static_cast<size_t>(wanted));
        if (got <= 0 || static_cast<u64>(got) > wanted)
            return refuse(error, S7F_STORAGE, "read", "it gave %lld bytes at offset %llu",
                          static_cast<long long>(got), static_cast<unsigned long long>(at));
        at += static_cast<u64>(got);
    }
    made->bytes = {reinterpret_cast<const char *>(made->owned.data()), made->owned.size()};
    return finish(made, file, error);
}

void s7f_file_close(s7f_file **file) {
    if (file == nullptr) return;
    delete *file;
    *file = nullptr;
}

s7f_status s7f_file_verify(const s7f_file *file, int32_t replay, s7f_rule rules[S7F_N_RULES],
                           s7f_error *error) {
    if (file == nullptr || rules == nullptr) return missing("s7f_file_verify", error);
    if (check_rules(*file, replay != 0, rules) != S7F_OK) return no_memory(error);
    return refuse_failed(rules, error);
}

int32_t s7f_file_version(const s7f_file *file) { return file == nullptr ? 0 : file->version; }
int32_t s7f_file_class(const s7f_file *file) { return file == nullptr ? 0 : file->class_; }
int32_t s7f_file_flags(const s7f_file *file) { return file == nullptr ? 0 : file->flags; }
const char *s7f_file_root(const s7f_file *file) { return file == nullptr ? "" : file->root_hex; }

int32_t s7f_file_n_lanes(const s7f_file *file) {
    return file == nullptr ? 0 : static_cast<int32_t>(file->lanes.size());
}

s7f_status s7f_file_lane(const s7f_file *file, int32_t index, s7f_lane *lane) {
    if (file == nullptr || lane == nullptr) return S7F_NULL;
    if (index < 0 || index >= s7f_file_n_lanes(file)) return S7F_ARGUMENT;
    const Lane &found = file->lanes[static_cast<size_t>(index)];
    *lane = {};
    lane->id = found.id;
    std::memcpy(lane->kind, kind_name(found.kind).data, kind_name(found.kind).n);
    lane->offset = found.offset;
    lane->n_bytes = found.n_bytes;
    std::memcpy(lane->sha256, found.sha256.bytes, kDigest);
    return S7F_OK;
}

int32_t s7f_file_n_tensors(const s7f_file *file) {
    return file == nullptr ? 0 : static_cast<int32_t>(file->records.size());
}

s7f_status s7f_file_tensor(const s7f_file *file, int32_t index, s7f_tensor *tensor) {
    if (file == nullptr || tensor == nullptr) return S7F_NULL;
    if (index < 0 || index >= s7f_file_n_tensors(file)) return S7F_ARGUMENT;
    const Record &found = file->records[static_cast<size_t>(index)];
    *tensor = {};
    std::memcpy(tensor->name, found.name.data, found.name.n);
    std::memcpy(tensor->dims, found.dims, sizeof tensor->dims);
    tensor->rank = static_cast<int32_t>(found.rank);
    tensor->scale = found.scale;
    tensor->data = reinterpret_cast<const int8_t *>(file->bytes.data + found.offset);
    tensor->n_values = found.n_values;
    return S7F_OK;
}

const char *s7f_file_json(const s7f_file *file, const char *kind, size_t *n_bytes) {
    if (n_bytes != nullptr) *n_bytes = 0;
    if (file == nullptr || kind == nullptr) return nullptr;
    for (const Lane &lane : file->lanes) {
        if (lane.kind == kNoKind || !(kind_name(lane.kind) == slice_of(kind))) continue;
        if (n_bytes != nullptr) *n_bytes = static_cast<size_t>(lane.n_bytes);
        return file->payload(lane).data;
    }
    return nullptr;
}
