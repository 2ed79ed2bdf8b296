// SHA-256 in plain integers, and by the SHA extensions of x86-64.
#include "sha256.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace s7f {

namespace {

constexpr u32 kStart[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
alignas(16) constexpr u32 kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

u32 turned(u32 x, int n) { return x >> n | x << (32 - n); }

void plain_blocks(u32 state[8], const u8 *data, size_t n_blocks) {
    for (; n_blocks > 0; --n_blocks, data += 64) {
        u32 w[64];
        for (int t = 0; t < 16; ++t)
            w[t] = u32{data[4 * t]} << 24 | u32{data[4 * t + 1]} << 16 | u32{data[4 * t + 2]} << 8 |
                   data[4 * t + 3];
        for (int t = 16; t < 64; ++t) {
            const u32 a = w[t - 15], b = w[t - 2];
            w[t] = w[t - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[t - 7] +
                   (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
        }
        u32 s[8];
        std::memcpy(s, state, sizeof s);
        for (int t = 0; t < 64; ++t) {
            const u32 one = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) +
                            ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRound[t] + w[t];
            const u32 two = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) +
                            ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            for (int i = 7; i > 0; --i) s[i] = s[i - 1];
            s[4] += one;
            s[0] = one + two;
        }
        for (int i = 0; i < 8; ++i) state[i] += s[i];
    }
}

#if defined(__x86_64__)
bool has_extensions() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_SSE4_1) == 0 || (c & bit_SSSE3) == 0)
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & (1U << 29)) != 0;
}

// Four rounds for each group of message words; the state lies as ABEF and CDGH.
[[gnu::target("sha,sse4.1,ssse3")]] void wide_blocks(u32 state[8], const u8 *data,
                                                     size_t n_blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i low =
        _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(state)), 0xB1);
    const __m128i high =
        _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(state + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
    for (; n_blocks > 0; --n_blocks, data += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; ++i)
            w[i] = _mm_shuffle_epi8(
                _mm_loadu_si128(reinterpret_cast<const __m128i *>(data + 16 * i)), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            const __m128i now = w[i % 4];
            const __m128i sum =
                _mm_add_epi32(now, _mm_load_si128(reinterpret_cast<const __m128i *>(kRound) + i));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
            if (i < 12) {
                const __m128i mid = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
                w[i % 4] = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(now, w[(i + 1) % 4]), mid), w[(i + 3) % 4]);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(state), _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}
#endif

void blocks(u32 state[8], const u8 *data, size_t n_blocks) {
#if defined(__x86_64__) && !defined(S7F_PLAIN_SHA256)
    // Asking the processor takes as long as a few blocks.
    if (n_blocks >= 4 && has_extensions()) return wide_blocks(state, data, n_blocks);
#endif
    plain_blocks(state, data, n_blocks);
}

}  // namespace

Sha256::Sha256() { std::memcpy(state_, kStart, sizeof state_); }

void Sha256::add(const void *data, size_t n) {
    const u8 *from = static_cast<const u8 *>(data);
    const size_t filled = n_bytes_ % 64;
    n_bytes_ += n;
    if (filled > 0) {
        const size_t taken = n < 64 - filled ? n : 64 - filled;
        if (taken > 0) std::memcpy(block_ + filled, from, taken);
        if (filled + taken < 64) return;
        blocks(state_, block_, 1);
        from += taken;
        n -= taken;
    }
    if (n >= 64) blocks(state_, from, n / 64);
    if (n % 64 > 0) std::memcpy(block_, from + n / 64 * 64, n % 64);
}

Digest Sha256::digest() {
    const u64 n_bits = n_bytes_ * 8;
    const u8 end = 0x80, zeros[64] = {};
    add(&end, 1);
    add(zeros, (120 - n_bytes_ % 64) % 64);
    u8 length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<u8>(n_bits >> (56 - 8 * i));
    add(length, 8);
    Digest found;
    for (size_t i = 0; i < kDigest; ++i)
        found.bytes[i] = static_cast<u8>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return found;
}

Digest sha256(const void *data, size_t n) {
    Sha256 hash;
    hash.add(data, n);
    return hash.digest();
}

void hex(const Digest &digest, char to[kHex]) {
    for (size_t i = 0; i < kDigest; ++i) {
        to[2 * i] = "0123456789abcdef"[digest.bytes[i] >> 4];
        to[2 * i + 1] = "0123456789abcdef"[digest.bytes[i] & 15];
    }
}

void TaggedDigest::begin(u64 n_bytes) {
    u8 length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<u8>(n_bytes >> (56 - 8 * i));
    hash_.add(length, 8);
}

Digest leaf_hash(const void *leaf, size_t n) {
    Sha256 hash;
    hash.add("\0", 1);
    hash.add(leaf, n);
    return hash.digest();
}

Digest merkle_fold(Digest *level, size_t n) {
    if (n == 0) return sha256(nullptr, 0);
    while (n > 1) {
        for (size_t i = 0; i + 1 < n; i += 2) {
            Sha256 hash;
            hash.add("\1", 1);
            hash.add(level + i, 2 * kDigest);
            level[i / 2] = hash.digest();
        }
        if (n % 2 == 1) level[n / 2] = level[n - 1];
        n = (n + 1) / 2;
    }
    return level[0];
}

Digest paired_fold(Digest *level, size_t n) {
    if (n == 0) return Digest{};
    while (n > 1) {
        if (n % 2 == 1) level[n] = level[n - 1];
        n = (n + 1) / 2;
        for (size_t i = 0; i < n; ++i) level[i] = sha256(level + 2 * i, 2 * kDigest);
    }
    return level[0];
}

}  // namespace s7f
