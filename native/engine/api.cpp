// The calls that run a team: checks of their arguments, the distribution of rows over threads,
// greedy steps, and the peak rate of multiply-adds.
#include "team.h"

namespace {

using s7::Row;

// From this number of rows on, threads split the rows. Below it they split the outputs of each
// projection.
constexpr i64 kOwnRows = 16;

s7_status check(const s7_team &team, const s7_run *runs, i64 n_runs) {
    for (i64 i = 0; i < n_runs; ++i) {
        const s7_run &run = runs[i];
        if (run.session == nullptr || run.ids == nullptr) return S7_NULL;
        if (run.n_logits < 0 || run.n_logits > run.n_ids || run.session->model != team.model)
            return S7_SHAPE;
        if (run.n_logits > 0 && run.logits == nullptr) return S7_NULL;
        if (run.n_ids < 1) return S7_IDS;
        if (run.session->length + run.n_ids > team.model->shape.context) return S7_CONTEXT;
        for (i64 t = 0; t < run.n_ids; ++t) {
            if (run.ids[t] < 0 || run.ids[t] >= team.model->shape.vocab_size) return S7_IDS;
        }
        for (i64 j = 0; j < i; ++j) {
            if (runs[j].session == run.session) return S7_SHAPE;
        }
    }
    return S7_OK;
}

// The thread of the i-th tile, in ascending and then descending order. Late tiles see more keys,
// and this spreads them evenly.
i64 thread_of(i64 i, i64 n_threads) {
    const i64 at = i % (2 * n_threads);
    return at < n_threads ? at : 2 * n_threads - 1 - at;
}

// Cuts the rows of `line` into tiles of one session each. Returns the number of tiles.
i64 cut(s7_team &team, i64 n_rows) {
    const s7_shape &h = team.model->shape;
    const i64 most_rows = most(s7::kQueries / (h.n_heads / h.n_kv_heads), i64{1});
    const Row *line = team.line.get();
    i64 n = 0;
    for (i64 r = 0; r < n_rows;) {
        i64 end = r + 1;
        while (end < n_rows && end - r < most_rows && line[end].session == line[r].session) ++end;
        team.tiles.get()[n++] = {r, end - r};
        r = end;
    }
    return n;
}

// Keeps the order of rows when threads split the outputs of projections. When no session has rows
// of two threads, each thread attends with its own sessions and need not wait for the others.
void deal_in_order(s7_team &team, i64 n_rows) {
    const i64 n_threads = team.n_threads;
    const Row *rows = team.rows.get();
    team.own_sessions = n_rows >= 2 * n_threads;
    i64 tile = 0;
    for (i64 t = 0; t <= n_threads; ++t) {
        const i64 row = team.first_row[t] = n_rows * t / n_threads;
        while (tile < team.n_tiles && team.tiles.get()[tile].first < row) ++tile;
        team.first_tile[t] = tile;
        if (row > 0 && row < n_rows && rows[row - 1].session == rows[row].session)
            team.own_sessions = false;
    }
}

// Orders rows by the threads that compute them.
void deal(s7_team &team, i64 n_rows) {
    const i64 n_threads = team.n_threads, n_tiles = cut(team, n_rows);
    team.n_rows = n_rows;
    team.n_tiles = n_tiles;
    team.own_sessions = false;
    team.by_rows = n_rows >= kOwnRows * n_threads || n_rows > s7::kRows;
    i64 row = 0;
    if (!team.by_rows) {
        std::memcpy(static_cast<void *>(team.rows.get()), team.line.get(),
                    static_cast<size_t>(n_rows) * sizeof(Row));
        deal_in_order(team, n_rows);
    } else {
        s7::Tile *sorted = team.sorted.get();
        i64 tile = 0;
        for (i64 t = 0; t < n_threads; ++t) {
            team.first_row[t] = row;
            team.first_tile[t] = tile;
            for (i64 i = 0; i < n_tiles; ++i) {
                if (thread_of(i, n_threads) != t) continue;
                const s7::Tile from = team.tiles.get()[i];
                for (i64 r = 0; r < from.n; ++r)
                    team.rows.get()[row + r] = team.line.get()[from.first + r];
                sorted[tile++] = {row, from.n};
                row += from.n;
            }
        }
        // n_threads is 1 at least.
        // NOLINTNEXTLINE(clang-analyzer-security.ArrayBound)
        team.first_row[n_threads] = row;
        team.first_tile[n_threads] = tile;
        std::memcpy(static_cast<void *>(team.tiles.get()), sorted,
                    static_cast<size_t>(n_tiles) * sizeof(s7::Tile));
    }
    team.n_wanted = 0;
    for (i64 r = 0; r < n_rows; ++r) {
        if (team.rows.get()[r].logits != nullptr)
            team.wanted.get()[team.n_wanted++] = static_cast<i32>(r);
    }
}

// The first row in `line` of the session of row r, whose rows are neighbours.
const Row &first_of(const s7_team &team, i64 r) {
    const Row *line = team.line.get();
    while (r > 0 && line[r - 1].session == line[r].session) --r;
    return line[r];
}

// `n_left` rows of the runs whose sequences go through the stack of `expert`.
void run_rows(s7_team &team, const s7_run *runs, i64 n_left, i64 expert) {
    const i64 most_rows = s7::kRows * team.n_threads;
    i64 run = 0, t = 0;
    for (i64 n_passes = (n_left + most_rows - 1) / most_rows; n_passes > 0; --n_passes) {
        const i64 n = (n_left + n_passes - 1) / n_passes;  // passes of nearly equal size
        for (i64 r = 0; r < n; ++r) {
            while (runs[run].session->expert != expert) ++run;
            const s7_run &from = runs[run];
            const i64 wanted = t - (i64{from.n_ids} - from.n_logits);
            i32 *logits =
                wanted < 0 ? nullptr : from.logits + wanted * team.model->shape.vocab_size;
            const s7_session::Document at =
                from.session->read(from.session->length + t, from.ids[t]);
            team.line.get()[r] = {from.session, logits,   from.session->length + t,
                                  from.ids[t],  at.begin, at.ring_base};
            if (++t == from.n_ids) t = 0, ++run;
        }
        if (team.model->is_hybrid()) {
            for (i64 r = 0; r < n;
                 ++r) {  // pages of these rows, in place of those that no row reads
                const Row &row = team.line.get()[r];
                if (r + 1 < n && team.line.get()[r + 1].session == row.session) continue;
                const Row &first = first_of(team, r);
                row.session->advance(first.position, {first.begin, first.ring_base},
                                     row.position + 1, {row.begin, row.ring_base});
            }
        }
        deal(team, n);
        team.run();
        n_left -= n;
    }
}

// Runs the sequences that use the stack of `expert`, or all sequences when there are no stacks.
// Uses all threads, or only that of the caller when that is faster (pace.h).
void run_some(s7_team &team, const s7_run *runs, i64 n_runs, i64 expert) {
    i64 n_rows = 0;
    for (i64 i = 0; i < n_runs; ++i)
        n_rows += runs[i].session->expert == expert ? runs[i].n_ids : 0;
    team.expert = expert;
    if (n_rows == 0) return;
    // Each small number of rows has its own pace. Larger numbers share one, which counts time per
    // row.
    const bool is_many = n_rows >= s7::kPaces;
    s7::Pace &pace = team.paces[is_many ? 0 : n_rows];
    team.n_threads = team.n_seats > 1 && pace.is_alone() ? 1 : team.n_seats;
    const i64 begin = team.n_seats > 1 ? s7::now() : 0;
    run_rows(team, runs, n_rows, expert);
    if (team.n_seats > 1) pace.took((s7::now() - begin) / (is_many ? n_rows : 1));
}

void run_all(s7_team &team, const s7_run *runs, i64 n_runs) {
    const i64 n_stacks = team.model->shape.stack_layers > 0 ? team.model->shape.n_experts : 1;
    for (i64 i = 0; i < n_runs; ++i) {
        s7_session &session = *runs[i].session;
        if (n_stacks > 1 && session.length == 0)
            session.expert = team.model->router.get()[runs[i].ids[0]];
    }
    for (i64 expert = 0; expert < n_stacks; ++expert) run_some(team, runs, n_runs, expert);
    for (i64 i = 0; i < n_runs; ++i) {
        runs[i].session->length += runs[i].n_ids;
        if (team.model->is_hybrid()) runs[i].session->settle();
    }
}

// The number of steps after the ids of run i that append a token, from `limits` or from n_tokens.
i64 appended(const i32 *limits, i64 i, i64 n_tokens) {
    return most(limits == nullptr ? n_tokens : i64{limits[i]}, i64{1}) - 1;
}

// Checks a call, and reserves the memory for its ids and the steps after them.
s7_status prepare(s7_team &team, const s7_run *runs, i64 n_runs, i64 n_tokens,
                  const i32 *limits = nullptr) {
    if (const s7_status bad = check(team, runs, n_runs)) return bad;
    i64 n_keys = 0;
    for (i64 i = 0; i < n_runs; ++i) {
        n_keys =
            most(n_keys, runs[i].session->length + runs[i].n_ids + appended(limits, i, n_tokens));
        if (n_keys > team.model->shape.context) return S7_CONTEXT;
    }
    for (i64 i = 0; i < n_runs; ++i) {
        if (!runs[i].session->reserve(runs[i].n_ids + appended(limits, i, n_tokens),
                                      s7::kRows * team.n_seats))
            return S7_NO_MEMORY;
    }
    if (team.model->is_hybrid()) n_keys = s7::keys_of_hybrid(*team.model, n_keys);
    return team.make_scores(n_keys) ? S7_OK : S7_NO_MEMORY;
}

// The arguments of s7_decode, which s7_greedy uses as well.
struct Steps {
    const i32 *limits;
    i32 stop, *tokens, n_tokens, *n_made;
    const i32 *interrupt;

