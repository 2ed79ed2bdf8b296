// tokens.h: the cache of the scanner's answers, and the calls of the scanner.
#include "tokens.h"

#include <bit>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace s7corpus {

namespace {
constexpr size_t MEMORY_BYTES = 1024, MAX_MEMORIES = 1 << 16;
constexpr uint16_t NO_KEYWORD = 0xffff;
constexpr uint64_t NO_QUESTION = ~uint64_t{0};
constexpr uint32_t MAX_KEPT = 1 << 24;  // memories that fit into a question
constexpr uint32_t BEHIND_BLANKS[] = {
    1, 2, 4};  // bytes that the scanner may look at there, tried one after the other

// How many of 16 bytes are a word.
uint32_t word_length(const uint8_t *text) {
#ifdef __SSE2__
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(text));
    const auto is_within = [](__m128i value, char first,
                              char n) {  // as signed bytes, of which the lowest is -128
        return _mm_cmplt_epi8(_mm_add_epi8(value, _mm_set1_epi8(static_cast<char>(-128 - first))),
                              _mm_set1_epi8(static_cast<char>(-128 + n)));
    };
    const __m128i is_letter = is_within(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 26),
                  is_digit = is_within(bytes, '0', 10);
    const __m128i is_word =
        _mm_or_si128(_mm_or_si128(is_letter, is_digit), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('_')));
    return static_cast<uint32_t>(
        std::countr_one(static_cast<uint32_t>(_mm_movemask_epi8(is_word))));
#else
    uint32_t n = 0;
    while (n < 16 && Automaton::is_word(text[n])) ++n;
    return n;
#endif
}
}  // namespace

Tokens::Tokens(const Grammar &grammar, bool with_tables)
    : grammar_(grammar),
      with_tables_(with_tables),
      words_(with_tables ? grammar.is.lex : nullptr),
      keywords_(with_tables && grammar.is.capture ? grammar.is.lex_keyword : nullptr),
      answers_(N_ANSWERS),
      known_words_(N_WORDS) {
    if (grammar.is.scanner.create) scanner_ = grammar.is.scanner.create();
}

Tokens::~Tokens() {
    if (scanner_ && grammar_.is.scanner.destroy) grammar_.is.scanner.destroy(scanner_);
}

void Tokens::open(const uint8_t *text, uint32_t n_bytes) {
    if (memories_.empty() || memories_.size() > MAX_MEMORIES) {
        answers_.assign(N_ANSWERS, Answer{});
        silences_.assign(N_SILENCES, {NO_QUESTION, {}});
        places_.clear(), memories_.assign(1, "");
        places_.emplace("", 0);
    }
    cursor_.open(text, n_bytes);
    has_last_ = false;
}

const Token *Tokens::find(uint32_t place, uint32_t memory, uint16_t state) {
    if (grammar_.mode(state).state == NO_LOOKAHEAD) return &none_;
    if (has_last_ && last_place_ == place && last_memory_ == memory && reusable(state))
        return &last_;
    last_place_ = place, last_memory_ = memory;
    has_last_ = lex(place, memory, state);
    return has_last_ ? &last_ : nullptr;
}

// Whether the last token is also the one that another state would be given.
bool Tokens::reusable(uint16_t state) const {
    const LexMode &mode = grammar_.mode(state), &was = grammar_.mode(last_.state);
    const ActionEntry &entry = grammar_.entry(state, last_.symbol);
    const bool is_capture = last_.symbol == grammar_.is.capture;
    if (entry.entry.count && mode == was &&
        (!is_capture || (!last_.is_keyword && last_.state == state)))
        return true;
    if (last_.start == last_.end && last_.symbol != END) return false;
    return !mode.external && entry.entry.reusable;
}

// The next token in a state, as the last. False: what is there is none.
bool Tokens::lex(uint32_t place, uint32_t memory, uint16_t state) {
    const LexMode &mode = grammar_.mode(state);
    last_.state = state, last_.memory = memory;
    last_.is_keyword = false, last_.is_external = mode.external && scan(place, memory, state);
    if (last_.is_external) return true;
    if (with_tables_ && find_word(place, mode.state, state)) return true;
    uint16_t keyword;
    if (!find_token(place, mode.state, keyword)) return false;
    settle(keyword, state);
    return true;
}

