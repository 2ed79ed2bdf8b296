// Attention of one head in BF16, as attention_head.cpp computes it in float32: blocks of rows, and
// the softmax in float32 between two products.
//
// The inner index of a product advances by pairs. Keys, values and gradients are therefore stored
// twice: by columns (pairs of channels, for scores) and by pairs of positions (for sums over
// positions). Rotated queries and keys, weights and gradients of scores are rounded to BF16.

#include "bf16_kernels.h"
#include "bf16_product.h"

#include <cmath>

namespace s7train::bf16 {
namespace {

constexpr std::size_t kRows = 48;

// The layout of the scratch memory.
struct Scratch {
    char *base;
    std::size_t stride, dim, used = 0;
    std::uint16_t *rows;               // [length, dim]: keys, then values
    Pair *k_columns, *v_columns;       // [dim / 2, stride]
    Pair *k_pairs, *v_pairs;           // [length / 2, dim]
    std::uint16_t *q, *grad_y;         // [kRows, dim]
    Pair *q_pairs, *grad_y_pairs;      // [kRows / 2, dim]
    float *scores, *slopes;            // [kRows, stride]
    std::uint16_t *low;                // [kRows, stride]: weights (forward) or slopes, by rows
    Pair *weight_pairs, *slope_pairs;  // [kRows / 2, stride]
    float *sums;                       // [kRows, dim]
    float *grad_k, *grad_v;            // [length, dim]

    Scratch(char *memory, std::size_t length, std::size_t head_dim)
        : base(memory), stride(rounded(length)), dim(head_dim) {
        take(rows, stride * dim);
        take(k_columns, stride * dim / 2), take(v_columns, stride * dim / 2);
        take(k_pairs, stride * dim / 2), take(v_pairs, stride * dim / 2);
        take(q, kRows * dim), take(grad_y, kRows * dim);
        take(q_pairs, kRows * dim / 2), take(grad_y_pairs, kRows * dim / 2);
        take(scores, kRows * stride), take(slopes, kRows * stride), take(low, kRows * stride);
        take(weight_pairs, kRows * stride / 2), take(slope_pairs, kRows * stride / 2);
        take(sums, kRows * dim);
        take(grad_k, stride * dim), take(grad_v, stride * dim);
    }

    template <class T> void take(T *&place, std::size_t n) {
        place = base ? reinterpret_cast<T *>(base + used) : nullptr;
        used += (n * sizeof(T) + 63) / 64 * 64;
    }
};

// Rows of one head are far apart, so the processor does not prefetch them. Prefetches the rows of
// the next block.
template <class From> inline void ask(const From *in, std::size_t in_row, std::size_t dim) {
    const auto *line = reinterpret_cast<const char *>(reinterpret_cast<std::uintptr_t>(in) +
                                                      kRows * in_row * sizeof(From));
    for (std::size_t i = 0; i < dim * sizeof(From); i += 64) _mm_prefetch(line + i, _MM_HINT_T0);
}

// out[n, dim], dense, from vectors rotated by the angle of their position, or back (`back` is -1).
template <class From>
void turn(const From *in, std::size_t in_row, std::uint16_t *out, std::size_t out_row,
          std::size_t begin, std::size_t n, const Head &head, float back) {
    const std::size_t half = head.head_dim / 2;
    for (std::size_t t = 0; t < n; ++t, in += in_row, out += out_row) {
        ask(in, in_row, head.head_dim);
        const float *cosine = head.cosine + (begin + t) * half,
                    *sine = head.sine + (begin + t) * half;
        for (std::size_t j = 0; j < half; j += kLanes) {
            const __mmask16 mask = lanes(half - j);
            const Wide a = get(in + j, mask), b = get(in + half + j, mask);
            const Wide c = get(cosine + j, mask), s = get(sine + j, mask) * back;
            put(out + j, mask, a * c - b * s);
            put(out + half + j, mask, b * c + a * s);
        }
    }
}

// out[n, dim] from rows of floats or BF16 without rotation.
template <class From>
void copy(const From *in, std::size_t in_row, std::uint16_t *out, std::size_t out_row,
          std::size_t n, std::size_t dim) {
    for (std::size_t t = 0; t < n; ++t) {
        ask(in + t * in_row, in_row, dim);
        for (std::size_t j = 0; j < dim; j += kLanes)
            put(out + t * out_row + j, lanes(dim - j), get(in + t * in_row + j, lanes(dim - j)));
    }
}

template <class From>
void turned(const From *in, std::size_t in_row, std::uint16_t *out, std::size_t out_row,
            std::size_t begin, std::size_t n, const Head &head, float back) {
    if (head.cosine) return turn(in, in_row, out, out_row, begin, n, head, back);
    copy(in, in_row, out, out_row, n, head.head_dim);
}

// out[dim / 2, stride]: moves pair p of row t to (p, t). The columns from `length` are zero.
void by_columns(const std::uint16_t *rows, std::size_t length, std::size_t dim, Pair *out,
                std::size_t stride) {
    const Pair *in = reinterpret_cast<const Pair *>(rows);
    for (std::size_t t = 0; t < stride; t += kLanes)
        for (std::size_t p = 0; p < dim / 2; ++p)
            for (std::size_t i = t; i < t + kLanes; ++i)
                out[p * stride + i] = i < length ? in[i * (dim / 2) + p] : 0;
}

// Joins two rows of sixteen to pairs of their elements. `low` fills the lower halves.
inline __m512i interleaved(__m512bh both) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)both);
}

