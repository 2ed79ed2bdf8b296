// One thread's part of a pass: what forward.cpp and hybrid.cpp share.
#pragma once

#include "team.h"

namespace s7 {

inline Pair times(Pair a, Pair b, i32 exponent) {
    const Scale p = multiply({a.m, a.e}, {b.m, b.e});
    return {p.m, p.e + exponent};
}

struct Share {
    i64 begin, end;
};

struct Worker {
    s7_team &team;
    const i64 thread;
    Own &own = team.own[thread];
    const s7_model &model = *team.model;
    const s7_shape &shape = model.shape;
    const Kernels &kernels = *model.kernels;
    const bool by_rows = team.by_rows;
    const bool alone =
        !by_rows && team.n_rows == 1;  // one row: its row operations are done by each thread
    const Share mine = alone ? Share{0, 1}
                             : Share{team.first_row[thread],
                                     team.first_row[thread + 1]};  // rows of row operations
    const Share all = by_rows ? mine : Share{0, team.n_rows};      // rows of projections
    u8 *const acts = alone ? own.acts.get() : team.acts.get();     // [n_rows, wide]
    u8 *const hidden = alone ? own.hidden.get() : team.hidden.get();
    Pair *const token = alone ? own.token.get() : team.token.get();  // scale of a row of acts
    Pair *const hidden_token = alone ? own.hidden_token.get() : team.hidden_token.get();

    void meet() const {
        if (!by_rows) team.barrier();
    }
    void meet_after_rows() const {
        if (!by_rows && !alone) team.barrier();
    }

    Share split(i64 n) const {
        return {n * thread / team.n_threads, n * (thread + 1) / team.n_threads};
    }
    Share panels_of(const Linear &w) const {
        return by_rows ? Share{0, w.n_panels} : split(w.n_panels);
    }

    // LINEAR of rows first .. first + n - 1, this thread's outputs of them.
    void linear(const Linear &w, const u8 *from, i64 first, i64 n, i32 *y, i64 stride) const {
        const Share p = panels_of(w);
        kernels.linear(w.view(), p.begin, p.end, from, team.wide, n, y + first * stride, stride);
    }

    // RMS_NORM of a row of x.
    void norm(const Norm &norm, i64 row, u8 *to, Pair &scale) const {
        const i64 d = shape.d_model;
        const i32 *x = team.x.get() + row * d;
        const Pair own_scale =
            kernels.rms_norm(x, d, norm.gain.get(), norm.eps, model.rsqrt, own.row.get(), to);
        scale = {own_scale.m, own_scale.e + norm.exponent};
    }

    // This thread's part of x[row] += delta[from], in units of the residual.
    void add_delta(const Linear &w, i64 from, i64 row, Pair scale) const {
        const Share p = panels_of(w);
        const i64 begin = p.begin * kPanel, end = least(p.end * kPanel, i64{shape.d_model});
        if (begin >= end) return;
        kernels.units(team.delta() + from * team.mid_wide + begin, end - begin, scale.m,
                      scale.e + w.exponent - shape.residual_exponent, true,
                      team.x.get() + row * shape.d_model + begin);
    }

    void embed() const;
    void append(const Layer &layer, i64 index, i64 row, i64 kv) const;
    void append_all(const Layer &layer, i64 index) const;
    void attend(const Layer &layer, i64 index, Tile tile, i64 kv, i64 head, i64 n_heads) const;
    void finish(Tile tile, i64 head, i64 n, i64 stride) const;
    void fetch(i64 index, i64 at) const;
    void join() const;
    // Under hybrid attention (hybrid.cpp).
    void append_hybrid(const Layer &layer, i64 index, i64 row, i64 kv) const;
    void summarise(i64 index, i64 row, i64 kv) const;
    void attend_hybrid(const Layer &layer, i64 index, Tile tile, i64 kv, i64 head,
                       i64 n_heads) const;
    void attention(const Layer &layer, i64 index) const;
    void expert(const FeedForward &f, const u8 *from, const i32 *picked, i64 n) const;
    void feed_forward(const Layer &layer) const;
    void head() const;
};

}  // namespace s7
