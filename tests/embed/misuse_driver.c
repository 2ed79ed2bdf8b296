/* Wrong calls of libsevenfold: a code for each, and nothing else. misuse_driver MODEL */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sevenfold.h"

static int n_wrong = 0;

static void expect(int line, const char *call, int got, int wanted) {
    if (got == wanted) return;
    printf("line %d: %s gave %d (%s), not %d\n", line, call, got, s7f_status_text((s7f_status)got),
           wanted);
    ++n_wrong;
}
#define EXPECT(call, wanted) expect(__LINE__, #call, (int)(call), (int)(wanted))

static int ignore(void *user, const char *text, size_t n_bytes) {
    (void)text;
    if (user != NULL) *(size_t *)user += n_bytes;
    return 0;
}
static int stop(void *user, const char *text, size_t n_bytes) {
    (void)user, (void)text, (void)n_bytes;
    return 7;
}

static int64_t no_bytes(void *user, uint64_t offset, void *to, size_t n) {
    (void)user, (void)offset, (void)to, (void)n;
    return 0;
}
static int64_t too_many(void *user, uint64_t offset, void *to, size_t n) {
    (void)user, (void)offset, (void)to;
    return (int64_t)n + 1;
}
static int64_t failing(void *user, uint64_t offset, void *to, size_t n) {
    (void)user, (void)offset, (void)to, (void)n;
    return -5;
}
struct bytes {
    const char *data;
    size_t n;
};
static int64_t from_memory(void *user, uint64_t offset, void *to, size_t n) {
    const struct bytes *from = user;
    size_t left = from->n - (size_t)offset, taken = left < n ? left : n;
    if (taken > 777) taken = 777; /* fewer than asked for: it is asked again */
    memcpy(to, from->data + offset, taken);
    return (int64_t)taken;
}

static struct bytes read_all(const char *path) {
    struct bytes found = {NULL, 0};
    FILE *in = fopen(path, "rb");
    if (in == NULL) exit(2);
    fseek(in, 0, SEEK_END);
    found.n = (size_t)ftell(in);
    rewind(in);
    char *data = malloc(found.n);
    if (data == NULL || fread(data, 1, found.n, in) != found.n) exit(2);
    fclose(in);
    found.data = data;
    return found;
}

static void files(const char *path, struct bytes bytes) {
    s7f_file *file = NULL;
    s7f_error error;
    s7f_rule rules[S7F_N_RULES];
    s7f_lane lane;
    s7f_tensor tensor;
    size_t n = 9;
    EXPECT(s7f_file_open_path(NULL, &file, &error), S7F_NULL);
    EXPECT(s7f_file_open_path(path, NULL, &error), S7F_NULL);
    EXPECT(s7f_file_open_path("no/such/file", &file, &error), S7F_STORAGE);
    EXPECT(error.what[0] != 0 && error.where[0] != 0 && error.remedy[0] != 0, 1);
    EXPECT(s7f_file_open_path("/", &file, NULL), S7F_STORAGE);
    EXPECT(s7f_file_open_path("/dev/null", &file, NULL), S7F_STORAGE);
    EXPECT(s7f_file_open_memory(NULL, 5, &file, NULL), S7F_NULL);
    EXPECT(s7f_file_open_memory(NULL, 0, &file, NULL), S7F_TRUNCATED);
    EXPECT(s7f_file_open_memory("S7LM", 4, &file, NULL), S7F_TRUNCATED);
    EXPECT(s7f_file_open_memory("GGUF", 4, &file, NULL), S7F_MAGIC);
    EXPECT(s7f_file_open_memory(bytes.data, bytes.n, NULL, NULL), S7F_NULL);
    EXPECT(s7f_file_open_read(NULL, NULL, 8, &file, NULL), S7F_NULL);
    EXPECT(s7f_file_open_read(no_bytes, NULL, 8, &file, NULL), S7F_STORAGE);
    EXPECT(s7f_file_open_read(too_many, NULL, 8, &file, NULL), S7F_STORAGE);
    EXPECT(s7f_file_open_read(failing, NULL, 8, &file, NULL), S7F_STORAGE);
    EXPECT(s7f_file_open_read(no_bytes, NULL, UINT64_MAX, &file, NULL), S7F_MEMORY);
    EXPECT(s7f_file_open_read(no_bytes, NULL, 0, &file, NULL), S7F_TRUNCATED);
    EXPECT(file == NULL, 1);
    EXPECT(s7f_file_open_read(from_memory, &bytes, bytes.n, &file, NULL), S7F_OK);
    EXPECT(s7f_file_verify(NULL, 0, rules, NULL), S7F_NULL);
    EXPECT(s7f_file_verify(file, 0, NULL, NULL), S7F_NULL);
    EXPECT(s7f_file_verify(file, 1, rules, NULL), S7F_OK);
    EXPECT(s7f_file_lane(file, -1, &lane), S7F_ARGUMENT);
    EXPECT(s7f_file_lane(file, s7f_file_n_lanes(file), &lane), S7F_ARGUMENT);
    EXPECT(s7f_file_lane(file, 0, NULL), S7F_NULL);
    EXPECT(s7f_file_lane(NULL, 0, &lane), S7F_NULL);
    EXPECT(s7f_file_tensor(file, -1, &tensor), S7F_ARGUMENT);
    EXPECT(s7f_file_tensor(file, INT32_MAX, &tensor), S7F_ARGUMENT);
    EXPECT(s7f_file_tensor(file, 0, &tensor), S7F_OK);
    EXPECT(tensor.n_values > 0 && tensor.data != NULL && tensor.name[0] != 0, 1);
    EXPECT(s7f_file_json(file, "no such kind", &n) == NULL && n == 0, 1);
    EXPECT(s7f_file_json(file, NULL, &n) == NULL, 1);
    EXPECT(s7f_file_json(NULL, "graph", NULL) == NULL, 1);
    EXPECT(s7f_file_json(file, "graph", NULL) != NULL, 1);
    EXPECT(s7f_file_n_lanes(NULL) + s7f_file_version(NULL) + s7f_file_class(NULL), 0);
    EXPECT(s7f_file_root(NULL)[0], 0);
    s7f_file_close(&file);
    EXPECT(file == NULL, 1);
    s7f_file_close(&file);
    s7f_file_close(NULL);
    EXPECT(s7f_file_lane(file, 0, &lane), S7F_NULL);
}

