// AVX2. vpmaddubsw multiplies unsigned by signed bytes and adds two products in 16 bits with
// saturation. |a| is the unsigned factor, and its sign is moved to the code. A pair is at most 2 *
// 128 * 127 = 32512, so nothing saturates. |a| is prepared once for all panels. P times V is a
// product of 16 bits (f <= 32512). Values are widened for it, which takes one pass instead of one
// for each limb.
#include "kernels.h"

#if defined(__AVX2__)
#define S7_ACT_XOR 0
#include "registers256.h"

namespace {

constexpr i64 kTileRows = 5;

// Rows of acts and of their magnitudes (nullptr: not prepared).
struct Rows {
    const u8 *acts;
    i64 stride;
    const u8 *sizes;
    i64 sizes_stride;
    bool is_prepared() const { return sizes != nullptr; }
    Rows from(i64 t) const {
        return {acts + t * stride, stride, sizes == nullptr ? nullptr : sizes + t * sizes_stride,
                sizes_stride};
    }
};

// Magnitudes of as many rows as fit the first-level cache together with their acts, at most ten. A
// row that is too long has none and is computed alone.
struct Prepared {
    static constexpr i64 kRoom = 32768, kNear = 8192;
    alignas(32) u8 sizes[kRoom];

    i64 most_rows(i64 n_groups) const {
        const i64 row = s7::round_up(n_groups * kGroup, 32), fit = kRoom / row;
        const i64 rows = least(fit, most(kNear / row, 2 * kTileRows));
        return rows < kTileRows ? most(rows, i64{1}) : rows / kTileRows * kTileRows;
    }
    Rows rows(const u8 *acts, i64 stride, i64 n, i64 n_groups) {
        const i64 row = n_groups * kGroup, room = s7::round_up(row, 32);
        if (n * room > kRoom) return {acts, stride, nullptr, 0};
        for (i64 t = 0; t < n; ++t) {
            for (i64 i = 0; i < row; ++i) {
                const i32 a = static_cast<i8>(acts[t * stride + i]);
                sizes[t * room + i] = static_cast<u8>(a < 0 ? -a : a);
            }
        }
        return {acts, stride, sizes, room};
    }
};

template <int MR, int NP, bool prepared>
[[gnu::always_inline]] inline void add_cells(__m256i (&acc)[MR][2 * NP], const i8 *panels,
                                             i64 panel_bytes, i64 n_groups, const Rows &rows) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (i64 g = 0; g < n_groups; ++g) {
        const i8 *cell = panels + g * kCell;
        __m256i w[2 * NP];
        each<2 * NP>(S7_EACH(q) { w[q] = load(cell + q / 2 * panel_bytes + q % 2 * 32); });
        each<MR>(S7_EACH(t) {
            const __m256i x = broadcast_group(rows.acts + t * rows.stride + g * kGroup);
            const __m256i size =
                prepared ? broadcast_group(rows.sizes + t * rows.sizes_stride + g * kGroup)
                         : _mm256_abs_epi8(x);
            each<2 * NP>(S7_EACH(q) {
                const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w[q], x));
                acc[t][q] = _mm256_add_epi32(acc[t][q], _mm256_madd_epi16(pairs, ones));
            });
        });
    }
}

template <int MR, int NP>
[[gnu::always_inline]] inline void add_products(__m256i (&acc)[MR][2 * NP], const i8 *panels,
                                                i64 panel_bytes, i64 n_groups, const Rows &rows) {
    if constexpr (MR == 1 && NP == 1) {
        if (rows.sizes == nullptr)
            return add_cells<MR, NP, false>(acc, panels, panel_bytes, n_groups, rows);
    }
    add_cells<MR, NP, true>(acc, panels, panel_bytes, n_groups, rows);
}

// 16 weights as 16 bits each.
[[gnu::always_inline]] inline void store_weights(__m256i first, __m256i second, u8 *row, i64,
                                                 i64 position) {
    store(row + 2 * position, _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), 0xD8));
}

}  // namespace

#include "products256.h"

namespace {

// acc += madd, in assembly, because GCC 12 copies each sum before it adds to it.
[[gnu::always_inline]] inline void add_pairs(__m256i &acc, __m256i a, __m256i b) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}

// The sums of MR rows over all pages for one panel of dimensions. A register holds four dimensions,
// each as two sums.
template <int MR>
void value_tile(const s7::Head &head, i64 panel, const u8 *rows, i64 row_bytes, i64 n_keys, i32 *o,
                i64 o_stride) {
    __m256i acc[MR][4];
    each<MR>(S7_EACH(t) { each<4>(S7_EACH(q) { acc[t][q] = _mm256_setzero_si256(); }); });
    for (i64 first = 0; first < n_keys; first += kPage) {
        const i8 *cell = array<i8>(head.page(first / kPage), head.layout->v) + panel * kPagePanel;
        const i64 n_groups = s7::round_up(least(n_keys - first, kPage), kGroup) / kGroup;
        for (i64 g = 0; g < n_groups; ++g, cell += kCell) {
            __m256i f[MR];
            each<MR>(S7_EACH(t) {
                i64 four;
                __builtin_memcpy(&four, rows + t * row_bytes + 2 * (first + g * kGroup), 8);
                f[t] = _mm256_set1_epi64x(four);
            });
            each<4>(S7_EACH(q) {
                const __m256i v = _mm256_cvtepi8_epi16(
                    _mm_load_si128(reinterpret_cast<const __m128i *>(cell + 16 * q)));
                each<MR>(S7_EACH(t) { add_pairs(acc[t][q], f[t], v); });
            });
        }
    }
    each<MR>(S7_EACH(t) {
        each<2>(S7_EACH(h) {
            const __m256i sums = _mm256_hadd_epi32(acc[t][2 * h], acc[t][2 * h + 1]);
            store(o + t * o_stride + panel * kPanel + h * kLanes,
                  _mm256_permute4x64_epi64(sums, 0xD8));
        });
    });
}

void values(const s7::Head &head, const u8 *limbs, i64 stride, i64 n, i64 n_keys, i32 *o,
            i64 o_stride) {
    for (i64 p = 0; p < head.layout->v_panels; ++p) {
        for (i64 t = 0; t < n;) {
            const i64 here = least(n - t, i64{3});
            with_rows<3>(here, [&](auto count) {
                value_tile<count>(head, p, limbs + 2 * t * stride, 2 * stride, n_keys,
                                  o + t * o_stride, o_stride);
            });
            t += here;
        }
    }
}

// 32 multiply-adds of bytes take three instructions.
i64 peak() {
    constexpr int chains = 10, rounds = 4096 * 8;
    __m256i acc[chains];
    const __m256i a = _mm256_set1_epi32(0x01020304), ones = _mm256_set1_epi16(1);
    __m256i b = _mm256_set1_epi32(0x04030201);
    each<chains>(S7_EACH(i) { acc[i] = _mm256_set1_epi32(i); });
    for (int r = 0; r < rounds; ++r) {
        each<chains>(S7_EACH(i) {
            asm volatile("" : "+x"(b));  // the compiler must not reuse the product
            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
        });
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

const s7::Kernels *s7::avx2_kernels() { return &kTable; }
#else
const s7::Kernels *s7::avx2_kernels() { return nullptr; }
#endif
