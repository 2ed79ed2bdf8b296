/* libsevenfold: open, verify and run a sealed model (specs/artifact.md) from a program without
 * Python.
 *
 * Everything that can fail returns an s7f_status and leaves its outputs alone when it is not
 * S7F_OK. `error`, where not NULL, then says what was refused, where, and what to do. No exception
 * crosses this header, there is no global state, and no thread is started unless the options ask
 * for more than one. A file that does not change gives the same tokens and the same logits, bit for
 * bit, on every machine.
 *
 * Ownership: a file, a model, a gate and an encoder of text are freed by the function named after
 * them, which sets the caller's pointer to NULL. A model keeps nothing of the file that it was made
 * from. Strings and arrays that a call gives belong to the object that it was asked of and live as
 * long. Sessions are numbers inside their model: a call with one that was closed, or that never
 * was, gives S7F_CLOSED.
 *
 * Threads: a file and a model may be used by several threads at once; a session by one at a time,
 * and a second one is told S7F_BUSY. A gate or a text stream belongs to one thread. Freeing a file
 * or a model while another thread uses it is an error of the caller that nothing can catch. */
#ifndef SEVENFOLD_H
#define SEVENFOLD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S7F_ABI 1 /* of the structures below; compare with s7f_abi() */
#define S7F_N_RULES 8
#define S7F_MAX_THREADS 64
#define S7F_MAX_SESSIONS 1024

typedef enum {
    S7F_OK = 0,
    /* Calls. */
    S7F_NULL = 1,      /* a pointer is missing, or a handle is closed */
    S7F_ARGUMENT = 2,  /* a size, a flag or a number that the call does not take */
    S7F_MEMORY = 3,    /* not enough memory; everything is as it was */
    S7F_CLOSED = 4,    /* a session that is closed, or was never open */
    S7F_BUSY = 5,      /* another thread is using the session */
    S7F_ROOM = 6,      /* the buffer is too short; the size that is needed was given */
    S7F_STORAGE = 7,   /* the file cannot be read */
    S7F_GATE = 8,      /* the CM-1 gate is shut, or refuses a character */
    S7F_CONTEXT = 9,   /* more positions than the context has */
    S7F_IDS = 10,      /* no ids, or an id outside the vocabulary */
    S7F_THREADS = 11,  /* a number of threads that cannot be had */
    S7F_ISA = 12,      /* an instruction set that this machine or this build lacks */
    S7F_SESSIONS = 13, /* as many sessions as the options allow are open */
    S7F_STOPPED = 14,  /* the caller's own function asked to stop */
    /* The file is refused: one code for each cause of specs/artifact.md, "Errors". */
    S7F_MAGIC = 32,
    S7F_VERSION,
    S7F_NEWER_VERSION,
    S7F_EARLIER_FORM,
    S7F_PUBLISHED,
    S7F_CLASS,
    S7F_FLAG,
    S7F_TRUNCATED,
    S7F_LIMIT,
    S7F_LANE_ID,
    S7F_LANE_DIGEST,
    S7F_DUPLICATE_LANE,
    S7F_ROOT,
    S7F_TRUNCATED_RECORD,
    S7F_TENSOR_NAME,
    S7F_DUPLICATE_TENSOR,
    S7F_RANK,
    S7F_DIMENSION,
    S7F_PADDING,
    S7F_MISSING_TENSOR,
    S7F_JSON,
    S7F_DUPLICATE_KEY,
    S7F_LANE_KIND,
    S7F_SEAL,
    S7F_CHUNK,
    S7F_ANONYMOUS,
    S7F_HEADER_ONLY,
    S7F_UNVERIFIED, /* a rule of specs/verification.md does not hold */
    S7F_GRAPH,      /* the graph or a record is not what specs/arithmetic.md asks for */
    S7F_TOKENIZER,  /* DICT is no tokenizer that this library reads */
    S7F_SELF_TEST   /* other logits than the sealed ones: do not use this machine or build */
} s7f_status;

/* What a refusal says: plain ASCII, always ended by 0. */
typedef struct {
    int32_t status; /* an s7f_status */
    char what[240];
    char where[120];
    char remedy[160];
} s7f_error;

typedef struct s7f_file s7f_file;
typedef struct s7f_model s7f_model;
typedef struct s7f_gate s7f_gate;
typedef uint64_t s7f_session; /* of one model; 0 is none */

/* Reads up to `n_bytes` at `offset` into `to`; returns how many, or a negative number. Fewer than
 * asked for means that the file could not be read. */
typedef int64_t (*s7f_read)(void *user, uint64_t offset, void *to, size_t n_bytes);

/* Takes text as it comes, whole characters of UTF-8, not ended by 0; other than 0 stops. */
typedef int (*s7f_on_text)(void *user, const char *text, size_t n_bytes);

typedef enum {
    S7F_PASS = 0,
    S7F_FAIL = 1,
    S7F_SKIPPED = 2 /* V6 without replay: the chunks were taken again, the prompts were not run */
} s7f_verdict;