// A token that may be a keyword takes its symbol where that is wanted.
void Tokens::settle(uint16_t keyword, uint16_t state) {
    if (keyword != NO_KEYWORD &&
        (grammar_.cell(state, keyword) || grammar_.is_reserved(state, keyword)))
        last_.symbol = keyword;
}

bool Tokens::find_token(uint32_t place, uint16_t mode, uint16_t &keyword) {
    keyword = NO_KEYWORD;
    if (!find_by(words_, grammar_.is.lex, mode, place, last_.symbol, last_.start, last_.end))
        return false;
    if (last_.symbol != grammar_.is.capture || !last_.symbol) return true;
    uint16_t symbol;
    uint32_t start, end;
    last_.is_keyword =
        find_by(keywords_, grammar_.is.lex_keyword, 0, last_.start, symbol, start, end);
    if (last_.is_keyword && end == last_.end) keyword = symbol;
    return true;
}

// A word, at most one space behind a place, of which lexers have said before what it is: looked up
// whole. False: it is none of these.
bool Tokens::find_word(uint32_t place, uint16_t mode, uint16_t state) {
    if (cursor_.n_bytes - place < WORD_BYTES + 2) return false;
    const uint32_t from = place + (cursor_.text[place] == ' ');
    const uint8_t *text = cursor_.text + from;
    const uint32_t n = word_length(text);
    if (!n || n == WORD_BYTES || text[n] >= Automaton::N_CODES) return false;
    uint64_t bytes[2];
    std::memcpy(bytes, text, sizeof bytes);
    bytes[0] &= n < 8 ? (uint64_t{1} << 8 * n) - 1 : ~uint64_t{0};
    bytes[1] &= n < 8 ? 0 : (uint64_t{1} << 8 * (n - 8)) - 1;
    const uint64_t hash = (bytes[0] ^ mode) * 0x9E3779B97F4A7C15 ^ bytes[1] * 0xD1342543DE82EF95;
    Word &word = known_words_[(hash ^ hash >> 32) * 0x9E3779B97F4A7C15 >> 53];
    if (word.bytes[0] != bytes[0] || word.bytes[1] != bytes[1] || word.mode != mode) {
        uint16_t keyword;
        if (!find_token(from, mode, keyword)) return false;
        const bool is_whole =
            last_.start == from && last_.end == from + n && words_.is_settled(mode, text, n) &&
            (last_.symbol != grammar_.is.capture || keywords_.is_settled(0, text, n));
        last_.is_keyword &= is_whole;
        if (!is_whole) return false;
        word = {{bytes[0], bytes[1]}, mode, last_.symbol, keyword, last_.is_keyword};
    }
    if (from > place && !words_.is_blank(mode)) return false;
    last_.symbol = word.symbol, last_.start = from, last_.end = from + n,
    last_.is_keyword = word.is_keyword;
    settle(word.keyword, state);
    return true;
}

// By its table, or else by the lexer itself.
bool Tokens::find_by(const Automaton &table, Automaton::Function function, uint16_t state,
                     uint32_t place, uint16_t &symbol, uint32_t &start, uint32_t &end) {
    const Automaton::Answer said =
        table.find(state, cursor_.text, place, cursor_.n_bytes, symbol, start, end);
    if (said != Automaton::ASK_IT) return said == Automaton::TOKEN;
    cursor_.go(place);
    cursor_.start();
    if (!function(&cursor_, state)) return false;
    cursor_.finish();
    symbol = cursor_.result_symbol, start = cursor_.token_start, end = cursor_.token_end;
    return true;
}

bool Tokens::scan(uint32_t place, uint32_t memory, uint16_t state) {
    const uint16_t mode = grammar_.mode(state).external;
    const uint64_t question = mode | uint64_t{memory} << 16;
    Silence &silence = silences_[(mode * 37u + memory) % N_SILENCES];
    if (silence.question != question) silence = {question, {}};
    if (place && cursor_.n_bytes - place > 1 && with_tables_) {
        const bool is_blank = cursor_.text[place] == ' ';
        const uint8_t code = cursor_.text[place + is_blank];
        if (silence.bits[is_blank][code >> 6] >> (code & 63) & 1) return false;
    }
    const Answer &said = answer(place, memory, mode, silence);
    // An empty token that changes nothing would be repeated for ever.
    if (!said.is_token || (said.is_empty && grammar_.next_state(state, said.symbol) == state))
        return false;
    last_.symbol = said.symbol, last_.start = place + said.start, last_.end = place + said.end,
    last_.memory = said.memory;
    return true;
}