static s7f_status open_with(const s7f_file *file, int32_t n_threads, int32_t isa, int32_t sessions,
                            uint32_t size, s7f_model **model) {
    s7f_options options;
    s7f_options_init(&options);
    options.n_threads = n_threads;
    options.isa = isa;
    options.max_sessions = sessions;
    options.size = size;
    return s7f_model_open(file, &options, model, NULL);
}

static s7f_model *models(struct bytes bytes) {
    s7f_file *file = NULL;
    s7f_model *model = NULL;
    const uint32_t size = (uint32_t)sizeof(s7f_options);
    EXPECT(s7f_file_open_memory(bytes.data, bytes.n, &file, NULL), S7F_OK);
    EXPECT(s7f_model_open(NULL, NULL, &model, NULL), S7F_NULL);
    EXPECT(s7f_model_open(file, NULL, NULL, NULL), S7F_NULL);
    EXPECT(s7f_model_open_path(NULL, NULL, &model, NULL), S7F_NULL);
    EXPECT(s7f_model_open_path("no/such/file", NULL, NULL, NULL), S7F_NULL);
    EXPECT(open_with(file, 0, -1, 4, size, &model), S7F_THREADS);
    EXPECT(open_with(file, 65, -1, 4, size, &model), S7F_THREADS);
    EXPECT(open_with(file, -1, -1, 4, size, &model), S7F_THREADS);
    EXPECT(open_with(file, 1, -2, 4, size, &model), S7F_ISA);
    EXPECT(open_with(file, 1, 99, 4, size, &model), S7F_ISA);
    EXPECT(open_with(file, 1, 4, 4, size, &model), S7F_ISA); /* WebAssembly is not here */
    EXPECT(open_with(file, 1, -1, 0, size, &model), S7F_ARGUMENT);
    EXPECT(open_with(file, 1, -1, S7F_MAX_SESSIONS + 1, size, &model), S7F_ARGUMENT);
    EXPECT(open_with(file, 1, -1, 4, size - 4, &model), S7F_ARGUMENT);
    EXPECT(model == NULL, 1);
    s7f_options_init(NULL);
    EXPECT(open_with(file, 2, 0, 4, size, &model), S7F_OK);
    s7f_file_close(&file); /* a model keeps nothing of it */
    return model;
}

