// tokens.h: what is kept of the scanner's answers, and how it is asked.
#include "tokens.h"

#include <cstring>

namespace s7corpus {

namespace {
constexpr size_t MEMORY_BYTES = 1024, MAX_MEMORIES = 1 << 16;
constexpr uint32_t MAX_KEPT = 1 << 24;            // memories that fit into a question
constexpr uint32_t BEHIND_BLANKS[] = {1, 2, 4};  // bytes that the scanner may look at there, tried one after the other
}  // namespace

Tokens::Tokens(const Grammar& grammar)
    : grammar_(grammar), words_(grammar.is.lex), keywords_(grammar.is.capture ? grammar.is.lex_keyword : nullptr), answers_(N_ANSWERS) {
    if (grammar.is.scanner.create) scanner_ = grammar.is.scanner.create();
}

Tokens::~Tokens() {
    if (scanner_ && grammar_.is.scanner.destroy) grammar_.is.scanner.destroy(scanner_);
}

void Tokens::open(const uint8_t* text, uint32_t n_bytes) {
    if (memories_.empty() || memories_.size() > MAX_MEMORIES) {
        answers_.assign(N_ANSWERS, Answer{});
        places_.clear(), memories_.assign(1, "");
        places_.emplace("", 0);
    }
    cursor_.open(text, n_bytes);
    has_cached_ = false;
}

bool Tokens::find(uint32_t place, uint32_t memory, uint16_t state, Token& token) {
    if (has_cached_ && cached_place_ == place && cached_memory_ == memory && reusable(cached_, state)) {
        token = cached_;
        return true;
    }
    if (!lex(place, memory, state, token)) return false;
    if (!token.is_null) cached_ = token, cached_place_ = place, cached_memory_ = memory, has_cached_ = true;
    return true;
}

bool Tokens::reusable(const Token& token, uint16_t state) const {
    const LexMode &mode = grammar_.mode(state), &was = grammar_.mode(token.state);
    if (mode.state == NO_LOOKAHEAD) return false;
    const ActionEntry& entry = grammar_.entry(state, token.symbol);
    const bool is_capture = token.symbol == grammar_.is.capture;
    if (entry.entry.count && mode == was && (!is_capture || (!token.is_keyword && token.state == state))) return true;
    if (token.start == token.end && token.symbol != END) return false;
    return !mode.external && entry.entry.reusable;
}

// The next token in a state. False: what is there is none.
bool Tokens::lex(uint32_t place, uint32_t memory, uint16_t state, Token& token) {
    const LexMode& mode = grammar_.mode(state);
    token = {0, state, 0, 0, memory, false, false, mode.state == NO_LOOKAHEAD};
    if (token.is_null || (mode.external && scan(place, memory, state, token))) return true;
    const Automaton::Found found = find_by(words_, grammar_.is.lex, mode.state, place);
    if (!found.is_token) return false;
    token.symbol = found.symbol, token.start = found.start, token.end = found.end;
    if (token.symbol != grammar_.is.capture || !token.symbol) return true;
    const Automaton::Found keyword = find_by(keywords_, grammar_.is.lex_keyword, 0, token.start);
    token.is_keyword = keyword.is_token;
    if (keyword.is_token && keyword.end == token.end && (grammar_.cell(state, keyword.symbol) || grammar_.is_reserved(state, keyword.symbol)))
        token.symbol = keyword.symbol;
    return true;
}

// By its table, or else by the lexer itself.
Automaton::Found Tokens::find_by(const Automaton& table, Automaton::Function function, uint16_t state, uint32_t place) {
    const Automaton::Found found = table.find(state, cursor_.text, place, cursor_.n_bytes);
    if (found.is_known) return found;
    cursor_.go(place);
    cursor_.start();
    if (!function(&cursor_, state)) return {place, place, 0, true, false};
    cursor_.finish();
    return {cursor_.token_start, cursor_.token_end, cursor_.result_symbol, true, true};
}

bool Tokens::scan(uint32_t place, uint32_t memory, uint16_t state, Token& token) {
    const Answer& said = answer(place, memory, grammar_.mode(state).external);
    // An empty token that changes nothing would come for ever.
    if (!said.is_token || (said.is_empty && grammar_.next_state(state, said.symbol) == state)) return false;
    token.symbol = said.symbol, token.start = place + said.start, token.end = place + said.end;
    token.is_external = true, token.memory = said.memory;
    return true;
}

// How many bytes the scanner will look at is guessed. It does not matter whether the guess is good: an answer is kept only if it
// looked at no more.
const Tokens::Answer& Tokens::answer(uint32_t place, uint32_t memory, uint16_t mode) {
    // At the start of a text scanners may look for a mark of byte order, and for the start itself.
    if (place && cursor_.n_bytes - place > WINDOW && memory < MAX_KEPT) {
        const uint8_t* bytes = cursor_.text + place;
        uint32_t n_blanks = 0;
        while (n_blanks < WINDOW && (bytes[n_blanks] == ' ' || bytes[n_blanks] == '\n')) ++n_blanks;
        for (const uint32_t more : BEHIND_BLANKS) {
            const uint32_t n_bytes = n_blanks + more;
            if (n_bytes > WINDOW) break;
            Answer& kept = look_up(place, n_bytes, mode | uint64_t{n_bytes} << 16 | uint64_t{memory} << 32);
            if (kept.known == NOTHING) {
                ask(place, memory, mode, kept);
                kept.known = cursor_.reached <= place + n_bytes ? SAID : LONGER;
                return kept;
            }
            if (kept.known == SAID) return kept;
        }
    }
    ask(place, memory, mode, last_);
    return last_;
}

// The line of a window: as it is, or emptied for it.
Tokens::Answer& Tokens::look_up(uint32_t place, uint32_t n_bytes, uint64_t question) {
    uint64_t words[WINDOW / 8] = {}, hash = question * 0x9E3779B97F4A7C15;
    for (uint32_t i = 0; 8 * i < n_bytes; ++i) {
        std::memcpy(&words[i], cursor_.text + place + 8 * i, 8);
        if (n_bytes < 8 * i + 8) words[i] &= (uint64_t{1} << 8 * (n_bytes - 8 * i)) - 1;
        hash = (hash ^ words[i]) * 0xD1342543DE82EF95;
        hash ^= hash >> 32;
    }
    Answer& line = answers_[hash % N_ANSWERS];
    if (line.question != question || std::memcmp(line.bytes, words, sizeof words)) {
        std::memcpy(line.bytes, words, sizeof words);
        line.question = question, line.known = NOTHING;
    }
    return line;
}

void Tokens::ask(uint32_t place, uint32_t memory, uint16_t mode, Answer& answer) {
    const auto& scanner = grammar_.is.scanner;
    const std::string& was = memories_[memory];
    cursor_.reached = 0;
    cursor_.go(place);
    cursor_.start();
    scanner.deserialize(scanner_, was.empty() ? nullptr : was.data(), static_cast<unsigned>(was.size()));
    answer.is_token = scanner.scan(scanner_, &cursor_, scanner.states + size_t{mode} * grammar_.is.n_external);
    if (!answer.is_token) return;
    cursor_.finish();
    char bytes[MEMORY_BYTES];
    const uint32_t n = scanner.serialize(scanner_, bytes);
    const bool changed = n != was.size() || (n && std::memcmp(bytes, was.data(), n));
    answer.symbol = scanner.symbols[cursor_.result_symbol], answer.memory = changed ? remember(bytes, n) : memory;
    answer.is_empty = cursor_.token_end <= place && !changed;
    answer.start = cursor_.token_start - place, answer.end = cursor_.token_end - place;
}

uint32_t Tokens::remember(const char* bytes, uint32_t n) {
    const auto [found, is_new] = places_.try_emplace(std::string(bytes, n), static_cast<uint32_t>(memories_.size()));
    if (is_new) memories_.emplace_back(bytes, n);
    return found->second;
}

}  // namespace s7corpus
