/* The C interface of the native engine, which implements specs/arithmetic.md.
 *
 * The engine uses only integers and equals the NumPy reference (src/sevenfold/engine/reference.py)
 * bit for bit. Every function that can fail returns an s7_status and does not change its output
 * unless it is S7_OK. No exception and no global state crosses this header. Sizes and ranges are
 * checked before a pointer is formed from them.
 *
 * A model holds the weights, a session the KV cache of one sequence, and a team the threads and the
 * scratch memory of a call.
 *
 * Ownership: s7_model_create copies and repacks everything that it reads, so the caller may free
 * its arrays when it returns. Sessions and teams borrow their model and must be freed before it.
 * Forked sessions share pages by reference count and may be freed in any order. Each handle is
 * freed once, by the function named after it; NULL is allowed. Threads: a model is never written
 * after its creation. Only one caller at a time may use a team or a session. Callers with their own
 * teams may run at once on one model. */
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

/* AVX512 includes VNNI. NEON uses dot products if the processor has them. */
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

typedef struct { /* hybrid attention: specs/arithmetic.md, section 8 */
    int32_t window, stride, ring;
    int32_t document_start; /* -1: a sequence is one document */
    int32_t kv_bits;        /* of cached codes: 8, 6 or 4 */
} s7_hybrid;

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

/* The meaning of a status in words, a constant string. */
const char *s7_status_text(s7_status status);

/* Returns 1 if this machine and this build have the instruction set. */
int32_t s7_isa_supported(s7_isa isa);

/* Creates a model that runs on `isa`. */
s7_status s7_model_create(const s7_shape *shape, const s7_tables *tables, const s7_weights *weights,
                          s7_isa isa, s7_model **model);
void s7_model_free(s7_model *model);

/* The bytes that the model holds. */
int64_t s7_model_bytes(const s7_model *model);

/* Creates `n_threads` threads, including that of the caller, and their scratch memory. */
s7_status s7_team_create(const s7_model *model, int32_t n_threads, s7_team **team);
void s7_team_free(s7_team *team);

/* Creates an empty sequence. Memory for keys and values is allocated page by page, as positions are
 * appended. */
s7_status s7_session_create(const s7_model *model, s7_session **session);
void s7_session_free(s7_session *session);

/* Creates a second sequence that begins with the first `length` positions of another. Whole pages
 * are shared and not copied. */
s7_status s7_session_fork(const s7_session *from, int32_t length, s7_session **session);

/* Keeps the first `length` positions. */
s7_status s7_session_truncate(s7_session *session, int32_t length);

/* The number of positions, and the bytes of keys and values of the session (shared pages count in
 * full). */
int32_t s7_session_length(const s7_session *session);
int64_t s7_session_bytes(const s7_session *session);

/* Appends ids to `n_runs` sequences at once, each with its own session. Either all of them change,
 * or none. */
s7_status s7_forward(s7_team *team, const s7_run *runs, int32_t n_runs);

/* s7_forward, then up to n_tokens greedy steps of every run. Ties go to the lowest id. tokens
 * [n_runs, n_tokens] gets the tokens, and n_made [n_runs] their numbers. A token equal to `stop`
 * (-1: none) ends its run and is written. The last token is not appended. n_logits is not read.
 * `logits` [vocab_size], unless NULL, gets the logits of the run's last step. */
s7_status s7_greedy(s7_team *team, const s7_run *runs, int32_t n_runs, int32_t stop,
                    int32_t *tokens, int32_t n_tokens, int32_t *n_made);

/* Reads the cache of one layer (layers of the stack follow the trunk), keys (0) or values (1):
 * codes [length, n_kv_heads, head_dim], m and e [length, n_kv_heads]. n_codes and n_scales are the
 * sizes of the arrays. */
s7_status s7_session_kv(const s7_session *session, int32_t layer, int32_t values, int8_t *codes,
                        int64_t n_codes, int32_t *m, int32_t *e, int64_t n_scales);

/* Measures 8-bit multiply-adds that `n_threads` threads do in registers: their number, and the
 * nanoseconds that they take. */
s7_status s7_peak(s7_isa isa, int32_t n_threads, int64_t *n_multiply_adds, int64_t *nanoseconds);

/* The widest instruction set that this machine and this build have. The numbers of s7_isa are in
 * the order of their introduction, not of their width. */
s7_isa s7_isa_widest(void);

/* s7_greedy of one sequence that ends at any of `stops` [n_stops] (NULL with 0: none). Unless NULL,
 * run->logits is [n_tokens, vocab_size], and row i gets the logits from which token i was chosen.
 * To undo later steps, truncate the session to its earlier length plus the ids and the first k
 * tokens. */
s7_status s7_generate(s7_team *team, const s7_run *run, const int32_t *stops, int32_t n_stops,
                      int32_t *tokens, int32_t n_tokens, int32_t *n_made);

/* s7_greedy for a server. Run i makes up to limits[i] tokens, 0 .. n_tokens; with 0 its ids are
 * only read. The steps end after the one in which *interrupt (NULL: never) is not 0. Another thread
 * may write it at any time. Every run with a limit above 0 makes at least one token. */
s7_status s7_decode(s7_team *team, const s7_run *runs, const int32_t *limits, int32_t n_runs,
                    int32_t stop, int32_t *tokens, int32_t n_tokens, int32_t *n_made,
                    const int32_t *interrupt);

/* A model of version 2 of the law. `summaries`: the projections of summary scores of every layer,
 * those of the trunk, then those of each stack. Sessions keep a state of constant size. They can be
 * forked and truncated at 0 and at their last 64 positions (s7_session_least), and s7_session_kv
 * refuses them. */
s7_status s7_hybrid_model_create(const s7_shape *shape, const s7_hybrid *hybrid,
                                 const s7_tables *tables, const s7_weights *weights,
                                 const s7_linear *summaries, s7_isa isa, s7_model **model);

/* The least length but 0 at which a session can be forked or truncated. */
int32_t s7_session_least(const s7_session *session);

/* The state of a session of version 2 as bytes: length, begin of the document, expert (i64 each),
 * then for each layer and key/value head the rows of window (k, v), strides (k, v, a, b) and ring
 * (k, v), oldest first: codes, u16 m, i32 e; a and b i32. Integers are little-endian. `state` NULL:
 * only n_bytes is written. */
s7_status s7_session_save(const s7_session *session, uint8_t *state, int64_t room,
                          int64_t *n_bytes);

/* A session with a saved state. S7_SHAPE when the bytes are not those of a state of this model. */
s7_status s7_session_load(const s7_model *model, const uint8_t *state, int64_t n_bytes,
                          s7_session **session);

#if defined(S7_FREESTANDING_CORE)
/* A core without the C library: the program provides its memory. s7_take returns `n_bytes` of
 * zeros, aligned to 16 bytes, or NULL; s7_give takes a block back. The thread that calls the engine
 * calls both. Such a core has only the thread of the caller, and no s7_peak. */
void *s7_take(size_t n_bytes);
void s7_give(void *block);
#if defined(S7_LENT_CODES)
/* With -DS7_LENT_CODES the `codes` of a projection are a name that the program chooses. It returns
 * the `n` codes when s7_model_create asks for them, and may free them when the next ones are
 * requested. NULL means that it has none. */
const int8_t *s7_lend(const int8_t *codes, size_t n);
#endif
#endif

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