static void texts(s7f_model *model) {
    int32_t ids[64];
    char text[64];
    size_t n = 0;
    s7f_text stream = {{0}, 0, 0, 0, 0};
    s7f_info info;
    EXPECT(s7f_model_info(model, NULL), S7F_NULL);
    EXPECT(s7f_model_info(NULL, &info), S7F_NULL);
    EXPECT(s7f_model_info(model, &info), S7F_OK);
    EXPECT(s7f_encode(NULL, "a", 1, ids, 64, &n), S7F_NULL);
    EXPECT(s7f_encode(model, NULL, 1, ids, 64, &n), S7F_NULL);
    EXPECT(s7f_encode(model, "a", 1, NULL, 64, &n), S7F_NULL);
    EXPECT(s7f_encode(model, "a", 1, ids, 64, NULL), S7F_NULL);
    EXPECT(s7f_encode(model, "a\xff", 2, ids, 64, &n), S7F_ARGUMENT);
    EXPECT(s7f_encode(model, NULL, 0, NULL, 0, &n), S7F_OK);
    EXPECT(n, 0);
    EXPECT(s7f_encode(model, "a b c", 5, NULL, 0, &n), S7F_ROOM);
    EXPECT(n > 0 && s7f_encode(model, "a b c", 5, ids, n, &n) == S7F_OK, 1);
    EXPECT(s7f_decode(model, ids, n, text, 4, &n), S7F_ROOM);
    EXPECT(n, 5);
    EXPECT(s7f_decode(NULL, ids, 1, text, 64, &n), S7F_NULL);
    EXPECT(s7f_decode(model, NULL, 1, text, 64, &n), S7F_NULL);
    EXPECT(s7f_decode(model, NULL, 0, NULL, 0, &n), S7F_OK);
    ids[0] = info.vocab_size;
    EXPECT(s7f_decode(model, ids, 1, text, 64, &n), S7F_IDS);
    EXPECT(s7f_text_feed(model, &stream, ids, 1, text, 64, &n), S7F_IDS);
    ids[0] = -1;
    EXPECT(s7f_decode(model, ids, 1, text, 64, &n), S7F_IDS);
    ids[0] = 20;
    EXPECT(s7f_text_feed(model, &stream, ids, 1, text, 0, &n), S7F_ROOM);
    EXPECT(s7f_text_feed(model, NULL, ids, 1, text, 64, &n), S7F_NULL);
    EXPECT(s7f_text_feed(model, &stream, NULL, 1, text, 64, &n), S7F_NULL);
    EXPECT(s7f_text_feed(model, &stream, ids, 1, NULL, 64, &n), S7F_NULL);
    memset(&stream, 0xEE, sizeof stream);
    EXPECT(s7f_text_feed(model, &stream, ids, 1, text, 64, &n), S7F_ARGUMENT);
    EXPECT(s7f_special_id(model, NULL) + s7f_special_id(NULL, "a"), -2);
    EXPECT(s7f_special_id(model, "<|endoftext|>"), 0);
    EXPECT(s7f_visible_text(NULL, 5), 0);
}

