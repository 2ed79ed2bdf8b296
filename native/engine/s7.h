/* The native engine of specs/arithmetic.md: the one C interface of native/.
 *
 * Integers only; equal bit for bit to the NumPy reference (src/sevenfold/engine/reference.py).
 * Every function that can fail returns an s7_status and leaves its output alone when it is not
 * S7_OK. No exception and no global state crosses this header. Sizes and ranges are checked before
 * a pointer is formed from them.
 *
 * A model is the weights, a session the KV cache of one sequence, a team the threads and the
 * scratch memory of a call.
 *
 * Ownership: s7_model_create copies (and repacks) all that it reads, so the caller's arrays may go
 * when it returns. Sessions and teams borrow their model: free them before it. Forked sessions
 * share pages by count and may be freed in any order. Handles are freed once, by the function named
 * after them; NULL is fine. Threads: a model is never written after its creation. A team, and a
 * session, is used by one caller at a time; callers with teams of their own may run at once on one
 * model. */
#ifndef S7_H
#define S7_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S7_ABI 3 /* of the structures below; compare with s7_abi() */
#define S7_EXP2_ENTRIES 65
#define S7_SIGMOID_ENTRIES 513
#define S7_RSQRT_ENTRIES 192
#define S7_MAX_THREADS 64

typedef enum {
    S7_OK = 0,
    S7_NULL = 1,      /* a pointer is missing */
    S7_SHAPE = 2,     /* a size is outside the law's range, or sizes disagree */
    S7_RANGE = 3,     /* a value is outside the law's range (a code of -128, a row shift below 16, a
                         router entry) */
    S7_NO_MEMORY = 4, /* nothing was kept */
    S7_ISA_ABSENT = 5, /* this machine, or this build, has no such instruction set */
    S7_IDS = 6,        /* no ids, or an id outside the vocabulary: the sessions are as they were */
    S7_CONTEXT = 7,    /* more positions than the context has: the sessions are as they were */
    S7_THREADS =
        8 /* a number of threads outside 1 .. S7_MAX_THREADS, or the system gives no thread */
} s7_status;

/* AVX512 means with VNNI. NEON takes dot products where the processor has them. */
typedef enum {
    S7_SCALAR = 0,
    S7_AVX2 = 1,
    S7_AVX512 = 2,
    S7_NEON = 3,
    S7_WASM = 4,
    S7_AVXVNNI = 5, /* 256 bits, without AVX-512 */
    S7_ISA_COUNT = 6
} s7_isa;

typedef struct {
    int32_t d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ffn, vocab_size, context, n_experts;
    int32_t residual_exponent, score_m, score_e;
    int32_t stack_layers, stack_d_ffn; /* of each expert's own stack behind the trunk; 0: none, and
                                          experts are routed by token */
} s7_shape;

typedef struct { /* one projection: codes [n_out, n_in] row by row, a multiplier and a shift per row
                  */
    const int8_t *codes;
    const uint16_t *row_m, *row_s;
    int32_t n_out, n_in, exponent;
} s7_linear;

typedef struct { /* one norm: gains [n] */
    const int16_t *gain;
    int64_t eps;
    int32_t n, exponent;
} s7_norm;

typedef struct {
    s7_linear gate, up, down;
} s7_ffn;

typedef struct {
    s7_norm attn_norm, ffn_norm;
    s7_linear q, k, v, o;
    const s7_ffn *experts; /* n_experts of them; one where experts have stacks */
} s7_layer;

typedef struct { /* the law's tables, in the order of their entries */
    int32_t exp2[S7_EXP2_ENTRIES], sigmoid[S7_SIGMOID_ENTRIES], rsqrt[S7_RSQRT_ENTRIES];
} s7_tables;

typedef struct {
    s7_linear embedding;    /* its exponent is not read */
    const int16_t *cos_sin; /* [context, head_dim / 2, 2] */
    int64_t n_cos_sin;      /* entries of it */
    const uint8_t *router;  /* [vocab_size], expert of each id */
    const s7_layer *layers; /* n_layers of them */
    const s7_layer *stacks; /* [n_experts, stack_layers]; NULL without */
    s7_norm final_norm;
    s7_linear head;
} s7_weights;

typedef struct s7_model s7_model;
typedef struct s7_session s7_session;
typedef struct s7_team s7_team;

typedef struct { /* ids to append to one sequence, and where their logits go */
    s7_session *session;
    const int32_t *ids;
    int32_t n_ids;
    int32_t n_logits; /* rows of logits wanted, those of the last ids: 0 .. n_ids */
    int32_t *logits;  /* [n_logits, vocab_size] */
} s7_run;

#pragma GCC visibility push(default) /* of the functions; the structures' own code stays inside */

/* S7_ABI of this library. */
int32_t s7_abi(void);