    i32 limit(i64 i) const { return limits == nullptr ? n_tokens : limits[i]; }
    bool is_interrupted() const {
        return interrupt != nullptr && __atomic_load_n(interrupt, __ATOMIC_RELAXED) != 0;
    }
};

s7_status take_steps(s7_team &team, const s7_run *runs, i64 n_runs, const Steps &steps) {
    const i64 vocab = team.model->shape.vocab_size;
    s7::Buffer<s7_run> now;
    s7::Buffer<i32> logits;
    if (!now.make(n_runs) || !logits.make(n_runs * vocab)) return S7_NO_MEMORY;
    for (i64 i = 0; i < n_runs; ++i) {
        s7_run &run = now.get()[i] = runs[i];
        run.n_logits = steps.limit(i) > 0 ? 1 : 0;
        run.logits = logits.get() + i * vocab;
    }
    if (const s7_status bad = prepare(team, now.get(), n_runs, steps.n_tokens, steps.limits))
        return bad;
    for (i64 i = 0; i < n_runs; ++i) steps.n_made[i] = 0;
    for (i64 n_left = n_runs; n_left > 0;) {
        run_all(team, now.get(), n_left);
        const bool ends = steps.is_interrupted();
        i64 kept = 0;
        for (i64 j = 0; j < n_left; ++j) {
            s7_run run = now.get()[j];
            if (run.n_logits == 0) continue;
            const i64 i = (run.logits - logits.get()) / vocab;
            i32 *token = steps.tokens + i * steps.n_tokens + steps.n_made[i]++;
            *token = team.model->kernels->argmax(run.logits, vocab);
            if (ends || *token == steps.stop || steps.n_made[i] == steps.limit(i)) continue;
            run.ids = token;
            run.n_ids = 1;
            now.get()[kept++] = run;
        }
        n_left = kept;
    }
    for (i64 i = 0; i < n_runs; ++i) {
        if (runs[i].logits == nullptr || steps.n_made[i] == 0) continue;
        std::memcpy(runs[i].logits, logits.get() + i * vocab,
                    static_cast<size_t>(vocab) * sizeof(i32));
    }
    return S7_OK;
}

#if !defined(S7_FREESTANDING_CORE)
struct RoofSeat {
    const s7::Kernels *kernels;
    i64 done;
    pthread_t handle;
};

void *peak_thread(void *seat) {
    auto &at = *static_cast<RoofSeat *>(seat);
    at.done = 0;
    for (int i = 0; i < 64; ++i) at.done += at.kernels->peak();
    return nullptr;
}
#endif

}  // namespace