static void sessions(s7f_model *model) {
    s7f_session one = 0, two = 0, more[4] = {0, 0, 0, 0}, kept;
    s7f_info info;
    int32_t id = 0, ids[4] = {1, 2, 3, 4}, n = 0;
    EXPECT(s7f_model_info(model, &info), S7F_OK);
    int32_t *logits = malloc(sizeof(int32_t) * (size_t)info.vocab_size);
    EXPECT(s7f_session_open(NULL, &one, NULL), S7F_NULL);
    EXPECT(s7f_session_open(model, NULL, NULL), S7F_NULL);
    EXPECT(s7f_session_step(model, 0, &id, NULL), S7F_CLOSED);
    EXPECT(s7f_session_step(model, 0x7777777777770001u, &id, NULL), S7F_CLOSED);
    EXPECT(s7f_session_step(model, 0xFFFFFFFFFFFFFFFFu, &id, NULL), S7F_CLOSED);
    EXPECT(s7f_session_open(model, &one, NULL), S7F_OK);
    EXPECT(s7f_session_step(NULL, one, &id, NULL), S7F_NULL);
    EXPECT(s7f_session_step(model, one, NULL, NULL), S7F_NULL);
    EXPECT(s7f_session_step(model, one, &id, NULL), S7F_GATE);
    EXPECT(s7f_session_logits(model, one, logits, (size_t)info.vocab_size, NULL), S7F_GATE);
    EXPECT(s7f_session_end(model, one, NULL), S7F_GATE); /* it did not begin; now it is shut */
    EXPECT(s7f_session_prompt(model, one, "a", 1, NULL, 0, NULL), S7F_GATE);
    EXPECT(s7f_session_close(model, &one), S7F_OK);
    EXPECT(s7f_session_close(model, &one), S7F_CLOSED);
    EXPECT(s7f_session_close(model, NULL), S7F_NULL);
    EXPECT(s7f_session_open(model, &one, NULL), S7F_OK);
    EXPECT(s7f_session_prompt(model, one, NULL, 1, NULL, 0, NULL), S7F_NULL);
    EXPECT(s7f_session_prompt(model, one, "a\x1b", 2, NULL, 0, NULL), S7F_GATE);
    EXPECT(s7f_session_prompt(model, one, "a\xc0", 2, NULL, 0, NULL), S7F_GATE);
    EXPECT(s7f_session_prompt(model, one, "a", 1, "no domain", 0, NULL), S7F_ARGUMENT);
    EXPECT(s7f_session_prompt(model, one, "a", 1, NULL, -1, NULL), S7F_ARGUMENT);
    EXPECT(s7f_session_prompt(model, one, "a", 1, NULL, INT32_MAX, NULL), S7F_CONTEXT);
    EXPECT(s7f_session_length(model, one), 0);
    EXPECT(s7f_session_prompt(model, one, "a", 1, NULL, 0, NULL), S7F_OK);
    EXPECT(s7f_session_prompt(model, one, "a", 1, NULL, 0, NULL), S7F_GATE);
    EXPECT(s7f_session_append(model, one, NULL, 1, NULL), S7F_NULL);
    EXPECT(s7f_session_append(model, one, NULL, 0, NULL), S7F_IDS);
    ids[0] = -1;
    EXPECT(s7f_session_append(model, one, ids, 2, NULL), S7F_IDS);
    ids[0] = info.vocab_size;
    EXPECT(s7f_session_append(model, one, ids, 2, NULL), S7F_IDS);
    EXPECT(s7f_session_logits(model, one, logits, 3, NULL), S7F_ROOM);
    EXPECT(s7f_session_logits(model, one, NULL, 3, NULL), S7F_NULL);
    EXPECT(s7f_session_fork(model, one, 99, &two, NULL), S7F_CONTEXT);
    EXPECT(s7f_session_fork(model, one, -2, &two, NULL), S7F_CONTEXT);
    EXPECT(s7f_session_fork(model, one, -1, NULL, NULL), S7F_NULL);
    EXPECT(s7f_session_fork(model, 0, -1, &two, NULL), S7F_CLOSED);
    EXPECT(s7f_session_generate(model, one, 3, NULL, NULL, NULL, NULL), S7F_NULL);
    EXPECT(s7f_session_generate(model, one, -3, ignore, NULL, NULL, NULL), S7F_ARGUMENT);
    more[0] = more[1] = one;
    EXPECT(s7f_step_batch(model, more, 2, ids, NULL), S7F_BUSY);
    more[1] = 0;
    EXPECT(s7f_step_batch(model, more, 2, ids, NULL), S7F_CLOSED);
    EXPECT(s7f_step_batch(model, more, 0, ids, NULL), S7F_ARGUMENT);
    EXPECT(s7f_step_batch(model, more, INT32_MAX, ids, NULL), S7F_ARGUMENT);
    EXPECT(s7f_step_batch(model, NULL, 1, ids, NULL), S7F_NULL);
    EXPECT(s7f_step_batch(model, more, 1, NULL, NULL), S7F_NULL);
    EXPECT(s7f_step_batch(model, more, 1, ids, NULL), S7F_OK); /* nothing above broke it */
    EXPECT(s7f_session_generate(model, one, 9, stop, NULL, &n, NULL), S7F_STOPPED);
    size_t n_text = 0;
    /* The end of a text, or of the context. */
    s7f_status ended = s7f_session_generate(model, one, 100000, ignore, &n_text, &n, NULL);
    if (ended == S7F_CONTEXT)
        ended = s7f_session_length(model, one) > info.context ? S7F_OK : ended;
    EXPECT(ended == S7F_OK && n < 100000, 1);
    for (int i = 0; i < 3; ++i) EXPECT(s7f_session_open(model, &more[i], NULL), S7F_OK);
    EXPECT(s7f_session_open(model, &two, NULL), S7F_SESSIONS);
    kept = more[0];
    EXPECT(s7f_session_close(model, &more[0]), S7F_OK);
    EXPECT(s7f_session_open(model, &two, NULL), S7F_OK); /* the place of the one that was closed */
    EXPECT(two == kept, 0);
    EXPECT(s7f_session_close(model, &kept), S7F_CLOSED);
    EXPECT(s7f_session_end(model, one, NULL), S7F_OK);
    EXPECT(s7f_session_step(model, one, &id, NULL), S7F_GATE);
    EXPECT(s7f_session_close(model, &one), S7F_OK);
    EXPECT(s7f_session_close(model, &two), S7F_OK); /* the other two go with the model */
    free(logits);
}

