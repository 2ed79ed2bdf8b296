// Hybrid attention of specs/arithmetic.md, section 8: what a thread appends, the summaries of
// complete strides, and one softmax over a window and a run of summaries.
//
// The list of pages of a tile is those of the window, then those of the ring. Pages are whole, so
// each query row says by two spans what it sees of them.
#define S7_ACT_XOR 0
#include "row_base.h"
#include "worker.h"

using s7::kPage;
using s7::Pair;
using s7::Worker;

namespace {

template <class T> T *array(u8 *block, i64 offset) { return reinterpret_cast<T *>(block + offset); }

struct Width {
    u32 largest_code;
    Scale widening;
};

Width width_of(i32 n_bits) {
    if (n_bits == 6) return {31, {33561, 13}};
    if (n_bits == 4) return {7, {37157, 11}};
    return {127, {32768, 15}};
}

// CODE of a row, as acts with `flip`.
Pair code_row(const i32 *v, i64 n, i32 n_bits, u8 flip, u8 *acts) {
    const Width width = width_of(n_bits);
    const Quantizer quantizer(peak_of(v, n), width.largest_code);
    for (i64 i = 0; i < n; ++i) acts[i] = quantizer.act(v[i]) ^ flip;
    const Pair scale = quantizer.scale();
    const Scale wide = multiply({scale.m, scale.e}, width.widening);
    return {wide.m, wide.e};
}

// CODE of a head that is turned.
Pair turn_row(const i32 *head, i64 half, const i16 *cosine, const i16 *sine, i32 n_bits, u8 flip,
              i32 *u, u8 *acts) {
    const i32 shift = normalize_row(head, 2 * half, 14, u);
    for (i64 i = 0; i < half; ++i) {
        const i32 a = u[i], b = u[i + half], c = cosine[i], s = sine[i];
        u[i] = (a * c - b * s + 16384) >> 15;
        u[i + half] = (b * c + a * s + 16384) >> 15;
    }
    const Pair scale = code_row(u, 2 * half, n_bits, flip, acts);
    return {scale.m, scale.e - shift};
}

void store_codes(const u8 *acts, i64 n, u8 flip, u8 *to) {
    for (i64 i = 0; i < n; ++i) to[i] = acts[i] ^ flip;
}

// Where the scores, the codes and the scales of one side are in a block of strides.
struct Side {
    i64 score, codes, m, e;
};

// Rows of a document that a summary covers.
struct Covered {
    const s7_session &session;
    i64 offset;  // of the head's block
    i64 first, end;
    Side side;
    u8 *block(i64 position) const { return session.strides.block(position, offset); }
    i32 score(i64 position) const {
        return array<i32>(block(position), side.score)[position % kPage];
    }
    const i8 *codes(i64 position, i64 n) const {
        return array<i8>(block(position), side.codes) + position % kPage * n;
    }
    i32 m(i64 position) const { return array<u16>(block(position), side.m)[position % kPage]; }
    i32 e(i64 position) const { return array<i16>(block(position), side.e)[position % kPage]; }
};

i64 square_of(const i8 *codes, i64 n, u8 flip) {
    i32 sum = 0;
    for (i64 i = 0; i < n; ++i) {
        const i32 code = static_cast<i8>(static_cast<u8>(codes[i]) ^ flip);
        sum += code * code;
    }
    return sum;
}

// P of the rows into `p`, its sum behind the shift into `total`; gives the least exponent.
i32 weigh(const Covered &rows, const u32 *steps, i32 *p, u32 &total) {
    const i64 n = rows.end - rows.first;
    i32 largest = static_cast<i32>(kMin32), low = 1 << 30;
    for (i64 j = 0; j < n; ++j) {
        p[j] = rows.score(rows.first + j);
        largest = most(largest, p[j]);
        low = least(low, rows.e(rows.first + j));
    }
    u64 sum = 0;
    for (i64 j = 0; j < n; ++j) {
        const u32 d = static_cast<u32>(largest) - static_cast<u32>(p[j]);
        p[j] = static_cast<i32>(exp2_negative(d, steps[exp2_index(d)]));
        sum += static_cast<u32>(p[j]);
    }
    const i32 drop = most(bits(sum) - 24, 0);
    total = 0;
    for (i64 j = 0; j < n; ++j) {
        if (drop > 0) p[j] = rshift_narrow(p[j], drop);
        total += static_cast<u32>(p[j]);
    }
    return low;
}

// SUMMARY: codes as acts with `flip`, and their scale. `p` has room for the rows, `sums` for a
// head.
Pair summary_of(const Covered &rows, const s7_model &model, i32 *p, i32 *sums, u8 *acts) {
    const i64 dims = model.shape.head_dim;
    const u8 flip = model.kernels->act_xor;
    u32 total = 0;
    const i32 low = weigh(rows, model.exp2_steps, p, total);
    for (i64 i = 0; i < dims; ++i) sums[i] = 0;
    i64 far = 0;
    for (i64 at = rows.first; at < rows.end; ++at) {
        const i32 f = mulsh(p[at - rows.first], rows.m(at), i64{16} + rows.e(at) - low);
        const i8 *codes = rows.codes(at, dims);
        for (i64 i = 0; i < dims; ++i) sums[i] += f * codes[i];
        const i64 square = square_of(codes, dims, 0);
        const Scale root = rsqrt(most(square, i64{1}), model.rsqrt);
        far += i64{f} * mulsh(square, root.m, root.e - 4);
    }
    far = most(far, i64{1});
    code_row(sums, dims, model.hybrid.kv_bits, flip, acts);
    const i32 excess = bits(static_cast<u64>(far)) - 16, length = bits(total);
    const i64 upper = excess >= 0 ? far >> excess : far << -excess;
    const i64 divisor = length < 16 ? i64{total} << (16 - length) : i64{total} >> (length - 16);
    // A total is 2^14 at least (load_tables), so is no zero.
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero)
    Scale scale = multiply({static_cast<i32>(upper), -excess},
                           {static_cast<i32>(kMax32 / divisor), 15 + length});
    const i64 square = square_of(reinterpret_cast<const i8 *>(acts), dims, flip);
    scale = multiply(scale, rsqrt(most(square, i64{1}), model.rsqrt));
    return {scale.m, scale.e + low - 12};
}

}  // namespace

