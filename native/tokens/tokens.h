/* Text to token ids: pieces of text as the pre-tokenizer cuts them, then BPE on learnt pairs or
 * Unigram, over bytes.
 *
 * The ids are those of the `tokenizers` library for the same file, for every text;
 * tests/tokenizer/test_native_tokens.py holds that. A handle may be used by several threads: calls
 * on it take turns. No call reads outside of what it is given, valid UTF-8 or not. */
#ifndef S7_TOKENS_H
#define S7_TOKENS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S7_TOKENS_CALL __attribute__((visibility("default")))

enum { S7_TOKENS_ABI = 1, S7_TOKENS_CODE = 0, S7_TOKENS_LLAMA3 = 1, S7_TOKENS_MEMORY = -1 };

/* What a tokenizer file says; nothing of it is kept by pointer.
 * Entry i is bytes[ends[i - 1]] up to bytes[ends[i]]; an empty one is never found in a text. Each
 * of the 256 bytes is an entry. Protected symbols are tried in their order; flags: 1 a blank before
 * it belongs to it, 2 no letter, digit or `_` may follow it, 4 nor may a quote. */
typedef struct {
    int32_t rule, n_entries, n_symbols,
        whole; /* whole: a piece that is an entry is taken whole (BPE) */
    int64_t n_merges;
    const uint32_t *ends;
    const uint8_t *bytes;
    const double *scores; /* Unigram: log probability of each entry; BPE: null */
    const int32_t
        *merges; /* [n_merges][3]: left, right, what they become; the first merges first */
    const uint32_t *symbol_ends;
    const uint8_t *symbols, *symbol_flags;
} s7_tokens_file;

typedef struct s7_tokens s7_tokens;

/* Which build of this header the library is. */
S7_TOKENS_CALL int32_t s7_tokens_abi(void);
/* A handle; null when the file contradicts itself or there is no memory. */
S7_TOKENS_CALL s7_tokens *s7_tokens_open(const s7_tokens_file *file);
S7_TOKENS_CALL void s7_tokens_close(s7_tokens *handle);
/* Writes the ids of `n_bytes` of UTF-8, at most `n_bytes` of them; returns their number, or
 * S7_TOKENS_MEMORY. */
S7_TOKENS_CALL int64_t s7_tokens_encode(s7_tokens *handle, const uint8_t *text, int64_t n_bytes,
                                        int32_t *ids);
/* Writes where each piece ends, at most `n_bytes` numbers; returns how many. */
S7_TOKENS_CALL int64_t s7_tokens_cut(const s7_tokens *handle, const uint8_t *text, int64_t n_bytes,
                                     int64_t *ends);
/* 1 letter, 2 number, 3 white space, 0 anything else: what the rules ask of a code point. */
S7_TOKENS_CALL int32_t s7_tokens_class(uint32_t code_point);

#ifdef __cplusplus
}
#endif
#endif