s7_status s7_forward(s7_team *team, const s7_run *runs, int32_t n_runs) {
    if (team == nullptr || runs == nullptr) return S7_NULL;
    if (n_runs < 1) return S7_IDS;
    if (const s7_status bad = prepare(*team, runs, n_runs, 1)) return bad;
    run_all(*team, runs, n_runs);
    return S7_OK;
}

s7_status s7_greedy(s7_team *team, const s7_run *runs, int32_t n_runs, int32_t stop,
                    int32_t *tokens, int32_t n_tokens, int32_t *n_made) {
    if (team == nullptr || runs == nullptr || tokens == nullptr || n_made == nullptr)
        return S7_NULL;
    if (n_runs < 1) return S7_IDS;
    if (n_tokens < 1) return S7_SHAPE;
    return take_steps(*team, runs, n_runs, {nullptr, stop, tokens, n_tokens, n_made, nullptr});
}

s7_status s7_decode(s7_team *team, const s7_run *runs, const int32_t *limits, int32_t n_runs,
                    int32_t stop, int32_t *tokens, int32_t n_tokens, int32_t *n_made,
                    const int32_t *interrupt) {
    if (team == nullptr || runs == nullptr || limits == nullptr || tokens == nullptr ||
        n_made == nullptr)
        return S7_NULL;
    if (n_runs < 1) return S7_IDS;
    for (i64 i = 0; i < n_runs; ++i) {
        if (limits[i] < 0 || limits[i] > n_tokens) return S7_SHAPE;
    }
    return take_steps(*team, runs, n_runs, {limits, stop, tokens, n_tokens, n_made, interrupt});
}

