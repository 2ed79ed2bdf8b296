// tokens.h: what is remembered of lexers' answers, and how they are asked.
#include "tokens.h"

#include <array>
#include <cstring>

namespace s7corpus {

namespace {
constexpr size_t MEMORY_BYTES = 1024, MAX_MEMORIES = 1 << 16;
constexpr uint32_t MAX_REMEMBERED = 1 << 24;  // memories that fit into the key of an answer

enum Class : uint8_t { OTHER, WORD, BLANK, LINE_END };
constexpr std::array<Class, 256> classes() {
    std::array<Class, 256> table{};
    for (int code = 0; code < 256; ++code) {
        const int letter = code | 0x20;
        if ((letter >= 'a' && letter <= 'z') || (code >= '0' && code <= '9') || code == '_' || code >= 128) table[code] = WORD;
    }
    table[' '] = table['\t'] = BLANK, table['\n'] = table['\r'] = LINE_END;
    return table;
}
constexpr std::array<Class, 256> CLASSES = classes();
}  // namespace

Tokens::Tokens(const Grammar& grammar) : grammar_(grammar), answers_(N_ANSWERS) {
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
    if (token.is_null) return true;
    Answer asked;
    const Answer* answer = remembered(place, memory, mode);
    if (!answer) {
        if (!ask(place, memory, mode, true, asked)) return false;
        answer = &asked;
    }
    // An empty token that changes nothing would come for ever.
    if (answer->is_empty && grammar_.next_state(state, answer->symbol) == state) {
        if (!ask(place, memory, mode, false, asked)) return false;
        answer = &asked;
    }
    token.symbol = answer->symbol, token.start = place + answer->start, token.end = place + answer->end;
    token.is_external = answer->is_external, token.is_keyword = answer->is_keyword, token.memory = answer->memory;
    if (answer->keyword && (grammar_.cell(state, answer->keyword) || grammar_.is_reserved(state, answer->keyword)))
        token.symbol = answer->keyword;
    return true;
}

// The answer for the bytes behind a place, asked now if it is new; null where lexers have to be asked each time.
//
// How many bytes they will look at is guessed: blanks and the byte behind them if a line ends there, or a word, or what may be the
// longest operator. It does not matter whether the guess is good: an answer is kept only if they looked at no more.
const Tokens::Answer* Tokens::remembered(uint32_t place, uint32_t memory, const LexMode& mode) {
    // At the start of a text lexers may look for a mark of byte order, and for the start itself.
    if (!place || cursor_.n_bytes - place <= WINDOW || memory >= MAX_REMEMBERED) return nullptr;
    const uint8_t* bytes = cursor_.text + place;
    uint32_t n_blank = 0;
    bool has_line_end = false;
    for (; n_blank < WINDOW && CLASSES[bytes[n_blank]] >= BLANK; ++n_blank) has_line_end |= CLASSES[bytes[n_blank]] == LINE_END;
    uint32_t n_word = n_blank;
    while (n_word < WINDOW && CLASSES[bytes[n_word]] == WORD) ++n_word;
    const uint32_t of_token = n_word > n_blank ? n_word + 1 : n_blank + 2, of_operator = n_blank + 4;
    const uint32_t guesses[] = {has_line_end ? n_blank + 1 : of_token, has_line_end ? of_token : of_operator};
    const uint64_t key = mode.state | uint64_t{mode.external} << 16 | uint64_t{mode.external ? memory : 0} << 32;
    for (const uint32_t n_bytes : guesses) {
        if (n_bytes > WINDOW) break;
        Answer& found = look_up(place, n_bytes, key | uint64_t{n_bytes} << 56);
        if (found.known == NOTHING) {
            Answer asked;
            if (!ask(place, memory, mode, true, asked)) return nullptr;
            const bool fits = cursor_.reached <= place + n_bytes;
            std::memcpy(asked.bytes, found.bytes, sizeof asked.bytes);
            asked.mode = found.mode, asked.known = fits ? ANSWER : LONGER;
            found = asked;
        }
        if (found.known == ANSWER) return &found;
    }
    return nullptr;
}

// The line of a window: as it is, or emptied for it.
Tokens::Answer& Tokens::look_up(uint32_t place, uint32_t n_bytes, uint64_t mode) {
    uint64_t words[WINDOW / 8], hash = mode * 0x9E3779B97F4A7C15;
    for (uint32_t i = 0; i < WINDOW / 8; ++i) {
        words[i] = 0;
        if (n_bytes <= 8 * i) continue;
        std::memcpy(&words[i], cursor_.text + place + 8 * i, 8);
        if (n_bytes < 8 * i + 8) words[i] &= (uint64_t{1} << 8 * (n_bytes - 8 * i)) - 1;
        hash = (hash ^ words[i]) * 0xD1342543DE82EF95;
        hash ^= hash >> 32;
    }
    Answer& line = answers_[hash % N_ANSWERS];
    if (line.known == NOTHING || line.mode != mode || std::memcmp(line.bytes, words, sizeof words)) {
        std::memcpy(line.bytes, words, sizeof words);
        line.mode = mode, line.known = NOTHING;
    }
    return line;
}

bool Tokens::ask(uint32_t place, uint32_t memory, const LexMode& mode, bool with_scanner, Answer& answer) {
    answer = {};
    answer.memory = memory;
    cursor_.reached = 0;
    cursor_.go(place);
    if (mode.external && with_scanner) {
        cursor_.start();
        if (scan(memory, mode, answer)) return true;
        cursor_.go(place);
    }
    cursor_.start();
    if (!grammar_.is.lex(&cursor_, mode.state)) return false;
    cursor_.finish();
    answer.symbol = cursor_.result_symbol;
    const uint32_t start = cursor_.token_start, end = cursor_.token_end;
    answer.start = start - place, answer.end = end - place;
    if (answer.symbol != grammar_.is.capture || !answer.symbol) return true;
    cursor_.go(start);
    cursor_.start();
    answer.is_keyword = grammar_.is.lex_keyword(&cursor_, 0);
    cursor_.finish();
    if (answer.is_keyword && cursor_.token_end == end) answer.keyword = cursor_.result_symbol;
    return true;
}

bool Tokens::scan(uint32_t memory, const LexMode& mode, Answer& answer) {
    const auto& scanner = grammar_.is.scanner;
    const uint32_t from = cursor_.place;
    const std::string& was = memories_[memory];
    scanner.deserialize(scanner_, was.empty() ? nullptr : was.data(), static_cast<unsigned>(was.size()));
    const bool* wanted = scanner.states + size_t{mode.external} * grammar_.is.n_external;
    if (!scanner.scan(scanner_, &cursor_, wanted)) return false;
    cursor_.finish();
    char bytes[MEMORY_BYTES];
    const uint32_t n = scanner.serialize(scanner_, bytes);
    const bool changed = n != was.size() || (n && std::memcmp(bytes, was.data(), n));
    answer.symbol = scanner.symbols[cursor_.result_symbol], answer.memory = changed ? remember(bytes, n) : memory;
    answer.is_external = true, answer.is_empty = cursor_.token_end <= from && !changed;
    answer.start = cursor_.token_start - from, answer.end = cursor_.token_end - from;
    return true;
}

uint32_t Tokens::remember(const char* bytes, uint32_t n) {
    const auto [found, is_new] = places_.try_emplace(std::string(bytes, n), static_cast<uint32_t>(memories_.size()));
    if (is_new) memories_.emplace_back(bytes, n);
    return found->second;
}

}  // namespace s7corpus