// out[(n + 1) / 2, dim]: pairs of rows. A row of zeros completes an odd number.
void by_pairs(const std::uint16_t *rows, std::size_t n, std::size_t dim, Pair *out) {
    for (std::size_t t = 0; t < n; t += 2)
        for (std::size_t j = 0; j < dim; j += kLanes) {
            const __mmask16 mask = t + 1 < n ? 0xffff : 0;
            const __m256i first =
                _mm256_loadu_si256(reinterpret_cast<const __m256i *>(rows + t * dim + j));
            const __m256i second = _mm256_maskz_loadu_epi16(mask, rows + (t + 1) * dim + j);
            const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
            _mm512_storeu_si512(out + t / 2 * dim + j, interleaved((__m512bh)both));
        }
}

// Turns the scores of a row into weights in BF16 that are not yet divided by their sum. Returns the
// sum, and sets log2(sum) + highest. `scale` is for powers of two: 1 / sqrt(head_dim) / ln 2.
float soften(float *row, std::size_t position, std::size_t n_columns, float scale,
             std::uint16_t *weights, float *log_sum) {
    hide_future(row, position, n_columns);
    __m512 most = (__m512)load(row);
    for (std::size_t j = kLanes; j < n_columns; j += kLanes)
        most = _mm512_max_ps((__m512)load(row + j), most);
    const float top = _mm512_reduce_max_ps(most) * scale;
    Wide sum{};
    for (std::size_t j = 0; j < n_columns; j += kLanes) {
        const Wide weight = two_to(load(row + j) * scale - top);
        put(weights + j, 0xffff, weight);
        sum += weight;
    }
    const float whole = total(sum);
    *log_sum = std::log2(whole) + top;
    return whole;
}

// The values that the gradients of one row need: its log-sum, and the mean gradient under its
// weights (y times its gradient).
struct RowState {
    float log_sum, mean;
};

// Turns scores and their gradients of two rows into weights (by pairs) and gradients (by pairs and
// by rows).
void slopes_of(const Scratch &s, std::size_t r, std::size_t n_columns, float scale, RowState first,
               RowState second) {
    const float *scores = s.scores + r * s.stride, *slopes = s.slopes + r * s.stride;
    const auto weight = [&](const float *row, float log_sum) {
        return two_to(load(row) * scale * kLog2E - log_sum);
    };
    for (std::size_t j = 0; j < n_columns; j += kLanes) {
        const Wide w0 = weight(scores + j, first.log_sum),
                   w1 = weight(scores + s.stride + j, second.log_sum);
        const Wide d0 = w0 * (load(slopes + j) - first.mean) * scale;
        const Wide d1 = w1 * (load(slopes + s.stride + j) - second.mean) * scale;
        const __m512bh weights = _mm512_cvtne2ps_pbh((__m512)w1, (__m512)w0),
                       both = _mm512_cvtne2ps_pbh((__m512)d1, (__m512)d0);
        _mm512_storeu_si512(s.weight_pairs + r / 2 * s.stride + j, interleaved(weights));
        _mm512_storeu_si512(s.slope_pairs + r / 2 * s.stride + j, interleaved(both));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(s.low + r * s.stride + j),
                            _mm512_castsi512_si256((__m512i)both));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(s.low + (r + 1) * s.stride + j),
                            _mm512_extracti64x4_epi64((__m512i)both, 1));
    }
}

// A block of rows of one query head: rows [start, start + n), and the columns that they see.
struct Block {
    std::size_t query, start, n, n_columns, n_key_pairs;
    Block(std::size_t q, std::size_t begin, std::size_t length)
        : query(q),
          start(begin),
          n(std::min(kRows, length - begin)),
          n_columns(rounded(begin + n)),
          n_key_pairs((begin + n + 1) / 2) {}
};

inline const Pair *pairs(const std::uint16_t *rows) { return reinterpret_cast<const Pair *>(rows); }

template <class Work> void each_block(const Head &head, const Work &work) {
    for (std::size_t query = 0; query < head.n_queries; ++query)
        for (std::size_t start = 0; start < head.length; start += kRows)
            work(Block(query, start, head.length));
}

void scores_of(const Head &head, const Scratch &s, const Block &block) {
    turned(head.q.at(block.query, block.start), head.q.token, s.q, s.dim, block.start, block.n,
           head, 1.0f);
    product<false>({pairs(s.q), s.dim / 2, 1}, s.k_columns, s.stride, s.scores, s.stride, block.n,
                   block.n_columns, s.dim / 2);
}