typedef struct { /* one rule of specs/verification.md */
    char id[4];  /* "V0" to "V7" */
    int32_t verdict;
    char detail[300];
} s7f_rule;

typedef struct {
    uint8_t id; /* 1 DICT, 2 FIELD, 3 LANE, 4 EDGE, 5 BATCH */
    char kind[16];
    uint64_t offset; /* of its first byte in the file */
    uint64_t n_bytes;
    uint8_t sha256[32];
} s7f_lane;

typedef struct {
    char name[256];
    uint32_t dims[8];
    int32_t rank;
    float scale;
    const int8_t *data; /* proved before it is given */
    uint64_t n_values;
} s7f_tensor;

typedef struct {
    uint32_t size;        /* sizeof(s7f_options): s7f_options_init sets it */
    int32_t n_threads;    /* of a call; 1, the caller's own, unless set */
    int32_t isa;          /* -1: the widest that is here; else an s7_isa: 0 scalar, 1 AVX2, ... */
    int32_t max_sessions; /* open at once: 1 to S7F_MAX_SESSIONS; 64 unless set */
} s7f_options;

typedef struct {
    char root[65]; /* the name of the model: hex, ended by 0 */
    int32_t vocab_size, context, d_model, n_layers, n_experts;
    int32_t isa, n_threads;
    int64_t weight_bytes;
    int32_t boundary;         /* the id between two documents */
    int32_t begin, pad;       /* ids, or -1 where the model has none */
    int32_t n_ends, ends[64]; /* any of them ends a text */
} s7f_info;

/* Turns bytes of tokens into whole characters: memory of the caller, {0} at first. */
typedef struct {
    uint8_t held[4];
    uint8_t n_held, n_wanted, low, high;
} s7f_text;

#if defined(_WIN32)
#define S7F_CALL
#else
#define S7F_CALL __attribute__((visibility("default")))
#endif

/* S7F_ABI of this library, its version, and what a status means, in words. */
S7F_CALL int32_t s7f_abi(void);
S7F_CALL const char *s7f_version(void);
S7F_CALL const char *s7f_status_text(s7f_status status);

/* A file, read whole and proved: every byte belongs to a lane, every digest, the root and the seal
 * hold, and the records and JSON are inside the caps. What the contents promise is the rules' to
 * say. `memory` is not copied: it must not change or go before the file is closed. */
S7F_CALL s7f_status s7f_file_open_path(const char *path, s7f_file **file, s7f_error *error);
S7F_CALL s7f_status s7f_file_open_memory(const void *memory, size_t n_bytes, s7f_file **file,
                                         s7f_error *error);
S7F_CALL s7f_status s7f_file_open_read(s7f_read read, void *user, uint64_t n_bytes, s7f_file **file,
                                       s7f_error *error);
S7F_CALL void s7f_file_close(s7f_file **file);

/* Run V0 to V7. With `replay` the golden prompts are run on every instruction set that is here.
 * S7F_OK says that the rules were run; S7F_UNVERIFIED that one of them failed. */
S7F_CALL s7f_status s7f_file_verify(const s7f_file *file, int32_t replay,
                                    s7f_rule rules[S7F_N_RULES], s7f_error *error);

/* Format version, class and flags of the header; the root as hex; the lanes; the tensors in file
 * order; a JSON payload by kind, NULL when the file has none. */
S7F_CALL int32_t s7f_file_version(const s7f_file *file);
S7F_CALL int32_t s7f_file_class(const s7f_file *file);
S7F_CALL int32_t s7f_file_flags(const s7f_file *file);
S7F_CALL const char *s7f_file_root(const s7f_file *file);
S7F_CALL int32_t s7f_file_n_lanes(const s7f_file *file);
S7F_CALL s7f_status s7f_file_lane(const s7f_file *file, int32_t index, s7f_lane *lane);
S7F_CALL int32_t s7f_file_n_tensors(const s7f_file *file);
S7F_CALL s7f_status s7f_file_tensor(const s7f_file *file, int32_t index, s7f_tensor *tensor);
S7F_CALL const char *s7f_file_json(const s7f_file *file, const char *kind, size_t *n_bytes);

/* Fill in the defaults. */
S7F_CALL void s7f_options_init(s7f_options *options);

/* A model that runs. Every rule must hold, the graph and the records must be those of the integer
 * law, and the first golden prompt must give its sealed logits here; a file without provenance is
 * refused. `options` may be NULL. The file may be closed afterwards. */
S7F_CALL s7f_status s7f_model_open(const s7f_file *file, const s7f_options *options,
                                   s7f_model **model, s7f_error *error);
/* The same from a path, the file closed again. */
S7F_CALL s7f_status s7f_model_open_path(const char *path, const s7f_options *options,
                                        s7f_model **model, s7f_error *error);
/* Close every session and free the model. */
S7F_CALL void s7f_model_close(s7f_model **model);
S7F_CALL s7f_status s7f_model_info(const s7f_model *model, s7f_info *info);

/* Ids of UTF-8 text, never a special token's: n_ids gets their number, and S7F_ROOM says that
 * `room` is less. `ids` may be NULL with room 0. */