struct shared {
    s7f_model *model;
    s7f_session session;
    int n_bad;
};

/* Steps, forks and lengths of one session from several threads: done, or told that it is in use. */
static void *contend(void *argument) {
    struct shared *at = argument;
    for (int i = 0; i < 200; ++i) {
        int32_t id = 0;
        s7f_session fork = 0;
        s7f_error error;
        const s7f_status stepped = s7f_session_step(at->model, at->session, &id, &error);
        if (stepped != S7F_OK && stepped != S7F_BUSY && stepped != S7F_CONTEXT) ++at->n_bad;
        const s7f_status forked = s7f_session_fork(at->model, at->session, -1, &fork, NULL);
        if (forked == S7F_OK) {
            if (s7f_session_close(at->model, &fork) != S7F_OK) ++at->n_bad;
        } else if (forked != S7F_BUSY && forked != S7F_SESSIONS) {
            ++at->n_bad;
        }
    }
    return NULL;
}

static void threads(s7f_model *model) {
    pthread_t handles[4];
    struct shared shared[4];
    s7f_session session = 0;
    EXPECT(s7f_session_open(model, &session, NULL), S7F_OK);
    EXPECT(s7f_session_prompt(model, session, "def f(", 6, NULL, 0, NULL), S7F_OK);
    for (int i = 0; i < 4; ++i) {
        shared[i] = (struct shared){model, session, 0};
        if (pthread_create(&handles[i], NULL, contend, &shared[i]) != 0) exit(2);
    }
    for (int i = 0; i < 4; ++i) {
        pthread_join(handles[i], NULL);
        EXPECT(shared[i].n_bad, 0);
    }
    EXPECT(s7f_session_close(model, &session), S7F_OK);
}

static void gates(void) {
    s7f_gate *gate = NULL;
    size_t n = 0;
    EXPECT(s7f_gate_open(NULL), S7F_NULL);
    EXPECT(s7f_gate_feed(NULL, "a", 1, NULL), S7F_NULL);
    EXPECT(s7f_gate_open(&gate), S7F_OK);
    EXPECT(s7f_gate_feed(gate, NULL, 1, NULL), S7F_NULL);
    EXPECT(s7f_gate_feed(gate, NULL, 0, NULL), S7F_OK);
    EXPECT(s7f_gate_feed(gate, "\1h\2", 3, NULL), S7F_OK);
    EXPECT(s7f_gate_is_open(gate), 1);
    EXPECT(s7f_gate_feed(gate, "b\3\4", 3, NULL), S7F_OK);
    EXPECT(s7f_gate_is_ended(gate), 1);
    EXPECT(s7f_gate_body(gate, &n)[0] == 'b' && n == 1, 1);
    EXPECT(s7f_gate_header(gate, NULL)[0], 'h');
    EXPECT(s7f_gate_feed(gate, "\1", 1, NULL), S7F_GATE);
    EXPECT(s7f_gate_feed(gate, "\1", 1, NULL), S7F_GATE);
    EXPECT(s7f_gate_is_open(gate) + s7f_gate_is_ended(gate), 0);
    EXPECT(s7f_gate_is_open(NULL) + s7f_gate_is_ended(NULL), 0);
    EXPECT(s7f_gate_body(NULL, &n) == NULL && n == 0, 1);
    s7f_gate_close(&gate);
    s7f_gate_close(&gate);
    s7f_gate_close(NULL);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    const struct bytes bytes = read_all(argv[1]);
    EXPECT(s7f_abi(), S7F_ABI);
    for (int status = -3; status < 80; ++status)
        EXPECT(s7f_status_text((s7f_status)status)[0] != 0, 1);
    files(argv[1], bytes);
    s7f_model *model = models(bytes);
    if (model == NULL) return 2;
    texts(model);
    sessions(model);
    threads(model);
    EXPECT(s7f_self_test(model, NULL), S7F_OK);
    EXPECT(s7f_self_test(NULL, NULL), S7F_NULL);
    s7f_model_close(&model);
    EXPECT(model == NULL, 1);
    s7f_model_close(&model);
    s7f_model_close(NULL);
    EXPECT(s7f_session_length(model, 1), -1);
    gates();
    free((void *)bytes.data);
    printf("%d wrong\n", n_wrong);
    return n_wrong != 0;
}