// The weights and gradients of a block's scores.
void soften_backward(const Head &head, const Scratch &s, const Block &block, float scale) {
    const auto state = [&](std::size_t r) {
        if (r == block.n) {  // the row that completes an odd number of rows
            std::fill(s.scores + r * s.stride, s.scores + r * s.stride + block.n_columns,
                      -INFINITY);
            std::fill(s.slopes + r * s.stride, s.slopes + r * s.stride + block.n_columns, 0.0f);
            return RowState{};
        }
        hide_future(s.scores + r * s.stride, block.start + r, block.n_columns);
        const std::uint16_t *y = head.y.at(block.query, block.start + r),
                            *grad = s.grad_y + r * s.dim;
        ask(y, head.y.token, s.dim);
        Wide both{};
        for (std::size_t j = 0; j < s.dim; j += kLanes)
            both += get(y + j, 0xffff) * get(grad + j, 0xffff);
        return RowState{head.log_sum[block.query * head.length + block.start + r], total(both)};
    };
    for (std::size_t r = 0; r < block.n; r += 2) {
        const RowState first = state(r), second = state(r + 1);
        slopes_of(s, r, block.n_columns, scale, first, second);
    }
}

}  // namespace

std::size_t scratch_bytes(std::size_t length, std::size_t head_dim) {
    return Scratch(nullptr, length, head_dim).used;
}

void attention_forward(const Head &head, char *scratch) {
    const std::size_t length = head.length, dim = head.head_dim;
    const Scratch s(scratch, length, dim);
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    turned(head.k.at(0, 0), head.k.token, s.rows, dim, 0, length, head, 1.0f);
    by_columns(s.rows, length, dim, s.k_columns, s.stride);
    copy(head.v.at(0, 0), head.v.token, s.rows, dim, length, dim);
    by_pairs(s.rows, length, dim, s.v_pairs);
    each_block(head, [&](const Block &block) {
        scores_of(head, s, block);
        float sums[kRows], *log_sum = head.log_sum + block.query * length + block.start;
        for (std::size_t r = 0; r < block.n; ++r)
            sums[r] = soften(s.scores + r * s.stride, block.start + r, block.n_columns,
                             scale * kLog2E, s.low + r * s.stride, log_sum + r);
        product<false>({pairs(s.low), s.stride / 2, 1}, s.v_pairs, dim, s.sums, dim, block.n, dim,
                       block.n_key_pairs);
        for (std::size_t r = 0; r < block.n; ++r)
            for (std::size_t j = 0; j < dim; j += kLanes)
                put(head.y.at(block.query, block.start + r) + j, 0xffff,
                    load(s.sums + r * dim + j) / sums[r]);
    });
}

void attention_backward(const Head &head, char *scratch) {
    const std::size_t length = head.length, dim = head.head_dim;
    const Scratch s(scratch, length, dim);
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    copy(head.v.at(0, 0), head.v.token, s.rows, dim, length, dim);
    by_columns(s.rows, length, dim, s.v_columns, s.stride);
    turned(head.k.at(0, 0), head.k.token, s.rows, dim, 0, length, head, 1.0f);
    by_columns(s.rows, length, dim, s.k_columns, s.stride);
    by_pairs(s.rows, length, dim, s.k_pairs);
    std::fill(s.grad_k, s.grad_k + length * dim, 0.0f);
    std::fill(s.grad_v, s.grad_v + length * dim, 0.0f);
    each_block(head, [&](const Block &block) {
        scores_of(head, s, block);
        const std::size_t end = block.start + block.n, n_pairs = (block.n + 1) / 2;
        copy(head.grad_y.at(block.query, block.start), head.grad_y.token, s.grad_y, dim, block.n,
             dim);
        by_pairs(s.q, block.n, dim, s.q_pairs);
        by_pairs(s.grad_y, block.n, dim, s.grad_y_pairs);
        product<false>({pairs(s.grad_y), dim / 2, 1}, s.v_columns, s.stride, s.slopes, s.stride,
                       block.n, block.n_columns, dim / 2);
        soften_backward(head, s, block, scale);
        product<false>({pairs(s.low), s.stride / 2, 1}, s.k_pairs, dim, s.sums, dim, block.n, dim,
                       block.n_key_pairs);
        turned(s.sums, dim, head.grad_q.at(block.query, block.start), head.grad_q.token,
               block.start, block.n, head, -1.0f);
        product<true>({s.weight_pairs, 1, s.stride}, s.grad_y_pairs, dim, s.grad_v, dim, end, dim,
                      n_pairs);
        product<true>({s.slope_pairs, 1, s.stride}, s.q_pairs, dim, s.grad_k, dim, end, dim,
                      n_pairs);
    });
    turned(s.grad_k, dim, head.grad_k.at(0, 0), head.grad_k.token, 0, length, head, -1.0f);
    copy(s.grad_v, dim, head.grad_v.at(0, 0), head.grad_v.token, length, dim);
}

}  // namespace s7train::bf16
