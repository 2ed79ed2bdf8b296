// automaton.h: a lexer's states told apart by words, first of one byte, then as long as it takes
// (Moore's refinement).
#include "automaton.h"

#include <setjmp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

namespace s7corpus {

namespace {
// Generated lexers number their states without gaps; behind so many that do nothing there are no
// more.
constexpr uint32_t MAX_IDLE = 256, MAX_STATES = 0x1fff;

enum Act : uint8_t { END_HERE, STEP, STEP_OVER };

// The behaviour of a state on a byte.
struct Behaviour {
    uint16_t accepts = 0xffff;
    Act act = END_HERE;
    bool operator==(const Behaviour &) const = default;
};

// A lexer that is given a word and left as soon as it has taken all of it.
struct Probe : Lexer {
    const uint8_t *word;
    uint32_t n_left;
    Behaviour seen;
    jmp_buf out;

    static void ignore(const Lexer *, const char *, ...) {}
    Probe() {
        advance = [](Lexer *self, bool skip) {
            auto *probe = static_cast<Probe *>(self);
            probe->seen.act = skip ? STEP_OVER : STEP;
            if (!--probe->n_left) longjmp(probe->out, 1);
            probe->seen = {};
            probe->lookahead = *++probe->word;
        };
        mark_end = [](Lexer *self) {
            static_cast<Probe *>(self)->seen.accepts = self->result_symbol;
        };
        get_column = [](Lexer *) { return uint32_t{0}; };
        is_at_included_range_start = [](const Lexer *) { return false; };
        eof = [](const Lexer *) { return false; };
        log = ignore;
    }
};
}  // namespace

class Questions {
  public:
    explicit Questions(Automaton::Function lex) : lex_(lex) {}
    bool answer();
    void write(Automaton &into) const;

  private:
    using Word = std::vector<uint8_t>;
    using Classes = std::vector<uint16_t>;  // [state]
    static constexpr uint32_t N = Automaton::N_CODES, MAX_SAMPLE = 64;
    static constexpr uint16_t NOWHERE = 0xffff;

    // What is asked to tell some states apart, and which are left after an answer.
    struct Choice {
        std::vector<uint16_t> states;
        Word word;
        std::map<std::pair<uint16_t, Act>, std::unique_ptr<Choice>> by_answer;
    };

    Behaviour ask(uint16_t state, const Word &word);
    Behaviour expected(uint16_t state, const uint8_t *word, size_t n) const;
    bool look_at_states();
    Classes cut(const Classes &before, bool by_followers) const;
    Word difference(uint16_t a, uint16_t b) const;
    Word best_byte(const std::vector<uint16_t> &states) const;
    uint16_t follower(uint16_t state, uint8_t code, Choice &choice);

