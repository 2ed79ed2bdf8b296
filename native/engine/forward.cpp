// The part of one thread in the forward pass of specs/arithmetic.md, section 3, over the rows of a
// team.
//
// With many rows, each thread computes its own rows through all layers and waits for the others
// once in each layer, when keys and values are written. With few rows, threads split the outputs of
// each projection and wait where one reads what another wrote. For a single row every thread
// computes the row operations itself, because that is cheaper than waiting.
//
// D d_model, H heads, K key/value heads, E head_dim, F d_ffn, V vocabulary.
#include "worker.h"

using s7::Linear;
using s7::Pair;
using s7::Share;
using s7::Worker;

void Worker::embed() const {
    const Share rows = alone ? Share{0, thread == 0 ? 1 : 0} : mine;
    const i64 d = shape.d_model;
    for (i64 r = rows.begin; r < rows.end; ++r) {
        const i64 id = team.rows.get()[r].id;
        const i8 *codes = model.embedding.get() + id * d;
        const i32 m = model.embedding_m.get()[id], s = model.embedding_s.get()[id];
        i32 *const wide = own.row.get();
        for (i64 i = 0; i < d; ++i) wide[i] = codes[i];
        kernels.units(wide, d, m, s, false, team.x.get() + r * d);
    }
    meet();
}

// Writes the key and value of one row and head to the cache.
void Worker::append(const s7::Layer &layer, i64 index, i64 row, i64 kv) const {
    const s7::Row &to = team.rows.get()[row];
    const i64 half = shape.head_dim / 2, at = row * team.mid_wide + kv * shape.head_dim;
    u8 *code = own.one.get();
    const Pair key = kernels.rotate(team.k() + at, half, model.cosine.get() + to.position * half,
                                    model.sine.get() + to.position * half, own.row.get(), code);
    s7_session &session = *to.session;
    u8 *block = session.window.block(to.position, session.head_offset(index, kv));
    session.put_key(block, to.position, code, times(key, token[row], layer.k.exponent));
    const Pair value = kernels.quantize(team.v() + at, shape.head_dim, code);
    session.put_value(block, to.position, code, times(value, token[row], layer.v.exponent));
}

void Worker::append_all(const s7::Layer &layer, i64 index) const {
    const i64 n_kv = shape.n_kv_heads;
    const bool is_hybrid = model.is_hybrid();
    const auto each_row = [&](const auto &step) {
        if (alone) {  // the heads that this thread attends with: nobody has to wait for them
            for (i64 kv = thread; kv < n_kv; kv += team.n_threads) step(0, kv);
            return;
        }
        for (i64 r = mine.begin; r < mine.end; ++r) {
            for (i64 kv = 0; kv < n_kv; ++kv) step(r, kv);
        }
        if (!team.own_sessions) team.barrier();
    };
    if (!is_hybrid) return each_row([&](i64 r, i64 kv) { append(layer, index, r, kv); });
    each_row([&](i64 r, i64 kv) { append_hybrid(layer, index, r, kv); });
    // A summary reads rows that other threads appended.
    each_row([&](i64 r, i64 kv) { summarise(index, r, kv); });
}

// Attends with the queries of a tile and of n_heads heads from `head`, over the keys of head kv.
// Writes o to `joined`.
void Worker::attend(const s7::Layer &layer, i64 index, s7::Tile tile, i64 kv, i64 head,
                    i64 n_heads) const {
    const i64 dims = shape.head_dim, half = dims / 2, stride = s7::round_up(dims, 64),
              n = tile.n * n_heads;
    const s7::Row *rows = team.rows.get() + tile.first;
    s7_session &session = *rows[0].session;
    for (i64 r = 0; r < n; ++r) {
        const i64 row = tile.first + r % tile.n, position = rows[r % tile.n].position;
        const i32 *q = team.q() + row * team.mid_wide + (head + r / tile.n) * dims;
        const Pair turned = kernels.rotate(q, half, model.cosine.get() + position * half,
                                           model.sine.get() + position * half, own.row.get(),
                                           own.query.get() + r * stride);
        const Pair scale =
            times(times(turned, token[row], layer.q.exponent), {shape.score_m, shape.score_e}, 0);
        own.queries[r] = {scale, position + 1, 0, 0, 0, {}, {}};
    }
    const i64 n_keys = rows[tile.n - 1].position + 1, end = s7::round_up(n_keys, s7::kPage);
    const s7::Head keys = session.head(index, kv);
    kernels.scores(keys, headroom(dims), own.query.get(), stride, own.queries, n, own.scores.get(),
                   own.score_stride);
    for (i64 r = 0; r < n; ++r) {
        kernels.weights(keys, own.queries[r], own.scores.get() + r * own.score_stride,
                        model.exp2_steps, own.limbs.get() + 2 * r * own.score_stride,
                        own.score_stride, end);
    }
    kernels.values(keys, own.limbs.get(), own.score_stride, n, n_keys, own.o.get(), stride);
    finish(tile, head, n, stride);
}