// How many bytes the scanner will look at is guessed. It does not matter whether the guess is good:
// an answer is kept only if it looked at no more.
const Tokens::Answer &Tokens::answer(uint32_t place, uint32_t memory, uint16_t mode,
                                     Silence &silence) {
    // At the start of a text scanners may look for a mark of byte order, and for the start itself.
    if (place && cursor_.n_bytes - place > WINDOW && memory < MAX_KEPT && with_tables_) {
        const uint8_t *bytes = cursor_.text + place;
        uint32_t n_blanks = 0;
        while (n_blanks < WINDOW && (bytes[n_blanks] == ' ' || bytes[n_blanks] == '\n')) ++n_blanks;
        for (const uint32_t more : BEHIND_BLANKS) {
            const uint32_t n_bytes = n_blanks + more;
            if (n_bytes > WINDOW) break;
            Answer &kept =
                look_up(place, n_bytes, mode | uint64_t{n_bytes} << 16 | uint64_t{memory} << 32);
            const bool is_new = kept.known == NOTHING;
            if (is_new) {
                ask(place, memory, mode, kept);
                kept.known = !cursor_.met_end && cursor_.place + cursor_.width <= place + n_bytes
                                 ? SAID
                                 : LONGER;
            }
            const bool is_blank = *bytes == ' ';
            if (kept.known == SAID && !kept.is_token && n_bytes == 1u + is_blank)
                silence.bits[is_blank][bytes[is_blank] >> 6] |= uint64_t{1}
                                                                << (bytes[is_blank] & 63);
            if (kept.known == SAID) return kept;
            if (is_new) return kept;
        }
    }
    ask(place, memory, mode, unkept_);
    return unkept_;
}

// The line of a window: as it is, or emptied for it.
Tokens::Answer &Tokens::look_up(uint32_t place, uint32_t n_bytes, uint64_t question) {
    uint64_t words[WINDOW / 8] = {}, hash = question * 0x9E3779B97F4A7C15;
    for (uint32_t i = 0; 8 * i < n_bytes; ++i) {
        std::memcpy(&words[i], cursor_.text + place + 8 * i, 8);
        if (n_bytes < 8 * i + 8) words[i] &= (uint64_t{1} << 8 * (n_bytes - 8 * i)) - 1;
        hash = (hash ^ words[i]) * 0xD1342543DE82EF95;
        hash ^= hash >> 32;
    }
    Answer &line = answers_[hash % N_ANSWERS];
    if (line.question != question || std::memcmp(line.bytes, words, sizeof words) != 0) {
        std::memcpy(line.bytes, words, sizeof words);
        line.question = question, line.known = NOTHING;
    }
    return line;
}

void Tokens::ask(uint32_t place, uint32_t memory, uint16_t mode, Answer &answer) {
    const auto &scanner = grammar_.is.scanner;
    const std::string &was = memories_[memory];
    cursor_.met_end = false;
    cursor_.go(place);
    cursor_.start();
    scanner.deserialize(scanner_, was.empty() ? nullptr : was.data(),
                        static_cast<unsigned>(was.size()));
    answer.is_token =
        scanner.scan(scanner_, &cursor_, scanner.states + size_t{mode} * grammar_.is.n_external);
    if (!answer.is_token) return;
    cursor_.finish();
    char bytes[MEMORY_BYTES];
    const uint32_t n = scanner.serialize(scanner_, bytes);
    const bool changed = n != was.size() || (n != 0 && std::memcmp(bytes, was.data(), n) != 0);
    answer.symbol = scanner.symbols[cursor_.result_symbol],
    answer.memory = changed ? remember(bytes, n) : memory;
    answer.is_empty = cursor_.token_end <= place && !changed;
    answer.start = cursor_.token_start - place, answer.end = cursor_.token_end - place;
}

uint32_t Tokens::remember(const char *bytes, uint32_t n) {
    const auto [found, is_new] =
        places_.try_emplace(std::string(bytes, n), static_cast<uint32_t>(memories_.size()));
    if (is_new) memories_.emplace_back(bytes, n);
    return found->second;
}

}  // namespace s7corpus
