// The threads of a call, its scratch memory, and the barrier between its steps.
#pragma once

#include "cache.h"
#include "pace.h"
#include "platform.h"

namespace s7 {

constexpr i64 kRows = 64;      // rows that a thread takes through the layers together
constexpr i64 kQueries = 12;   // query rows that go over the keys together
constexpr i64 kHeadRows = 24;  // rows whose logits are computed together
constexpr i64 kPaces = 64;     // calls of fewer rows have a pace for each number of them

// A token on its way through the layers.
struct Row {
    s7_session *session;
    i32 *logits;  // nullptr: not wanted
    i64 position;
    i32 id;
};

// Consecutive positions of one session, at rows first .. first + n - 1.
struct Tile {
    i64 first, n;
};

// What one thread writes alone.
struct Own {
    Buffer<i32> row, gate, up;  // a row of x, or of D_q; of F
    Buffer<u8> acts, hidden, routed, query, one;
    Buffer<Pair> token, hidden_token;
    Buffer<i32> picked, scores, o;
    Buffer<u8> limbs;
    Query queries[kQueries];
    i64 score_stride = 0;
};

}  // namespace s7

struct s7_team {
    const s7_model *model;
    const i64 n_seats;           // threads that were asked for
    i64 n_threads;               // of them, those of the pass at hand: all, or the caller's alone
    s7::Pace paces[s7::kPaces];  // by the rows of a call; the first is that of more rows
    s7::Own *own = nullptr;

    // The pass at hand, written by the caller's thread between passes.
    i64 n_rows = 0, n_tiles = 0, n_wanted = 0;
    i64 expert = 0;             // of the sequences in it, where experts have stacks
    bool by_rows = false;       // threads split the rows; else the outputs of each projection
    bool own_sessions = false;  // not by_rows, and no session has rows of two threads
    i64 first_row[S7_MAX_THREADS + 1] = {}, first_tile[S7_MAX_THREADS + 1] = {};
    s7::Buffer<s7::Row> rows, line;  // line: in the order of the call
    s7::Buffer<s7::Tile> tiles, sorted;
    s7::Buffer<i32> wanted;  // rows that want logits

    // Scratch of all rows. wide: bytes of a row of acts; out: results of a projection, whole
    // panels.
    i64 wide = 0, out = 0, d_q = 0, q_wide = 0, kv_wide = 0, v_wide = 0;
    s7::Buffer<i32> x, low, logits;
    // Results of projections, mid_wide for each row: q, k and v, or after attention the two of a
    // feed forward and, behind them, what is added to x.
    s7::Buffer<i32> mid;
    i64 mid_wide = 0;
    i32 *q() { return mid.get(); }
    i32 *k() { return mid.get() + q_wide; }
    i32 *v() { return mid.get() + q_wide + kv_wide; }
    i32 *joined() { return q(); }  // a head takes the place of its query
    i32 *first() { return mid.get(); }
    i32 *second() { return mid.get() + out; }
    i32 *delta() { return mid.get() + 2 * out; }
    s7::Buffer<u8> acts, hidden;
    s7::Buffer<s7::Pair> token, hidden_token;

    explicit s7_team(const s7_model *of, i64 n) : model(of), n_seats(n), n_threads(n) {
        paces[0].start_together();
    }
    s7_team(const s7_team &) = delete;
    s7_team &operator=(const s7_team &) = delete;
    ~s7_team();

    [[nodiscard]] bool make_scratch();
    [[nodiscard]] bool make_scores(i64 n_keys);  // room for rows of so many
    [[nodiscard]] bool start();                  // the threads

    // `pass` on every thread; returns when all are done.
    void run();
    void barrier();

  private:
    struct Seat {
        s7_team *team;
        i64 thread;
        s7::ThreadHandle handle;
    };
    static void *work(void *seat);
    Seat seats_[S7_MAX_THREADS] = {};
    i64 n_started_ = 1;
    s7::Sleep sleep_;
    alignas(64) std::atomic<u32> epoch_{0};
    alignas(64) std::atomic<i32> arrived_{0};
    alignas(64) std::atomic<u32> generation_{0};
    std::atomic<i32> n_asleep_{0};
    std::atomic<bool> stop_{false};
};

namespace s7 {

// One thread's part of a pass over the rows of a team (forward.cpp).
void pass(s7_team &team, i64 thread);

}  // namespace s7
