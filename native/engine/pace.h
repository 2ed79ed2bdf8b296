// Chooses whether a call uses all threads or only that of the caller, whichever is faster.
//
// Threads that share a step of few rows wait for each other some forty times in it, and once in a
// layer of many rows. A wait costs a microsecond while every thread has a processor. When another
// program holds a processor, it costs a time slice of the system, and a token on a busy machine
// takes a hundred times as long as on one thread. The other way is therefore tried regularly, for a
// fiftieth of the time, and the faster one is used. Both ways give the same bits.
#pragma once

#include "s7.h"

namespace s7 {

// The pace of calls with one number of rows, because other calls have other costs.
class Pace {
  public:
    // Whether the next call uses only the thread of the caller.
    bool is_alone() const { return is_alone_ != (n_trials_ > 0); }
    void start_together() { is_alone_ = false; }

    // Reports the time of that call. Zero nanoseconds mean that there is no clock, so nothing is
    // chosen.
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
        // A way that makes almost no progress is not tried any longer.
        const bool is_hopeless = nanoseconds > kHopeless * usual_;
        if (--n_trials_ > 0 && !is_hopeless) return;
        const bool is_better = !is_hopeless && tried_ / kTrials < usual_ - usual_ / kMargin;
        if (is_better) is_alone_ = !is_alone_, usual_ = tried_ / kTrials;
        pause_ = kShare * tried_;
        n_trials_ = 0, elapsed_ = 0, tried_ = 0;
    }

  private:
    // The calls before the first trial, the calls of a trial, and the time between trials in units
    // of a trial.
    static constexpr int64_t kFirst = 8, kTrials = 8, kShare = 50;
    // Each call changes the usual cost by an eighth of the difference. The other way must be a
    // fifth faster.
    static constexpr int64_t kMemory = 8, kMargin = 5, kHopeless = 4;

    bool is_alone_ = true;
    int64_t n_calls_ = 0, n_trials_ = 0;
    int64_t usual_ = 0, tried_ = 0, elapsed_ = 0, pause_ = 0;
};

}  // namespace s7
