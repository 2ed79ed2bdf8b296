// The calls of tokens.h: checks arguments, cuts text, and caches the ids of short pieces.

#include "tokens.h"

#include "merge.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <new>

namespace {

using namespace s7tokens;

constexpr std::size_t KEY_BYTES = 24, MAX_IDS = 9, CACHE_BITS = 16;
constexpr std::int64_t MAX_BYTES = std::int64_t{1} << 31;  // of one text: places are 32 bits wide

// A short piece, zeros, its length in the last byte; and its ids. 64 bytes: one line of the
// processor's cache.
struct alignas(64) Slot {
    std::uint64_t key[KEY_BYTES / 8];
    std::int32_t n_ids;
    Id ids[MAX_IDS];
};

struct Key {
    std::uint64_t word[KEY_BYTES / 8];

    Key(const Byte *piece, std::size_t n) : word{} {
        std::memcpy(word, piece, n);
        reinterpret_cast<Byte *>(word)[KEY_BYTES - 1] = static_cast<Byte>(n);
    }
    std::size_t slot() const {
        std::uint64_t mixed = word[0] * 0x9E3779B97F4A7C15u ^ word[1] * 0xC2B2AE3D27D4EB4Fu ^
                              word[2] * 0x165667B19E3779F9u;
        mixed ^= mixed >> 32;
        return mixed * 0x9E3779B97F4A7C15u >> (64 - CACHE_BITS);
    }
    bool is(const Slot &slot) const { return std::memcmp(word, slot.key, KEY_BYTES) == 0; }
};

}  // namespace

struct s7_tokens {
    Rule rule = nullptr;
    Symbols symbols;
    std::unique_ptr<Pieces> pieces;
    std::vector<Slot> cache = std::vector<Slot>(std::size_t{1} << CACHE_BITS);
    std::mutex turn;

    std::size_t encode(const Byte *piece, std::size_t n, Id *ids) {
        if (n >= KEY_BYTES) return pieces->encode(piece, n, ids);
        const Key key(piece, n);
        Slot &slot = cache[key.slot()];
        if (key.is(slot)) {
            std::memcpy(ids, slot.ids, slot.n_ids * sizeof(Id));
            return slot.n_ids;
        }
        const std::size_t n_ids = pieces->encode(piece, n, ids);
        if (n_ids <= MAX_IDS) {
            std::memcpy(slot.key, key.word, KEY_BYTES);
            slot.n_ids = static_cast<std::int32_t>(n_ids);
            std::memcpy(slot.ids, ids, n_ids * sizeof(Id));
        }
        return n_ids;
    }
};

namespace {

std::string_view slice(const Byte *bytes, const std::uint32_t *ends, std::int32_t i) {
    const std::uint32_t begin = i ? ends[i - 1] : 0;
    return {reinterpret_cast<const char *>(bytes) + begin, ends[i] - begin};
}

bool ascending(const std::uint32_t *ends, std::int32_t n) {
    for (std::int32_t i = 1; i < n; ++i)
        if (ends[i] < ends[i - 1]) return false;
    return true;
}

std::unique_ptr<Pieces> unigram(const s7_tokens_file &file) {
    auto made = std::make_unique<Unigram>();
    for (std::int32_t i = 0; i < file.n_entries; ++i) {
        const auto bytes = slice(file.bytes, file.ends, i);
        if (!bytes.empty()) made->add_entry(bytes, i, file.scores[i]);
    }
    if (!made->complete()) return nullptr;
    return made;
}

std::unique_ptr<Pieces> bpe(const s7_tokens_file &file) {
    auto made = std::make_unique<Bpe>(file.whole != 0);
    for (std::int32_t i = 0; i < file.n_entries; ++i) {
        const auto bytes = slice(file.bytes, file.ends, i);
        if (!bytes.empty()) made->add_entry(bytes, i);
    }
    for (std::int64_t i = 0; i < file.n_merges; ++i) {
        const std::int32_t *merge = file.merges + 3 * i;
        for (int k = 0; k < 3; ++k)
            if (merge[k] < 0 || merge[k] >= file.n_entries) return nullptr;
        made->add_merge(merge[0], merge[1], static_cast<std::uint32_t>(i), merge[2]);
    }
    if (!made->complete()) return nullptr;
    return made;
}

bool fill(s7_tokens &made, const s7_tokens_file &file) {
    const Rule rules[] = {code_piece, llama3_piece};
    if (file.rule < 0 || file.rule > S7_TOKENS_LLAMA3 || file.n_entries < 0 || file.n_symbols < 0 ||
        file.n_merges < 0)
        return false;
    if (!ascending(file.ends, file.n_entries) || !ascending(file.symbol_ends, file.n_symbols))
        return false;
    made.rule = rules[file.rule];
    for (std::int32_t i = 0; i < file.n_symbols; ++i) {
        const auto symbol = slice(file.symbols, file.symbol_ends, i);
        if (symbol.empty() || symbol[0] == ' ') return false;
        made.symbols.add({std::string(symbol), file.symbol_flags[i]});
    }
    made.pieces = file.scores ? unigram(file) : bpe(file);
    return made.pieces != nullptr;
}

}  // namespace

int32_t s7_tokens_abi(void) { return S7_TOKENS_ABI; }

int32_t s7_tokens_class(uint32_t code_point) { return class_of(code_point); }

s7_tokens *s7_tokens_open(const s7_tokens_file *file) {
    try {
        auto made = std::make_unique<s7_tokens>();
        return fill(*made, *file) ? made.release() : nullptr;
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void s7_tokens_close(s7_tokens *handle) { delete handle; }

int64_t s7_tokens_encode(s7_tokens *handle, const uint8_t *text, int64_t n_bytes, int32_t *ids) {
    if (n_bytes >= MAX_BYTES) return S7_TOKENS_MEMORY;
    try {
        const std::lock_guard<std::mutex> lock(handle->turn);
        Id *next = ids;
        cut(handle->rule, handle->symbols, text, text + n_bytes,
            [&](const Byte *p, const Byte *end) { next += handle->encode(p, end - p, next); });
        return next - ids;
    } catch (const std::bad_alloc &) {
        return S7_TOKENS_MEMORY;
    }
}

int64_t s7_tokens_cut(const s7_tokens *handle, const uint8_t *text, int64_t n_bytes,
                      int64_t *ends) {
    int64_t *next = ends;
    cut(handle->rule, handle->symbols, text, text + n_bytes,
        [&](const Byte *, const Byte *end) { *next++ = end - text; });
    return next - ends;
}
