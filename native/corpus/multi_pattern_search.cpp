// Many short strings looked for in one pass, ASCII letters of either case: three bytes at a time
// through a small table of how the strings start. Oracles: `in` of Python, and `re` over the
// alternation of all (native.py).
#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "s7corpus.h"

namespace {

constexpr uint32_t BITS = 13;
constexpr uint32_t MOST = 4096;  // needles
constexpr uint64_t N_START = 3;  // bytes of a needle that the table knows

char lowered(uint8_t code) {
    return static_cast<char>(static_cast<uint8_t>(code - 'A') < 26 ? code | 0x20 : code);
}

struct Needle {
    std::string bytes;
    uint32_t next;  // number + 1 of another with the same place in the table, or 0

    bool is_at(const uint8_t *text) const {
        return std::equal(bytes.begin(), bytes.end(), text,
                          [](char ours, uint8_t code) { return ours == lowered(code); });
    }
};

class Needles {
  public:
    Needles(const uint8_t *bytes, const uint32_t *lengths, uint32_t n) {
        for (uint32_t i = 0; i < n; bytes += lengths[i], ++i) {
            uint16_t &first = first_[place(start_of(bytes))];
            needles_.push_back(
                {std::string(reinterpret_cast<const char *>(bytes), lengths[i]), first});
            first = static_cast<uint16_t>(i + 1);
        }
    }

    // Calls `take(number, place)` for each needle that stands in the text, in ascending order of
    // places; it gives where to go on.
    template <typename Take> void each(const uint8_t *text, uint64_t n_bytes, Take take) const {
        for (uint64_t i = 0; i + N_START <= n_bytes;) {
            // Mostly nothing starts here nor at the next three.
            if (i + 8 <= n_bytes) {
                uint64_t word;
                std::memcpy(&word, text + i, 8);
                const auto first = [&](int k) {
                    return first_[place(static_cast<uint32_t>(word >> 8 * k))];
                };
                if (!(first(0) | first(1) | first(2) | first(3))) {
                    i += 4;
                    continue;
                }
            }
            uint64_t next = i + 1;
            for (uint32_t number = first_[place(start_of(text + i))]; number;
                 number = needles_[number - 1].next) {
                const Needle &needle = needles_[number - 1];
                if (needle.bytes.size() <= n_bytes - i && needle.is_at(text + i))
                    next = take(number - 1, i);
            }
            i = next;
        }
    }

    uint64_t length(uint32_t number) const { return needles_[number].bytes.size(); }

  private:
    static uint32_t start_of(const uint8_t *bytes) {
        return bytes[0] | bytes[1] << 8 | bytes[2] << 16;
    }
    static uint32_t place(uint32_t start) {
        return ((start | 0x202020) & 0xffffff) * 0x9E3779B1u >> (32 - BITS);
    }

    std::array<uint16_t, 1 << BITS> first_{};
    std::vector<Needle> needles_;
};

const Needles &of(const void *needles) { return *static_cast<const Needles *>(needles); }

}  // namespace

void *s7_needles_new(const uint8_t *bytes, const uint32_t *lengths, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        if (lengths[i] < N_START || n > MOST) return nullptr;
    }
    try {
        return new Needles(bytes, lengths, n);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void s7_needles_delete(void *needles) { delete static_cast<Needles *>(needles); }

void s7_needles_in(const void *needles, const uint8_t *text, uint64_t n_bytes, uint64_t *found) {
    of(needles).each(text, n_bytes, [&](uint32_t number, uint64_t i) {
        found[number / 64] |= 1ull << number % 64;
        return i + 1;
    });
}

uint64_t s7_needles_windows(const void *needles, const uint8_t *text, uint64_t n_bytes,
                            uint64_t reach, uint64_t *windows) {
    uint64_t n = 0;
    of(needles).each(text, n_bytes, [&](uint32_t number, uint64_t i) {
        const uint64_t end = i + of(needles).length(number);
        const uint64_t first = i < reach ? 0 : i - reach, last = end + reach;
        if (!n || first > windows[2 * n - 1]) windows[2 * n++] = first;
        windows[2 * n - 1] = last;
        return end;
    });
    return n;
}