// Key, value and scores of one row and head into the window and the strides.
void Worker::append_hybrid(const s7::Layer &layer, i64 index, i64 row, i64 kv) const {
    const s7::Row &to = team.rows.get()[row];
    s7_session &session = *to.session;
    const i64 dims = shape.head_dim, half = dims / 2, at = row * team.mid_wide + kv * dims,
              turn = (to.position - to.begin) * half, slot = to.position % kPage;
    const s7::StrideLayout &in = session.stride_layout;
    u8 *const window = session.window.block(to.position, session.head_offset(index, kv));
    u8 *const strides = session.strides.block(to.position, session.stride_offset(index, kv));
    const i32 n_bits = model.hybrid.kv_bits;
    const u8 flip = kernels.act_xor;
    const i16 *cosine = model.cosine.get() + turn, *sine = model.sine.get() + turn;
    const i32 *k = team.k() + at, *v = team.v() + at;
    u8 *code = own.one.get();
    const auto scaled = [&](Pair scale, const s7::Linear &by) {
        return times(scale, token[row], by.exponent);
    };

    const Pair key = n_bits == 8
                         ? kernels.rotate(k, half, cosine, sine, own.row.get(), code)
                         : turn_row(k, half, cosine, sine, n_bits, flip, own.row.get(), code);
    session.put_key(window, to.position, code, scaled(key, layer.k));
    if (n_bits != 8) {
        const Pair value = code_row(v, dims, n_bits, flip, code);
        session.put_value(window, to.position, code, scaled(value, layer.v));
    }
    const Pair whole = scaled(kernels.quantize(v, dims, code), layer.v);
    if (n_bits == 8) session.put_value(window, to.position, code, whole);
    store_codes(code, dims, flip, strides + in.v + slot * dims);
    const Pair plain = scaled(kernels.quantize(k, dims, code), layer.k);
    store_codes(code, dims, flip, strides + in.k + slot * dims);
    array<u16>(strides, in.k_m)[slot] = static_cast<u16>(plain.m);
    array<i16>(strides, in.k_e)[slot] = static_cast<i16>(plain.e);
    array<u16>(strides, in.v_m)[slot] = static_cast<u16>(whole.m);
    array<i16>(strides, in.v_e)[slot] = static_cast<i16>(whole.e);

    const i32 *marks = team.marks() + row * team.mid_wide;
    const i64 shift = i64{token[row].e} + layer.summary.exponent - 16;
    array<i32>(strides, in.a)[slot] = mulsh(marks[kv], token[row].m, shift);
    array<i32>(strides, in.b)[slot] = mulsh(marks[shape.n_kv_heads + kv], token[row].m, shift);
}