// Sums of P times V over P, for n query rows.
void Worker::finish(s7::Tile tile, i64 head, i64 n, i64 stride) const {
    const i64 dims = shape.head_dim;
    for (i64 r = 0; r < n; ++r) {
        const u32 total = own.queries[r].total;
        const i32 length = bits(total);
        const i64 divisor = length < 16 ? i64{total} << (16 - length) : i64{total} >> (length - 16);
        const i64 row = tile.first + r % tile.n, which = head + r / tile.n;
        // A total is at least 2^14 (load_tables), so it is not zero.
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero)
        kernels.units(own.o.get() + r * stride, dims, static_cast<i32>(kMax32 / divisor),
                      length - 1, false, team.joined() + row * team.mid_wide + which * dims);
        team.low.get()[row * shape.n_heads + which] = own.queries[r].low;
    }
}

// Prefetches the keys and values of the at-th head, counted over the tiles. A tile of several rows
// follows another one of its session, whose data is still in the cache.
void Worker::fetch(i64 index, i64 at) const {
    const s7::Tile tile = team.tiles.get()[at / shape.n_kv_heads];
    const s7::Row &row = team.rows.get()[tile.first];
    if (tile.n == 1) row.session->fetch(index, at % shape.n_kv_heads, row.position + 1);
}

// Joins the heads and quantises them.
void Worker::join() const {
    const i64 dims = shape.head_dim;
    for (i64 r = mine.begin; r < mine.end; ++r) {
        const i32 *low = team.low.get() + r * shape.n_heads, *o = team.joined() + r * team.mid_wide;
        i32 lowest = low[0];
        for (i64 head = 1; head < shape.n_heads; ++head) lowest = least(lowest, low[head]);
        for (i64 head = 0; head < shape.n_heads; ++head) {
            kernels.shift(o + head * dims, dims, low[head] - lowest, own.row.get() + head * dims);
        }
        const Pair scale = kernels.quantize(own.row.get(), team.d_q, acts + r * team.wide);
        token[r] = {scale.m, scale.e + lowest};
    }
    meet_after_rows();
}

void Worker::attention(const s7::Layer &layer, i64 index) const {
    for (i64 r = mine.begin; r < mine.end; ++r)
        norm(layer.attn_norm, r, acts + r * team.wide, token[r]);
    meet_after_rows();
    const u8 *from = acts + all.begin * team.wide;
    const i64 n = all.end - all.begin;
    linear(layer.q, from, all.begin, n, team.q(), team.mid_wide);
    linear(layer.k, from, all.begin, n, team.k(), team.mid_wide);
    linear(layer.v, from, all.begin, n, team.v(), team.mid_wide);
    const bool is_hybrid = model.is_hybrid();
    if (is_hybrid) linear(layer.summary, from, all.begin, n, team.marks(), team.mid_wide);
    meet();
    append_all(layer, index);
    const i64 group = shape.n_heads / shape.n_kv_heads, step = least(group, s7::kQueries);
    const bool by_tiles = by_rows || team.own_sessions;
    // The heads of this thread, counted over the tiles.
    const i64 n_kv = shape.n_kv_heads, stride = by_tiles ? 1 : team.n_threads;
    const i64 begin = by_tiles ? team.first_tile[thread] * n_kv : thread,
              end = (by_tiles ? team.first_tile[thread + 1] : team.n_tiles) * n_kv;
    for (i64 at = begin; at < end; at += stride) {
        const i64 kv = at % n_kv;
        if (!is_hybrid && at + stride < end) fetch(index, at + stride);
        for (i64 head = kv * group; head < (kv + 1) * group; head += step) {
            const s7::Tile tile = team.tiles.get()[at / n_kv];
            const i64 n_heads = least(step, (kv + 1) * group - head);
            if (is_hybrid) {
                attend_hybrid(layer, index, tile, kv, head, n_heads);
            } else {
                attend(layer, index, tile, kv, head, n_heads);
            }
        }
    }
    if (!team.own_sessions) meet();
    join();
    linear(layer.o, from, all.begin, n, team.delta(), team.mid_wide);
    for (i64 r = all.begin; r < all.end; ++r) add_delta(layer.o, r, r, token[r]);
    meet();
}

