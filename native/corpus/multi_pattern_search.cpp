// Many short strings looked for in one pass, ASCII letters of either case: three bytes at a time
// through a small table of how the strings start. Where the processor has SSSE3, tables of nibbles
// tell first at which of 16 places a string may start. Oracles: `in` of Python, and `re` over the
// alternation of all (native.py).
#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "s7corpus.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <tmmintrin.h>

#include "../engine/processor.h"
#define S7_NIBBLES 1
#endif

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

#ifdef S7_NIBBLES
// Groups of strings as bits: which of them may have a byte with this low or high half at each of
// their first four places. Two tables of eight groups let fewer places through than one.
class Nibbles {
  public:
    static constexpr uint64_t N_PLACES = 16, N_GROUPS = 16;
    // Bytes of a string, and of a text for 16 places.
    static constexpr uint64_t N_KNOWN = 4, N_READ = N_PLACES + N_KNOWN - 1;

    // A string of a group, given by its bytes in lower case.
    void add(std::string_view bytes, uint64_t group) {
        const auto bit = static_cast<uint8_t>(1 << group % 8);
        for (uint64_t k = 0; k < N_KNOWN; ++k) {
            Table &table = tables_[group / 8][k];
            for (uint32_t code = 0; code < 256; ++code) {
                const char is = lowered(static_cast<uint8_t>(code));
                if (k < bytes.size() && is != bytes[k]) continue;
                table.low[code & 15] |= bit;
                table.high[code >> 4] |= bit;
            }
        }
    }

    // Bit i: a string may start at text[i]. Reads N_READ bytes.
    [[gnu::target("ssse3")]] uint32_t likely(const uint8_t *text) const {
        const __m128i half = _mm_set1_epi8(15), none = _mm_setzero_si128();
        __m128i some = _mm_set1_epi8(-1), others = some;
        for (uint64_t k = 0; k < N_KNOWN; ++k) {
            const __m128i bytes = load(text + k);
            const __m128i low = _mm_and_si128(bytes, half),
                          high = _mm_and_si128(_mm_srli_epi16(bytes, 4), half);
            some = _mm_and_si128(some, tables_[0][k].groups(low, high));
            others = _mm_and_si128(others, tables_[1][k].groups(low, high));
        }
        const __m128i any = _mm_or_si128(some, others);
        return static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(any, none))) ^ 0xffff;
    }

    static bool are_there() {
        static const bool are = Processor::has(Processor().base_c, 1U << 9);
        return are;
    }

  private:
    [[gnu::target("ssse3")]] static __m128i load(const uint8_t *bytes) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i *>(bytes));
    }

    struct Table {
        uint8_t low[16], high[16];

        [[gnu::target("ssse3")]] __m128i groups(__m128i lows, __m128i highs) const {
            return _mm_and_si128(_mm_shuffle_epi8(load(low), lows),
                                 _mm_shuffle_epi8(load(high), highs));
        }
    };
    Table tables_[N_GROUPS / 8][N_KNOWN] = {};
};
#endif

class Needles {
  public:
    Needles(const uint8_t *bytes, const uint32_t *lengths, uint32_t n) {
        for (uint32_t i = 0; i < n; bytes += lengths[i], ++i) {
            uint16_t &first = first_[place(start_of(bytes))];
            needles_.push_back(
                {std::string(reinterpret_cast<const char *>(bytes), lengths[i]), first});
            first = static_cast<uint16_t>(i + 1);
        }
#ifdef S7_NIBBLES
        group();
#endif
    }

    // Calls `take(number, place)` for each needle that stands in the text, in ascending order of
    // places; it gives where to go on.
    template <typename Take> void each(const uint8_t *text, uint64_t n_bytes, Take take) const {
        uint64_t i = 0;
#ifdef S7_NIBBLES
        if (Nibbles::are_there()) {
            for (uint64_t block = 0; block + Nibbles::N_READ <= n_bytes;
                 block += Nibbles::N_PLACES) {
                for (uint32_t likely = nibbles_.likely(text + block); likely;
                     likely &= likely - 1) {
                    const uint64_t at = block + static_cast<uint64_t>(__builtin_ctz(likely));
                    if (at >= i) i = std::max(i, at_place(text, n_bytes, at, take));
                }
                i = std::max(i, block + Nibbles::N_PLACES);
            }
        }
#endif
        while (i + N_START <= n_bytes) {
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
            i = at_place(text, n_bytes, i, take);
        }
    }

    uint64_t length(uint32_t number) const { return needles_[number].bytes.size(); }

  private:
    // Takes what stands at a place; gives where to go on.
    template <typename Take>
    uint64_t at_place(const uint8_t *text, uint64_t n_bytes, uint64_t i, Take take) const {
        uint64_t next = i + 1;
        for (uint32_t number = first_[place(start_of(text + i))]; number;
             number = needles_[number - 1].next) {
            const Needle &needle = needles_[number - 1];
            if (needle.bytes.size() <= n_bytes - i && needle.is_at(text + i))
                next = take(number - 1, i);
        }
        return next;
    }

#ifdef S7_NIBBLES
    // Strings that start alike are in one group.
    void group() {
        std::vector<std::string_view> all;
        for (const Needle &needle : needles_) all.push_back(needle.bytes);
        std::sort(all.begin(), all.end());
        for (size_t i = 0; i < all.size(); ++i)
            nibbles_.add(all[i], i * Nibbles::N_GROUPS / all.size());
    }

    Nibbles nibbles_;
#endif

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

uint64_t s7_needles_places(const void *needles, const uint8_t *text, uint64_t n_bytes,
                           uint64_t room, uint64_t *places) {
    uint64_t n = 0;
    of(needles).each(text, n_bytes, [&](uint32_t number, uint64_t i) {
        if (n < room) places[2 * n] = number, places[2 * n + 1] = i;
        ++n;
        return i + 1;
    });
    return n;
}