// The summary of the stride that a row completes, if it does.
void Worker::summarise(i64 index, i64 row, i64 kv) const {
    const s7::Row &at = team.rows.get()[row];
    const s7_session &session = *at.session;
    const i64 stride = model.hybrid.stride, n = at.position - at.begin + 1;
    if (n % stride != 0) return;
    const s7::StrideLayout &in = session.stride_layout;
    const i64 number = at.ring_base + n / stride - 1;
    u8 *const to = session.ring.block(number, session.head_offset(index, kv));
    Covered rows{session,
                 session.stride_offset(index, kv),
                 at.begin + most(n - 2 * stride, i64{0}),
                 at.position + 1,
                 {in.a, in.k, in.k_m, in.k_e}};
    u8 *const code = own.one.get();
    const Pair key = summary_of(rows, model, own.scores.get(), own.row.get(), code);
    session.put_key(to, number, code, key);
    rows.side = {in.b, in.v, in.v_m, in.v_e};
    const Pair value = summary_of(rows, model, own.scores.get(), own.row.get(), code);
    session.put_value(to, number, code, value);
}

// The queries of a tile and of n_heads heads from `head` on: o into `joined`.
void Worker::attend_hybrid(const s7::Layer &layer, i64 index, s7::Tile tile, i64 kv, i64 head,
                           i64 n_heads) const {
    const i64 dims = shape.head_dim, half = dims / 2, acts_stride = s7::round_up(dims, 64),
              n = tile.n * n_heads;
    const s7_hybrid &h = model.hybrid;
    const s7::Row *rows = team.rows.get() + tile.first;
    const s7::Row &first = rows[0], &last = rows[tile.n - 1];
    s7_session &session = *first.session;
    const auto n_complete = [&](const s7::Row &row) {
        return session.n_summaries(row.position + 1, {row.begin, row.ring_base});
    };
    const auto first_far = [&](const s7::Row &row) {
        return most(row.ring_base, n_complete(row) - h.ring);
    };
    const i64 near_page = most(first.begin, first.position - h.window + 1) / kPage,
              n_near = last.position / kPage - near_page + 1, far_page = first_far(first) / kPage,
              end_far = n_complete(last),
              n_far = end_far > first_far(first) ? (end_far - 1) / kPage - far_page + 1 : 0,
              far_at = n_near * kPage, end = far_at + n_far * kPage;
    u8 **const list = own.list.get();
    for (i64 i = 0; i < n_near; ++i) list[i] = session.window.page(near_page + i);
    for (i64 i = 0; i < n_far; ++i) list[n_near + i] = session.ring.page(far_page + i);
    const s7::Head keys{list, session.head_offset(index, kv), &session.layout},
        far{list + n_near, keys.offset, keys.layout};

    const auto scaled = [&](Pair scale, i64 row) {
        return times(times(scale, token[row], layer.q.exponent), {shape.score_m, shape.score_e}, 0);
    };
    s7::Query plain[s7::kQueries];
    for (i64 r = 0; r < n; ++r) {
        const s7::Row &at = rows[r % tile.n];
        const i64 row = tile.first + r % tile.n, turn = (at.position - at.begin) * half;
        const i32 *q = team.q() + row * team.mid_wide + (head + r / tile.n) * dims;
        const Pair turned =
            kernels.rotate(q, half, model.cosine.get() + turn, model.sine.get() + turn,
                           own.row.get(), own.query.get() + r * acts_stride);
        const i64 near_from = near_page * kPage, far_from = far_page * kPage - far_at;
        const s7::Span near{most(at.begin, at.position - h.window + 1) - near_from,
                            at.position + 1 - near_from};
        const s7::Span summaries{first_far(at) - far_from, n_complete(at) - far_from};
        own.queries[r] = {scaled(turned, row), near.end, 0, 0, 0, near, summaries};
        if (n_far == 0) {
            own.queries[r].far = {end, end};
            continue;
        }
        const Pair flat = kernels.quantize(q, dims, own.plain.get() + r * acts_stride);
        plain[r] = {scaled(flat, row), most(summaries.end - far_at, i64{1}), 0, 0, 0, {}, {}};
    }
    const i32 lift = headroom(dims);
    kernels.scores(keys, lift, own.query.get(), acts_stride, own.queries, n, own.scores.get(),
                   own.score_stride);
    if (n_far > 0) {
        kernels.scores(far, lift, own.plain.get(), acts_stride, plain, n, own.scores.get() + far_at,
                       own.score_stride);
    }
    for (i64 r = 0; r < n; ++r) {
        kernels.span_weights(keys, own.queries[r], own.scores.get() + r * own.score_stride,
                             model.exp2_steps, own.limbs.get() + 2 * r * own.score_stride,
                             own.score_stride, end);
    }
    kernels.values(keys, own.limbs.get(), own.score_stride, n, end, own.o.get(), acts_stride);
    finish(tile, head, n, acts_stride);
}
