// A model that runs: the packed weights, the tokenizer, the sessions by number, and teams that no
// call uses.
#pragma once

#include <atomic>

#include "gate.h"
#include "golden.h"

namespace s7f {

// One gate and one KV cache.
struct Session {
    s7f_gate gate;
    s7_session *cache = nullptr;
    Vec<i32> logits;  // of the position behind all that was read
    bool has_logits = false;
    i32 pending = -1;  // a token that was given and not read

    Session() = default;
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;
    ~Session() { s7_session_free(cache); }

    i64 length() const { return i64{s7_session_length(cache)} + (pending >= 0); }
};

// `state` is 4 * generation, plus 0 free, 1 idle or 2 in use by a thread. A session is reached only
// by the thread that has set 2.
struct Slot {
    std::atomic<u64> state{0};
    Session *session = nullptr;
};

constexpr int kMaxTeams = 16;

}  // namespace s7f

struct s7f_model {
    s7f_info info{};
    s7_shape shape{};
    s7f::Tokenizer tokenizer;
    s7f::Golden golden;
    s7_model *engine = nullptr;
    s7f::i32 max_sessions = 0;
    s7f::Slot *slots = nullptr;
    std::atomic<s7_team *> teams[s7f::kMaxTeams] = {};

    s7f_model() = default;
    s7f_model(const s7f_model &) = delete;
    s7f_model &operator=(const s7f_model &) = delete;
    ~s7f_model();
};

namespace s7f {

// The use of one session by this thread, while the object lives.
class Use {
  public:
    Use(s7f_model *model, s7f_session handle, s7f_error *error);
    Use(const Use &) = delete;
    Use &operator=(const Use &) = delete;
    ~Use();
    s7f_status status() const { return status_; }
    Session &operator*() const { return *slot_->session; }
    Session *operator->() const { return slot_->session; }
    // Free the session and its number.
    void close();

  private:
    Slot *slot_ = nullptr;
    u64 generation_ = 0;
    s7f_status status_;
};

// Threads and scratch memory for one call.
class Team {
  public:
    explicit Team(s7f_model &model) : model_(model) {}
    Team(const Team &) = delete;
    Team &operator=(const Team &) = delete;
    ~Team();
    s7f_status open(s7f_error *error);
    s7_team *get() const { return team_; }

  private:
    s7f_model &model_;
    s7_team *team_ = nullptr;
};

s7f_status self_test(s7f_model &model, s7f_error *error);

}  // namespace s7f
