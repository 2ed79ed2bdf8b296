// AVX-VNNI: vpdpbusd in registers of 256 bits, for processors without AVX-512. As in avx512.cpp,
// acts are increased by 128, `start` subtracts 128 times the sum of an output's codes, the limbs of
// P are unsigned, and sums may wrap.
#include "kernels.h"

#if defined(__AVXVNNI__)
#define S7_ACT_XOR 0x80
#include "registers256.h"

namespace {

constexpr i64 kTileRows = 6;

struct Rows {
    const u8 *acts;
    i64 stride;
    static bool is_prepared() { return true; }
    Rows from(i64 t) const { return {acts + t * stride, stride}; }
};

struct Prepared {  // nothing is prepared
    static i64 most_rows(i64) { return i64{1} << 30; }
    static Rows rows(const u8 *acts, i64 stride, i64, i64) { return {acts, stride}; }
};

// acc += the dots of four unsigned and four signed bytes. In assembly, because GCC 12 copies each
// sum before it adds to it.
[[gnu::always_inline]] inline void add_dots(__m256i &acc, __m256i acts, __m256i codes) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(acts), "x"(codes));
}

template <int MR, int NP>
[[gnu::always_inline]] inline void add_products(__m256i (&acc)[MR][2 * NP], const i8 *panels,
                                                i64 panel_bytes, i64 n_groups, const Rows &rows) {
    for (i64 g = 0; g < n_groups; ++g) {
        const i8 *cell = panels + g * kCell;
        __m256i w[2 * NP];
        each<2 * NP>(S7_EACH(q) { w[q] = load(cell + q / 2 * panel_bytes + q % 2 * 32); });
        each<MR>(S7_EACH(t) {
            const __m256i x = broadcast_group(rows.acts + t * rows.stride + g * kGroup);
            each<2 * NP>(S7_EACH(q) { add_dots(acc[t][q], x, w[q]); });
        });
    }
}

// The bytes of 16 lanes below 256, in order.
inline __m128i narrow_to_bytes(__m256i first, __m256i second) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), 0xD8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// 16 weights as two limbs: the high bytes in the first half of a row, the low bytes in the second.
[[gnu::always_inline]] inline void store_weights(__m256i first, __m256i second, u8 *row, i64 stride,
                                                 i64 position) {
    const __m256i byte = _mm256_set1_epi32(255);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(row + position),
                     narrow_to_bytes(_mm256_srli_epi32(first, 8), _mm256_srli_epi32(second, 8)));
    _mm_storeu_si128(
        reinterpret_cast<__m128i *>(row + stride + position),
        narrow_to_bytes(_mm256_and_si256(first, byte), _mm256_and_si256(second, byte)));
}

}  // namespace

#include "products256.h"

namespace {

// The sums of MR rows with two limbs each, over all pages, for NP panels of dimensions.
template <int MR, int NP>
void value_tile(const s7::Head &head, i64 panel, const u8 *limbs, i64 stride, i64 n_keys, i32 *o,
                i64 o_stride) {
    Tile<2 * MR, NP> tile;
    tile.begin(nullptr);
    for (i64 first = 0; first < n_keys; first += kPage) {
        const i8 *codes = array<i8>(head.page(first / kPage), head.layout->v) + panel * kPagePanel;
        tile.add(codes, kPagePanel, s7::round_up(least(n_keys - first, kPage), kGroup) / kGroup,
                 {limbs + first, stride});
    }
    each<MR>(S7_EACH(t) {
        each<2 * NP>(S7_EACH(q) {
            const __m256i high = _mm256_slli_epi32(tile.acc[2 * t][q], 8);
            store(o + t * o_stride + panel * kPanel + q * kLanes,
                  _mm256_add_epi32(high, tile.acc[2 * t + 1][q]));
        });
    });
}

void values(const s7::Head &head, const u8 *limbs, i64 stride, i64 n, i64 n_keys, i32 *o,
            i64 o_stride) {
    for (i64 p = 0; p < head.layout->v_panels; ++p) {
        for (i64 t = 0; t < n;) {
            const i64 here = least(n - t, i64{3});
            with_rows<3>(here, [&](auto count) {
                value_tile<count, 1>(head, p, limbs + 2 * t * stride, stride, n_keys,
                                     o + t * o_stride, o_stride);
            });
            t += here;
        }
    }
}

i64 peak() {
    constexpr int chains = 12, rounds = 4096 * 16;
    __m256i acc[chains];
    const __m256i a = _mm256_set1_epi32(0x01020304), b = _mm256_set1_epi32(0x04030201);
    each<chains>(S7_EACH(i) { acc[i] = _mm256_set1_epi32(i); });
    for (int r = 0; r < rounds; ++r) {
        each<chains>(S7_EACH(i) { add_dots(acc[i], a, b); });
    }
    __m256i sum = acc[0];
    each<chains>(S7_EACH(i) { sum = _mm256_xor_si256(sum, acc[i]); });
    asm volatile("" : : "x"(sum));
    return i64{rounds} * chains * 32;
}

constexpr s7::Kernels kTable = {kActXor, linear,     units_row,    rms_norm_row, quantize_row,
                                rotate,  swiglu_row, shift_row,    argmax_row,   scores,
                                weights, values,     span_weights, peak};

}  // namespace

const s7::Kernels *s7::avxvnni_kernels() { return &kTable; }
#else
const s7::Kernels *s7::avxvnni_kernels() { return nullptr; }
#endif
