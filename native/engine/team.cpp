// The threads of a team. They spin for a short time while they wait for a call, and then sleep.
#include "team.h"

#include <new>

namespace {

constexpr int kSpins = 2000;       // reads of a word before a thread yields the processor
constexpr int kIdleSpins = 20000;  // reads for the next pass before sleep, about 50 us

#if defined(__wasm_atomics__)
constexpr int kLoads = 20;
const std::atomic<u32> nothing{0};
#endif

inline void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#elif defined(__wasm_atomics__)
    // WebAssembly has no such instruction. So many loads take as long as one of a processor does.
    for (int i = 0; i < kLoads; ++i) (void)nothing.load(std::memory_order_relaxed);
#endif
}

// Waits until `word` is no longer `old`.
void spin(const std::atomic<u32> &word, u32 old) {
    for (int i = 0; word.load(std::memory_order_acquire) == old; ++i) {
        if (i < kSpins) {
            pause_briefly();
        } else {
            s7::give_way();  // there may be more threads than processors
        }
    }
}

}  // namespace

void s7_team::barrier() {
    // Read before arrival: once the last thread has arrived, the caller may set it for the next
    // run, and a thread that read it late would take itself for the last.
    const i64 last = n_threads - 1;
    if (last == 0) return;
    const u32 generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == last) {
        arrived_.store(0, std::memory_order_relaxed);
        generation_.store(generation + 1, std::memory_order_release);
    } else {
        spin(generation_, generation);
    }
}

void s7_team::run() {
    if (n_threads > 1) {
        epoch_.fetch_add(1, std::memory_order_seq_cst);
        if (n_asleep_.load(std::memory_order_seq_cst) > 0) {
            sleep_.lock();
            sleep_.wake_all();
            sleep_.unlock();
        }
    }
    s7::pass(*this, 0);
    barrier();
}

void *s7_team::work(void *argument) {
    const auto &seat = *static_cast<Seat *>(argument);
    s7_team &team = *seat.team;
    for (u32 seen = 0;;) {
        for (int i = 0; i < kIdleSpins && team.epoch_.load(std::memory_order_acquire) == seen; ++i)
            pause_briefly();
        if (team.epoch_.load(std::memory_order_acquire) == seen) {
            team.sleep_.lock();
            team.n_asleep_.fetch_add(1, std::memory_order_seq_cst);
            while (team.epoch_.load(std::memory_order_seq_cst) == seen) team.sleep_.wait();
            team.n_asleep_.fetch_sub(1, std::memory_order_seq_cst);
            team.sleep_.unlock();
        }
        ++seen;
        if (team.stop_.load(std::memory_order_acquire)) return nullptr;
        s7::pass(team, seat.thread);
        team.barrier();
    }
}

bool s7_team::start() {
    for (; n_started_ < n_seats; ++n_started_) {
        Seat &seat = seats_[n_started_];
        seat = {this, n_started_, {}};
        if (!s7::start_thread(seat.handle, work, &seat)) return false;
    }
    return true;
}

s7_team::~s7_team() {
    stop_.store(true, std::memory_order_release);
    sleep_.lock();
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    sleep_.wake_all();
    sleep_.unlock();
    for (i64 i = 1; i < n_started_; ++i) s7::join_thread(seats_[i].handle);
    delete[] own;
}

bool s7_team::make_scratch() {
    const s7_shape &h = model->shape;
    const i64 d_kv = i64{h.n_kv_heads} * h.head_dim, f = most(h.d_ffn, h.stack_d_ffn),
              d = h.d_model;
    d_q = i64{h.n_heads} * h.head_dim;
    const i64 n = s7::kRows * n_seats, widest = s7::round_up(most(most(d, d_q), f), 64);
    wide = widest;
    out = widest;
    q_wide = s7::round_up(d_q, 64), kv_wide = s7::round_up(d_kv, 64);
    mark_wide = model->is_hybrid() ? s7::round_up(2 * h.n_kv_heads, 64) : 0;
    mid_wide = most(q_wide + 2 * kv_wide + mark_wide, 2 * out + s7::round_up(d, 64));
    v_wide = s7::round_up(h.vocab_size, 64);
    own = new (std::nothrow) s7::Own[static_cast<size_t>(n_seats)];
    if (own == nullptr) return false;
    for (i64 i = 0; i < n_seats; ++i) {
        s7::Own &o = own[i];
        const i64 acts_of = s7::kQueries * s7::round_up(h.head_dim, 64);
        if (!o.row.make(widest) || !o.gate.make(widest) || !o.up.make(widest) ||
            !o.acts.make(widest) || !o.hidden.make(widest) ||
            !o.routed.make(h.n_experts > 1 ? s7::kRows * widest : 0) || !o.query.make(acts_of) ||
            !o.plain.make(mark_wide > 0 ? acts_of : 0) ||
            !o.one.make(s7::round_up(h.head_dim, 64)) || !o.token.make(1) ||
            !o.hidden_token.make(1) || !o.picked.make(n) || !o.o.make(acts_of)) {
            return false;
        }
    }
    return rows.make(n) && line.make(n) && tiles.make(n) && sorted.make(n) && wanted.make(n) &&
           x.make(n * d) && mid.make(n * mid_wide) && low.make(n * h.n_heads) &&
           logits.make(s7::kHeadRows * v_wide) && acts.make(n * wide) && hidden.make(n * wide) &&
           token.make(n) && hidden_token.make(n);
}

bool s7_team::make_scores(i64 n_keys) {
    const i64 stride = s7::round_up(n_keys, s7::kPage);
    for (i64 i = 0; i < n_seats; ++i) {
        s7::Own &o = own[i];
        if (o.score_stride >= stride) continue;
        const i64 context = s7::round_up(i64{model->shape.context}, s7::kPage);
        const i64 most_keys = model->is_hybrid() ? context + 6 * s7::kPage : context;
        const i64 room = least(s7::round_up(2 * stride, s7::kPage), most_keys);
        o.score_stride = 0;  // the buffers are gone if one of them cannot be had
        if (!o.scores.make(s7::kQueries * room) || !o.limbs.make(2 * s7::kQueries * room) ||
            !o.list.make(room / s7::kPage))
            return false;
        o.score_stride = room;
    }
    return true;
}

s7_status s7_team_create(const s7_model *model, int32_t n_threads, s7_team **team) {
    if (model == nullptr || team == nullptr) return S7_NULL;
    if (n_threads < 1 || n_threads > S7_MAX_THREADS) return S7_THREADS;
    auto *made = new (std::nothrow) s7_team(model, n_threads);
    if (made == nullptr) return S7_NO_MEMORY;
    const bool room = made->make_scratch();
    if (!room || !made->start()) {
        delete made;
        return room ? S7_THREADS : S7_NO_MEMORY;
    }
    *team = made;
    return S7_OK;
}

void s7_team_free(s7_team *team) { delete team; }
