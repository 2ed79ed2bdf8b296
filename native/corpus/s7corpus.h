// C interface of what the corpus stage has in C++: texts through grammars, hashes of words, what is
// in a text. Not for two threads at once on one reader.
#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define S7_API __attribute__((visibility("default")))

S7_API int32_t s7_corpus_abi(void);

// A reader of a tree-sitter grammar (its TSLanguage); null for an interface version that is not
// known here, or without memory. Without tables it asks the grammar's lexers for every token, and
// says the same.
S7_API void *s7_reader_new(const void *language, int32_t with_tables);
S7_API void s7_reader_delete(void *reader);

enum { S7_NO_MEMORY = -1, S7_UNSURE = 0, S7_CLEAN = 1 };
// UTF-8 through the grammar. Clean: tree-sitter finds no error. Unsure: it has to be asked.
// The text is referred to until the next one.
S7_API int32_t s7_read(void *reader, const uint8_t *text, uint32_t n_bytes);
// Of a clean text: nodes that tree-sitter would show.
S7_API uint32_t s7_n_nodes(const void *reader);

typedef struct {
    int32_t n;             // functions, or parts; S7_NO_MEMORY
    const uint8_t *bytes;  // parts, each behind its length as u64 big-endian
    const uint32_t *ends;  // of the functions in `bytes`
    uint64_t n_bytes;
} s7_parts;
// Functions of a clean text with `min_nodes` nodes or more: the kinds of their statements. `roles`:
// for each symbol (functions.h).
S7_API s7_parts s7_find_functions(void *reader, const uint8_t *roles, uint32_t min_nodes);
// One of the functions found, whole.
S7_API s7_parts s7_write_function(void *reader, uint32_t i);
// A function as `s7_write_function` gives it, without a first parameter that it does not use and
// without plain defaults: forms of `min_parts` parts and more, none, one or three of them.
S7_API s7_parts s7_as_functions(void *reader, const uint8_t *parts, uint64_t n_bytes,
                                uint32_t min_parts);

// Hash of each word of a text: at most n_bytes / 2 + n_bytes / block + 1; returns how many. A word
// longer than a block is cut where one ends. Definition: corpus/text/ngrams.py.
S7_API uint64_t s7_words(const uint8_t *text, uint64_t n_bytes, uint64_t block, uint64_t *out);
// Hash of each run of `length` words: n_words - length + 1 of them, or none.
S7_API void s7_runs(const uint64_t *words, uint64_t n_words, uint64_t length, uint64_t *out);
// Those of which two tables (one bit for each place, the lowest first) have the mark: the first by
// the highest `bits` bits, the second, which stands behind it, by the next ones. Returns how many;
// `out` has room for all.
S7_API uint64_t s7_likely_runs(const uint64_t *words, uint64_t n_words, uint64_t length,
                               const uint8_t *tables, uint32_t bits, uint64_t *out);
// How many of the hashes are different.
S7_API int64_t s7_n_different(const uint64_t *hashes, uint64_t n);
// Which of the hashes asked for are in a set, and the first place of each there: ascending. The set
// is in ascending order, and `marks` has a bit (the lowest first) for the highest `bits` bits of
// each of its hashes. Returns how many; `found` and `places` have room for all.
S7_API uint64_t s7_find_sorted(const uint64_t *set, uint64_t n_set, const uint8_t *marks,
                               uint32_t bits, const uint64_t *asked, uint64_t n_asked,
                               int64_t *found, int64_t *places);
typedef struct {
    uint64_t n_letters;     // ASCII letters, and all bytes above 0x7f
    uint64_t n_digits;      // decimal
    uint64_t n_controls;    // C0 control characters other than TAB, LF, FF and CR
    uint64_t longest_word;  // run of bytes above a space
    uint64_t n_lines;       // the last counts with or without an end; an empty text is one
    uint64_t longest_line;  // without its end
} s7_measures;
S7_API s7_measures s7_measure(const uint8_t *text, uint64_t n_bytes);

// Bytes of all lines, each that stands there more than once counted once; lines are what stands
// between line ends.
S7_API int64_t s7_distinct_lines(const uint8_t *text, uint64_t n_bytes);

// What a text has, as bits: four groups of four digits, the first 4 or 5, with the same space or
// hyphen between all, or none; two capitals, two digits and three groups of four of both, with a
// space before each or none; in quotes, behind a colon or an equals sign, 20 bytes of a key
// (letters, digits, _ / + = -); an @ behind one of these or a %; a digit behind a +.
enum { S7_CARD = 1, S7_ACCOUNT = 2, S7_ASSIGNED_KEY = 4, S7_ADDRESS = 8, S7_PLUS_DIGIT = 16 };
S7_API uint32_t s7_hints(const uint8_t *text, uint64_t n_bytes);

// At most 4,096 strings of three bytes or more, in lower case, one behind the other. They stand for
// ASCII letters of either case. Null for others, or without memory.
S7_API void *s7_needles_new(const uint8_t *bytes, const uint32_t *lengths, uint32_t n);
S7_API void s7_needles_delete(void *needles);
// Sets bit i % 64 of found[i / 64] for each string i that a text has.
S7_API void s7_needles_in(const void *needles, const uint8_t *text, uint64_t n_bytes,
                          uint64_t *found);
// Where they stand (behind one the next is looked for, so none may start in another), with `reach`
// bytes before and behind, as pairs of start and end; those that meet are one, and the last may end
// behind the text. Room for n_bytes / reach + 2 pairs; returns how many.
S7_API uint64_t s7_needles_windows(const void *needles, const uint8_t *text, uint64_t n_bytes,
                                   uint64_t reach, uint64_t *windows);
// Where each string stands, also within others, as pairs of its number and the place, by ascending
// places; no more than `room` pairs are written. Returns how many there are.
S7_API uint64_t s7_needles_places(const void *needles, const uint8_t *text, uint64_t n_bytes,
                                  uint64_t room, uint64_t *places);

// ASCII text in lower case, without marks of comments, one space for each run of gaps (notices.py);
// at most n_bytes; returns how many.
S7_API uint64_t s7_plain_text(const uint8_t *text, uint64_t n_bytes, uint8_t *out);
// The words of a text (letters, digits and bytes above 0x7f), one space between each two; at most
// n_bytes; returns how many.
S7_API uint64_t s7_plain_words(const uint8_t *text, uint64_t n_bytes, uint8_t *out);

// An automaton: from a state, whose row is rows[state], byte b leads to next[256 * row + b], where
// features[state] is seen, or none (< 0).
typedef struct {
    const uint32_t *next;
    const uint32_t *rows;
    const int32_t *features;
} s7_automaton;
// Features that a text shows, in the order in which they are first seen, and how often; room for
// n_bytes of each. Returns how many; S7_NO_MEMORY. Every state and row must be in the tables.
S7_API int64_t s7_visits(const s7_automaton *automaton, const uint8_t *text, uint64_t n_bytes,
                         int64_t *features, uint32_t *counts);

#ifdef __cplusplus
}
#endif
