// The threads of a call, its scratch memory, and the barrier between its steps.
#pragma once

#include "cache.h"
#include "pace.h"
#include "platform.h"

namespace s7 {

constexpr i64 kRows = 64;      // rows that a thread takes through the layers together
constexpr i64 kHeadRows = 24;  // rows whose logits are computed together
constexpr i64 kPaces = 64;     // calls of fewer rows have a pace for each number of them

// A token in a pass.
struct Row {
    s7_session *session;
    i32 *logits;  // nullptr: not requested
    i64 position;
    i32 id;
    i64 begin = 0, ring_base = 0;  // under hybrid attention: of its document, and its first summary
};

// Consecutive positions of one session in rows first .. first + n - 1.
struct Tile {
    i64 first, n;
};

// The scratch memory of one thread.
struct Own {
    Buffer<i32> row, gate, up;  // a row of x, or of D_q; of F
    Buffer<u8> acts, hidden, routed, query, plain, one;
    Buffer<Pair> token, hidden_token;
    Buffer<i32> picked, scores, o;
    Buffer<u8> limbs;
    Buffer<u8 *> list;  // pages that a tile reads under hybrid attention
    Query queries[kQueries];
    i64 score_stride = 0;
};

}  // namespace s7

struct s7_team {
    const s7_model *model;
    const i64 n_seats;           // the requested threads
    i64 n_threads;               // the threads of this pass: all, or only the caller's
    s7::Pace paces[s7::kPaces];  // by the rows of a call; the first is for more rows
    s7::Own *own = nullptr;

    // The current pass, which the thread of the caller writes between passes.
    i64 n_rows = 0, n_tiles = 0, n_wanted = 0;
    i64 expert = 0;             // the expert of its sequences, if experts have stacks
    bool by_rows = false;       // threads split the rows, else the outputs of projections
    bool own_sessions = false;  // not by_rows, and no session has rows of two threads
    i64 first_row[S7_MAX_THREADS + 1] = {}, first_tile[S7_MAX_THREADS + 1] = {};
    s7::Buffer<s7::Row> rows, line;  // line: the rows in the order of the call
    s7::Buffer<s7::Tile> tiles, sorted;
    s7::Buffer<i32> wanted;  // the rows that need logits

    // Scratch of all rows. wide: bytes of a row of acts; out: results of a projection, whole
    // panels.
    i64 wide = 0, out = 0, d_q = 0, q_wide = 0, kv_wide = 0, mark_wide = 0, v_wide = 0;
    s7::Buffer<i32> x, low, logits;
    // Results of projections, mid_wide for each row: q, k and v; after attention the two of a
    // feed-forward network and then the sum for x.
    s7::Buffer<i32> mid;
    i64 mid_wide = 0;
    i32 *q() { return mid.get(); }
    i32 *k() { return mid.get() + q_wide; }
    i32 *v() { return mid.get() + q_wide + kv_wide; }
    i32 *marks() { return mid.get() + q_wide + 2 * kv_wide; }  // scores of summaries
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
    [[nodiscard]] bool make_scores(i64 n_keys);  // room for rows of n_keys
    [[nodiscard]] bool start();                  // the threads

    // Runs `pass` on every thread and returns when all have finished.
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

// The part of one thread in a pass over the rows of a team (forward.cpp).
void pass(s7_team &team, i64 thread);

}  // namespace s7
