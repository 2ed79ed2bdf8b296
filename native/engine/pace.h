// Whether a call goes faster on all threads or on the caller's alone.
//
// Threads that share a step of few rows meet some forty times in it, and once in one of many rows.
// A meeting costs a microsecond while every thread has a processor, and a time slice of the system
// when another program holds one: on a busy machine a token then takes a hundred times as long as
// on one thread. So the other way is tried again and again, for a fiftieth of the time, and the
// faster one is taken. The bits are those of either.
#pragma once

#include "s7.h"

namespace s7 {

// Calls of one number of rows: the costs of others would not compare.
class Pace {
  public:
    // Whether the next call is the caller's alone.
    bool is_alone() const { return is_alone_ != (n_trials_ > 0); }
    void start_together() { is_alone_ = false; }

    // What that call took. Zero nanoseconds: there is no clock, so nothing can be chosen.
    void took(int64_t nanoseconds) {
        if (nanoseconds <= 0) return start_together();
        if (n_trials_ == 0) {
            usual_ = usual_ == 0 ? nanoseconds : usual_ + (nanoseconds - usual_) / kMemory;
            elapsed_ += nanoseconds;
            const bool is_first = pause_ == 0;
            if (is_first ? ++n_calls_ == kFirst : elapsed_ >= pause_) n_trials_ = kTrials;
            return;
        }
        tried_ += nanoseconds;
        // A way that stands still is not tried any longer.
        const bool is_hopeless = nanoseconds > kHopeless * usual_;
        if (--n_trials_ > 0 && !is_hopeless) return;
        const bool is_better = !is_hopeless && tried_ / kTrials < usual_ - usual_ / kMargin;
        if (is_better) is_alone_ = !is_alone_, usual_ = tried_ / kTrials;
        pause_ = kShare * tried_;
        n_trials_ = 0, elapsed_ = 0, tried_ = 0;
    }

  private:
    // Calls before the first trial, and calls of a trial; time between trials for the time of one.
    static constexpr int64_t kFirst = 8, kTrials = 8, kShare = 50;
    // The usual cost follows an eighth of each call. The other way has to be a fifth faster.
    static constexpr int64_t kMemory = 8, kMargin = 5, kHopeless = 4;

    bool is_alone_ = true;
    int64_t n_calls_ = 0, n_trials_ = 0;
    int64_t usual_ = 0, tried_ = 0, elapsed_ = 0, pause_ = 0;
};

}  // namespace s7