// Computes one expert for n rows of acts. Row j is row picked[j] of the pass. The results are at
// rows all.begin + j.
void Worker::expert(const s7::FeedForward &f, const u8 *from, const i32 *picked, i64 n) const {
    linear(f.gate, from, all.begin, n, team.first(), team.mid_wide);
    linear(f.up, from, all.begin, n, team.second(), team.mid_wide);
    meet();
    const Share part = by_rows || alone ? Share{0, n} : split(n);
    u8 *to = hidden + all.begin * team.wide;
    for (i64 j = part.begin; j < part.end; ++j) {
        const Pair t = token[picked[j]];
        const i64 at = (all.begin + j) * team.mid_wide;
        const Pair own_scale = kernels.swiglu(team.first() + at, team.second() + at, f.gate.n_out,
                                              t.m, t.e + f.gate.exponent - 11, model.sigmoid_steps,
                                              own.gate.get(), own.up.get(), to + j * team.wide);
        hidden_token[picked[j]] = times(own_scale, t, f.up.exponent + 15);
    }
    meet_after_rows();
    linear(f.down, to, all.begin, n, team.delta(), team.mid_wide);
    for (i64 j = 0; j < n; ++j)
        add_delta(f.down, all.begin + j, picked[j], hidden_token[picked[j]]);
    meet();
}

void Worker::feed_forward(const s7::Layer &layer) const {
    for (i64 r = mine.begin; r < mine.end; ++r)
        norm(layer.ffn_norm, r, acts + r * team.wide, token[r]);
    meet_after_rows();
    const i64 n_experts = model.experts_in_layer();
    for (i64 e = 0; e < n_experts; ++e) {
        i64 n = 0;
        for (i64 r = all.begin; r < all.end; ++r) {
            if (n_experts == 1 || model.router.get()[team.rows.get()[r].id] == e)
                own.picked.get()[n++] = static_cast<i32>(r);
        }
        if (n == 0) continue;
        const u8 *from = acts + all.begin * team.wide;
        if (n < all.end - all.begin) {
            for (i64 j = 0; j < n; ++j) {
                std::memcpy(own.routed.get() + j * team.wide,
                            acts + own.picked.get()[j] * team.wide, static_cast<size_t>(team.wide));
            }
            from = own.routed.get();
        }
        expert(layer.experts[e], from, own.picked.get(), n);
    }
}

// The logits of the rows that need them. Threads always split the outputs.
void Worker::head() const {
    if (team.n_wanted == 0) return;
    const Share part = alone ? Share{0, 1} : split(team.n_wanted);
    if (by_rows) team.barrier();
    for (i64 j = part.begin; j < part.end; ++j)
        norm(model.final_norm, team.wanted.get()[j], acts + j * team.wide, token[j]);
    if (!alone) team.barrier();
    const Share p = split(model.head.n_panels);
    const i64 begin = p.begin * s7::kPanel, end = least(p.end * s7::kPanel, i64{shape.vocab_size});
    if (begin >= end) return;
    for (i64 first = 0; first < team.n_wanted; first += s7::kHeadRows) {
        const i64 n = least(team.n_wanted - first, s7::kHeadRows);
        kernels.linear(model.head.view(), p.begin, p.end, acts + first * team.wide, team.wide, n,
                       team.logits.get(), team.v_wide);
        for (i64 j = 0; j < n; ++j) {
            const Pair scale = token[first + j];
            kernels.units(team.logits.get() + j * team.v_wide + begin, end - begin, scale.m,
                          scale.e + model.head.exponent - 16, false,
                          team.rows.get()[team.wanted.get()[first + j]].logits + begin);
        }
    }
}

void s7::pass(s7_team &team, i64 thread) {
    const Worker worker{team, thread};
    worker.embed();
    for (i64 i = 0; i < team.model->depth(); ++i) {
        const Layer &layer = team.model->layer(i, team.expert);
        worker.attention(layer, i);
        worker.feed_forward(layer);
    }
    worker.head();
}