    Automaton::Function lex_;
    Probe probe_;
    uint16_t n_states_ = 0;
    std::vector<Behaviour> seen_;  // [state, byte]
    std::vector<uint16_t>
        next_;  // [state, byte]: a state of the last class of the one that follows, or NOWHERE
    std::vector<Classes> levels_;  // by words of one byte, of two, ...
};

// The behaviour, on the last byte of a word, of the state to which the bytes before lead. Nothing
// if they do not lead so far.
Behaviour Questions::ask(uint16_t state, const Word &word) {
    probe_.word = word.data(), probe_.n_left = static_cast<uint32_t>(word.size());
    probe_.lookahead = word[0], probe_.result_symbol = 0, probe_.seen = {};
    if (!setjmp(probe_.out)) lex_(&probe_, state);
    return probe_.n_left > 1 ? Behaviour{} : probe_.seen;
}

Behaviour Questions::expected(uint16_t state, const uint8_t *word, size_t n) const {
    for (; n > 1; --n) {
        state = next_[state * N + *word++];
        if (state == NOWHERE) return {};
    }
    return seen_[state * N + *word];
}

// The behaviour of all states on one byte. False if it is not that of a generated lexer.
bool Questions::look_at_states() {
    Word word(1);
    for (uint32_t state = 0, n_idle = 0; n_idle < MAX_IDLE; ++state, ++n_idle) {
        if (state > MAX_STATES) return false;
        for (uint32_t code = 0; code < N; ++code) {
            word[0] = static_cast<uint8_t>(code);
            seen_.push_back(ask(static_cast<uint16_t>(state), word));
            if (seen_.back().accepts != seen_[state * N].accepts) return false;
            if (seen_.back() != Behaviour{})
                n_idle = 0, n_states_ = static_cast<uint16_t>(state + 1);
        }
    }
    ++n_states_;  // and one that does nothing
    seen_.resize(size_t{n_states_} * N);
    return true;
}

// Classes of states that are in one class before, and do the same or are followed by states of the
// same classes.
Questions::Classes Questions::cut(const Classes &before, bool by_followers) const {
    std::map<std::vector<uint16_t>, uint16_t> keys;
    Classes classes;
    for (uint32_t i = 0; i < seen_.size(); i += N) {
        std::vector<uint16_t> key{before[i / N], seen_[i].accepts};
        for (uint32_t code = 0; code < N; ++code) {
            const uint16_t next = by_followers ? next_[i + code] : uint16_t{seen_[i + code].act};
            key.push_back(by_followers && next != NOWHERE ? before[next] : next);
        }
        classes.push_back(
            keys.try_emplace(std::move(key), static_cast<uint16_t>(keys.size())).first->second);
    }
    return classes;
}

// A word on which two states of different classes differ.
Questions::Word Questions::difference(uint16_t a, uint16_t b) const {
    Word word;
    for (;;) {
        size_t level = 0;
        while (levels_[level][a] == levels_[level][b]) ++level;
        const auto differs = [&](uint32_t code) {
            const uint16_t mine = next_[a * N + code], its = next_[b * N + code];
            return level ? mine != NOWHERE && levels_[level - 1][mine] != levels_[level - 1][its]
                         : seen_[a * N + code] != seen_[b * N + code];
        };
        uint32_t code = 0;
        while (!differs(code)) ++code;
        word.push_back(static_cast<uint8_t>(code));
        if (!level) return word;
        a = next_[a * N + code], b = next_[b * N + code];
    }
}

// The byte whose commonest answer is the rarest.
Questions::Word Questions::best_byte(const std::vector<uint16_t> &states) const {
    const size_t n = std::min<size_t>(states.size(), MAX_SAMPLE);
    std::pair<size_t, uint32_t> best{n + 1, 0};
    for (uint32_t code = 0; code < N; ++code) {
        std::map<std::pair<uint16_t, Act>, size_t> counts;
        size_t most = 0;
        for (size_t i = 0; i < n; ++i) {
            const Behaviour &its = seen_[states[i] * N + code];
            most = std::max(most, ++counts[{its.accepts, its.act}]);
        }
        best = std::min(best, {most, code});
    }
    return {static_cast<uint8_t>(best.second)};
}

// The state of a choice that follows a state on a byte, or NOWHERE if none of them does.
uint16_t Questions::follower(uint16_t state, uint8_t code, Choice &all) {
    Choice *choice = &all;
    while (choice->states.size() > 1) {
        if (choice->word.empty()) {
            const bool is_first = levels_.size() == 1;
            choice->word = is_first ? best_byte(choice->states)
                                    : difference(choice->states[0], choice->states[1]);
            choice->word.insert(choice->word.begin(), 0);
        }
        Word &word = choice->word;
        word[0] = code;
        const Behaviour said = ask(state, word);
        auto &left = choice->by_answer[{said.accepts, said.act}];
        if (!left) {
            left = std::make_unique<Choice>();
            for (const uint16_t its : choice->states)
                if (expected(its, word.data() + 1, word.size() - 1) == said)
                    left->states.push_back(its);
        }
        choice = left.get();
    }
    return choice->states.empty() ? NOWHERE : choice->states[0];
}

// Moore's refinement, where the states that follow have to be determined first. False if the
// function is no such lexer.
bool Questions::answer() {
    if (!look_at_states()) return false;
    Classes before(n_states_, 0);
    levels_.push_back(cut(before, false));
    next_.assign(seen_.size(), NOWHERE);
    for (bool is_first = true;; is_first = false) {
        const Classes &classes = levels_.back();
        std::map<uint16_t, Choice>
            choices;  // by the class before: a state of each class that it was cut into
        std::map<uint16_t, bool> taken;
        for (uint16_t state = 0; state < n_states_; ++state)
            if (!taken[classes[state]])
                taken[classes[state]] = true, choices[before[state]].states.push_back(state);
        for (uint32_t i = 0; i < next_.size(); ++i) {
            if (seen_[i].act == END_HERE) continue;
            Choice &choice = choices[is_first ? uint16_t{0} : before[next_[i]]];
            next_[i] = follower(static_cast<uint16_t>(i / N), static_cast<uint8_t>(i % N), choice);
            if (next_[i] == NOWHERE) return false;
        }
        Classes finer = cut(classes, true);
        if (*std::max_element(finer.begin(), finer.end()) ==
            *std::max_element(classes.begin(), classes.end()))
            return true;
        before = classes;
        levels_.push_back(std::move(finer));
    }
}

void Questions::write(Automaton &into) const {
    const Classes &classes = levels_.back();
    const size_t n_rows = 1u + *std::max_element(classes.begin(), classes.end());
    const auto entry = [&](uint16_t state) {
        const uint16_t accepts =
            seen_[state * N].accepts == Behaviour{}.accepts ? uint16_t{0} : Automaton::ACCEPT;
        return static_cast<uint16_t>(classes[state] | accepts);
    };
    into.symbols_.assign(n_rows, 0);
    into.cells_.assign(n_rows * N, Automaton::STOP);
    into.ends_words_.assign(n_rows, true);
    for (uint16_t state = 0; state < n_states_; ++state) {
        into.rows_.push_back(entry(state));
        into.symbols_[classes[state]] = seen_[state * N].accepts;
        for (uint32_t code = 0; code < N; ++code) {
            const Act act = seen_[state * N + code].act;
            uint16_t &cell = into.cells_[classes[state] * N + code];
            if (act != END_HERE && !Automaton::is_word(static_cast<uint8_t>(code)))
                into.ends_words_[classes[state]] = false;
            if (act != END_HERE)
                cell = static_cast<uint16_t>(entry(next_[state * N + code]) |
                                             (act == STEP_OVER ? Automaton::SKIP : 0));
        }
    }
}

Automaton::Automaton(Function lex) {
    if (!lex) return;
    Questions questions(lex);
    if (questions.answer()) questions.write(*this);
}

}  // namespace s7corpus