/* What a status means, in words; a constant. */
const char *s7_status_text(s7_status status);

/* 1 when this machine and this build have the instruction set. */
int32_t s7_isa_supported(s7_isa isa);

/* Build a model that runs on `isa`. */
s7_status s7_model_create(const s7_shape *shape, const s7_tables *tables, const s7_weights *weights,
                          s7_isa isa, s7_model **model);
void s7_model_free(s7_model *model);

/* Bytes that the model holds. */
int64_t s7_model_bytes(const s7_model *model);

/* `n_threads` threads, the caller's own among them, and their scratch memory. */
s7_status s7_team_create(const s7_model *model, int32_t n_threads, s7_team **team);
void s7_team_free(s7_team *team);

/* An empty sequence. Memory for keys and values comes page by page, as positions are appended. */
s7_status s7_session_create(const s7_model *model, s7_session **session);
void s7_session_free(s7_session *session);

/* A second sequence that begins with the first `length` positions of another; whole pages are
 * shared, not copied. */
s7_status s7_session_fork(const s7_session *from, int32_t length, s7_session **session);

/* Keep the first `length` positions. */
s7_status s7_session_truncate(s7_session *session, int32_t length);

/* Positions held; bytes of keys and values reachable from the session (shared pages counted in
 * full). */
int32_t s7_session_length(const s7_session *session);
int64_t s7_session_bytes(const s7_session *session);

/* Append ids to `n_runs` sequences at once, each another session. All of them are done, or none. */
s7_status s7_forward(s7_team *team, const s7_run *runs, int32_t n_runs);

/* s7_forward, then greedy steps of every run, ties to the lowest id, up to n_tokens: tokens
 * [n_runs, n_tokens]; n_made [n_runs] counts what was written. A token equal to `stop` (-1: none)
 * ends its run, and is written. The last token is not appended. n_logits is not read; `logits`
 * [vocab_size], where not NULL, gets those of the run's last step. */
s7_status s7_greedy(s7_team *team, const s7_run *runs, int32_t n_runs, int32_t stop,
                    int32_t *tokens, int32_t n_tokens, int32_t *n_made);

/* The cache of one layer (those of the stack follow the trunk), keys (0) or values (1): codes
 * [length, n_kv_heads, head_dim], m and e [length, n_kv_heads]. n_codes and n_scales are the rooms.
 */
s7_status s7_session_kv(const s7_session *session, int32_t layer, int32_t values, int8_t *codes,
                        int64_t n_codes, int32_t *m, int32_t *e, int64_t n_scales);

/* Multiply-adds of 8-bit integers done by `n_threads` threads in registers alone, and the
 * nanoseconds they took. */
s7_status s7_peak(s7_isa isa, int32_t n_threads, int64_t *n_multiply_adds, int64_t *nanoseconds);

/* The widest instruction set that this machine and this build have. The numbers of s7_isa are in
 * the order in which they came, not by width. */
s7_isa s7_isa_widest(void);

/* s7_greedy of one sequence, for a caller who reads on: it ends at any of `stops` [n_stops] (NULL
 * with 0: none), and run->logits, where not NULL, is [n_tokens, vocab_size]: row i gets those that
 * token i was taken from. Truncating the session to what it held before, and the ids and the first
 * k tokens more, takes the later steps back. */
s7_status s7_generate(s7_team *team, const s7_run *run, const int32_t *stops, int32_t n_stops,
                      int32_t *tokens, int32_t n_tokens, int32_t *n_made);

/* s7_greedy for a server: run i makes up to limits[i] tokens, 0 .. n_tokens; with 0 its ids are
 * read and no token is made. The steps end after the one in which *interrupt (NULL: never) is other
 * than 0, which another thread may write at any time; every run with a limit has a token at least.
 */
s7_status s7_decode(s7_team *team, const s7_run *runs, const int32_t *limits, int32_t n_runs,
                    int32_t stop, int32_t *tokens, int32_t n_tokens, int32_t *n_made,
                    const int32_t *interrupt);

#if defined(S7_FREESTANDING_CORE)
/* A core without the C library: the program gives its memory. s7_take gives `n_bytes` of zeros on a
 * boundary of 16 bytes, or NULL; s7_give takes a block back. Both are called by the thread that
 * calls the engine. Such a core has no threads but the caller's, and no s7_peak. */
void *s7_take(size_t n_bytes);
void s7_give(void *block);
#if defined(S7_LENT_CODES)
/* With -DS7_LENT_CODES the `codes` of a projection are a name of the program's. It gives the `n`
 * codes when s7_model_create asks for them; they may go when it asks for the next. NULL: it has
 * none. */
const int8_t *s7_lend(const int8_t *codes, size_t n);
#endif
#endif

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
