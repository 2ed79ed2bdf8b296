// 64 bytes of a text at a time as masks of bits, the first byte the lowest: what classes of bytes
// are in it, and where.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace s7corpus {

// Bytes after the end of a text are in no mask.
class Bytes64 {
  public:
    Bytes64(const uint8_t *text, uint64_t n_bytes) {
        const uint8_t *source = text;
        if (n_bytes < 64) {
            std::memset(tail_, 0, sizeof tail_);
            std::memcpy(tail_, text, n_bytes);
            source = tail_;
            inside_ = (1ull << n_bytes) - 1;
        }
#ifdef __SSE2__
        for (int i = 0; i < 4; ++i)
            lanes_[i] = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source) + i);
#else
        bytes_ = source;
#endif
    }
    Bytes64(const Bytes64 &) = delete;

    uint64_t between(uint8_t low, uint8_t high) const { return masked<0>(low, high); }
    uint64_t equal(uint8_t code) const { return masked<0>(code, code); }
    // ASCII letters, of either case.
    uint64_t letters() const { return masked<0x20>('a', 'z'); }
    uint64_t inside() const { return inside_; }

  private:
    // Bytes that lie between both with the bits of SET set.
    template <uint8_t SET> uint64_t masked(uint8_t low, uint8_t high) const {
        uint64_t mask = 0;
#ifdef __SSE2__
        const auto all = [](uint8_t code) { return _mm_set1_epi8(static_cast<char>(code)); };
        for (int i = 0; i < 4; ++i) {
            const __m128i above = _mm_sub_epi8(_mm_or_si128(lanes_[i], all(SET)), all(low));
            const __m128i beyond = _mm_subs_epu8(above, all(static_cast<uint8_t>(high - low)));
            const int bits = _mm_movemask_epi8(_mm_cmpeq_epi8(beyond, _mm_setzero_si128()));
            mask |= static_cast<uint64_t>(static_cast<uint32_t>(bits)) << 16 * i;
        }
#else
        for (int i = 0; i < 64; ++i) {
            const uint8_t above = static_cast<uint8_t>((bytes_[i] | SET) - low);
            mask |= static_cast<uint64_t>(above <= static_cast<uint8_t>(high - low)) << i;
        }
#endif
        return mask & inside_;
    }

#ifdef __SSE2__
    __m128i lanes_[4];
#else
    const uint8_t *bytes_;
#endif
    uint64_t inside_ = ~0ull;
    uint8_t tail_[64];
};

// Calls `take` with the place of every bit, ascending.
template <typename Take> void each_bit(uint64_t mask, Take take) {
    for (; mask; mask &= mask - 1) take(static_cast<uint64_t>(__builtin_ctzll(mask)));
}

}  // namespace s7corpus
