/* The native engine of specs/arithmetic.md: the one C interface of native/.
 *
 * Integers only; equal bit for bit to the NumPy reference (src/sevenfold/engine/reference.py).
 * Every function that can fail returns an s7_status and leaves its output alone when it is not S7_OK. No exception and no
 * global state crosses this header. Sizes and ranges are checked before a pointer is formed from them.
 *
 * Ownership: s7_model_create copies (and repacks) all that it reads, so the caller's arrays may go when it returns. A session
 * borrows its model: free every session before its model. Handles are freed once, by the function named after them; NULL is fine.
 * Threads: a model is never written after its creation, so any number of sessions may run at once; one session is used by one
 * thread at a time. */
#ifndef S7_H
#define S7_H

#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

#define S7_ABI 1 /* of the structures below; compare with s7_abi() */
#define S7_EXP2_ENTRIES 65
#define S7_SIGMOID_ENTRIES 513
#define S7_RSQRT_ENTRIES 192

typedef enum {
    S7_OK = 0,
    S7_NULL = 1,       /* a pointer is missing */
    S7_SHAPE = 2,      /* a size is outside the law's range, or sizes disagree */
    S7_RANGE = 3,      /* a value is outside the law's range (a code of -128, a row shift below 16, a router entry) */
    S7_NO_MEMORY = 4,  /* nothing was kept */
    S7_ISA_ABSENT = 5, /* this machine, or this build, has no such instruction set */
    S7_IDS = 6,        /* no ids, or an id outside the vocabulary: the session is as it was */
    S7_CONTEXT = 7     /* more positions than the context has: the session is as it was */
} s7_status;

typedef enum { S7_SCALAR = 0, S7_AVX2 = 1, S7_AVX512 = 2, S7_ISA_COUNT = 3 } s7_isa; /* AVX512 means with VNNI */

typedef struct {
    int32_t d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ffn, vocab_size, context, n_experts;
    int32_t residual_exponent, score_m, score_e;
} s7_shape;

typedef struct { /* one projection: codes [n_out, n_in] row by row, a multiplier and a shift per row */
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
    const s7_ffn *experts; /* n_experts of them */
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
    s7_norm final_norm;
    s7_linear head;
} s7_weights;

typedef struct s7_model s7_model;
typedef struct s7_session s7_session;

/* S7_ABI of this library. */
int32_t s7_abi(void);

/* What a status means, in words; a constant. */
const char *s7_status_text(s7_status status);

/* 1 when this machine and this build have the instruction set. */
int32_t s7_isa_supported(s7_isa isa);

/* Build a model that runs on `isa`. */
s7_status s7_model_create(const s7_shape *shape, const s7_tables *tables, const s7_weights *weights, s7_isa isa,
                          s7_model **model);
void s7_model_free(s7_model *model);

/* An empty KV cache for the whole context, and the scratch of a call. */
s7_status s7_session_create(const s7_model *model, s7_session **session);
void s7_session_free(s7_session *session);

/* Positions held. */
int32_t s7_session_length(const s7_session *session);

/* Append ids [n_ids] and write logits: [n_ids, vocab_size], or [1, vocab_size] with last_only; n_logits is the room of `logits`. */
s7_status s7_forward(s7_session *session, const int32_t *ids, int32_t n_ids, int32_t last_only, int32_t *logits,
                     int64_t n_logits);

/* The cache of one layer, keys (0) or values (1): codes [length, n_kv_heads, head_dim], m and e [length, n_kv_heads].
 * n_codes and n_scales are the rooms. */
s7_status s7_session_kv(const s7_session *session, int32_t layer, int32_t values, int8_t *codes, int64_t n_codes,
                        int32_t *m, int32_t *e, int64_t n_scales);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