s7_status s7_generate(s7_team *team, const s7_run *run, const int32_t *stops, int32_t n_stops,
                      int32_t *tokens, int32_t n_tokens, int32_t *n_made) {
    if (team == nullptr || run == nullptr || tokens == nullptr || n_made == nullptr) return S7_NULL;
    if (n_tokens < 1 || n_stops < 0) return S7_SHAPE;
    if (n_stops > 0 && stops == nullptr) return S7_NULL;
    const i64 vocab = team->model->shape.vocab_size, kept = run->logits == nullptr ? 0 : vocab;
    s7::Buffer<i32> own;
    if (kept == 0 && !own.make(vocab)) return S7_NO_MEMORY;
    s7_run now = *run;
    now.n_logits = 1;
    if (kept == 0) now.logits = own.get();
    if (const s7_status bad = prepare(*team, &now, 1, n_tokens)) return bad;
    *n_made = 0;
    for (bool ended = false; !ended && *n_made < n_tokens; now.logits += kept) {
        run_all(*team, &now, 1);
        i32 *token = tokens + (*n_made)++;
        *token = team->model->kernels->argmax(now.logits, vocab);
        for (i64 i = 0; i < n_stops; ++i) ended = ended || stops[i] == *token;
        now.ids = token;
        now.n_ids = 1;
    }
    return S7_OK;
}

#if !defined(S7_FREESTANDING_CORE)
s7_status s7_peak(s7_isa isa, int32_t n_threads, int64_t *n_multiply_adds, int64_t *nanoseconds) {
    if (n_multiply_adds == nullptr || nanoseconds == nullptr) return S7_NULL;
    if (!s7_isa_supported(isa)) return S7_ISA_ABSENT;
    if (n_threads < 1 || n_threads > S7_MAX_THREADS) return S7_THREADS;
    RoofSeat seats[S7_MAX_THREADS] = {};
    const i64 begin = s7::now();
    i64 n_started = 1, sum = 0;
    for (i64 i = 0; i < n_threads; ++i) seats[i].kernels = s7::kernels_of(isa);
    for (; n_started < n_threads; ++n_started) {
        if (pthread_create(&seats[n_started].handle, nullptr, peak_thread, &seats[n_started]) != 0)
            break;
    }
    peak_thread(&seats[0]);
    for (i64 i = 1; i < n_started; ++i) pthread_join(seats[i].handle, nullptr);
    for (i64 i = 0; i < n_started; ++i) sum += seats[i].done;
    *nanoseconds = s7::now() - begin;
    *n_multiply_adds = sum;
    return n_started == n_threads ? S7_OK : S7_THREADS;
}
#endif