S7F_CALL s7f_status s7f_encode(s7f_model *model, const char *text, size_t n_bytes, int32_t *ids,
                               size_t room, size_t *n_ids);
/* Bytes of ids, one behind the other; as s7f_encode. */
S7F_CALL s7f_status s7f_decode(const s7f_model *model, const int32_t *ids, size_t n_ids, char *text,
                               size_t room, size_t *n_bytes);
/* The id of a special token by name, such as "<|endoftext|>"; -1 when there is none. */
S7F_CALL int32_t s7f_special_id(const s7f_model *model, const char *name);
/* What `n_ids` more complete: whole characters, U+FFFD for what is no UTF-8. `room` of 3 bytes for
 * each byte of the tokens and 3 more is enough. With n_ids 0 the stream ends: what is incomplete
 * becomes U+FFFD. */
S7F_CALL s7f_status s7f_text_feed(const s7f_model *model, s7f_text *text, const int32_t *ids,
                                  size_t n_ids, char *to, size_t room, size_t *n_bytes);
/* Take the control characters but TAB, LF and CR out of UTF-8 text, in place; returns what is left.
 * A terminal should be given no other text. */
S7F_CALL size_t s7f_visible_text(char *text, size_t n_bytes);

/* The gate of specs/control.md as a machine over a stream in pieces. After a refusal every call is
 * refused. The header and the body are what came so far. */
S7F_CALL s7f_status s7f_gate_open(s7f_gate **gate);
S7F_CALL void s7f_gate_close(s7f_gate **gate);
S7F_CALL s7f_status s7f_gate_feed(s7f_gate *gate, const void *bytes, size_t n_bytes,
                                  s7f_error *error);
S7F_CALL int32_t s7f_gate_is_open(const s7f_gate *gate);  /* a call may run */
S7F_CALL int32_t s7f_gate_is_ended(const s7f_gate *gate); /* the stream was one whole frame */
S7F_CALL const char *s7f_gate_header(const s7f_gate *gate, size_t *n_bytes);
S7F_CALL const char *s7f_gate_body(const s7f_gate *gate, size_t *n_bytes);

/* A session: one gate and one KV cache. It opens shut. `prompt` begins it: the text passes the gate
 * as SOH STX prompt, is encoded behind what the model saw before a text, and is read. `domain`
 * (NULL or "": none) chooses an expert stack. `max_tokens` is the room to reserve for an answer. */
S7F_CALL s7f_status s7f_session_open(s7f_model *model, s7f_session *session, s7f_error *error);
S7F_CALL s7f_status s7f_session_close(s7f_model *model, s7f_session *session);
S7F_CALL s7f_status s7f_session_prompt(s7f_model *model, s7f_session session, const char *prompt,
                                       size_t n_bytes, const char *domain, int32_t max_tokens,
                                       s7f_error *error);
/* Append ids to the body; their bytes pass the gate, which the first call opens. */
S7F_CALL s7f_status s7f_session_append(s7f_model *model, s7f_session session, const int32_t *ids,
                                       size_t n_ids, s7f_error *error);
/* ETX EOT: the gate shuts, and every later call but close is refused. */
S7F_CALL s7f_status s7f_session_end(s7f_model *model, s7f_session session, s7f_error *error);
/* A second session with the first `length` positions (-1: all, and what is pending), its gate in
 * the same state. Memory of whole pages is shared. A shorter one has no logits until ids are
 * appended. */
S7F_CALL s7f_status s7f_session_fork(s7f_model *model, s7f_session from, int32_t length,
                                     s7f_session *session, s7f_error *error);
/* Positions read, with the token that a step gave. -1: no such session, or another thread uses it.
 */
S7F_CALL int32_t s7f_session_length(s7f_model *model, s7f_session session);

/* The next token, greedy, ties to the lowest id. */
S7F_CALL s7f_status s7f_session_step(s7f_model *model, s7f_session session, int32_t *id,
                                     s7f_error *error);
/* A step of each of `n` sessions at once, each there once: ids [n]. */
S7F_CALL s7f_status s7f_step_batch(s7f_model *model, const s7f_session *sessions, int32_t n,
                                   int32_t *ids, s7f_error *error);
/* The logits of the next token, vocab_size numbers: natural-log units with 16 fraction bits. */
S7F_CALL s7f_status s7f_session_logits(s7f_model *model, s7f_session session, int32_t *logits,
                                       size_t room, s7f_error *error);
/* Up to `max_tokens` steps, or to a token that ends a text, handed over as text. n_tokens, where
 * not NULL, gets how many steps were done. */
S7F_CALL s7f_status s7f_session_generate(s7f_model *model, s7f_session session, int32_t max_tokens,
                                         s7f_on_text on_text, void *user, int32_t *n_tokens,
                                         s7f_error *error);

/* Replay the first golden prompt once more. */
S7F_CALL s7f_status s7f_self_test(s7f_model *model, s7f_error *error);

#ifdef __cplusplus
}
#endif
#endif
