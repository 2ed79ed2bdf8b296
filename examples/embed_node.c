/* libsevenfold for Node.js, as an addon of one C file: complete(path, prompt, maxTokens) -> text.
 *
 *     cc -shared -fPIC -I include -I /usr/include/node embed_node.c -L lib -lsevenfold \
 *         -Wl,-rpath,$PWD/lib -o embed.node
 *     node embed.js MODEL PROMPT [TOKENS] */
#include <stdlib.h>
#include <string.h>

#include <node_api.h>
#include <sevenfold.h>

struct text {
    char *data;
    size_t n;
};

static int collect(void *user, const char *text, size_t n_bytes) {
    struct text *to = user;
    char *grown = realloc(to->data, to->n + n_bytes);
    if (grown == NULL) return 1;
    memcpy(grown + to->n, text, n_bytes);
    to->data = grown;
    to->n += n_bytes;
    return 0;
}

/* A string argument, ended by 0; the caller frees it. NULL, and an exception waits, for another. */
static char *string_of(napi_env env, napi_value value, size_t *n) {
    char *text;
    if (napi_get_value_string_utf8(env, value, NULL, 0, n) != napi_ok) {
        napi_throw_type_error(env, NULL, "a string was expected");
        return NULL;
    }
    text = malloc(*n + 1);
    if (text != NULL) napi_get_value_string_utf8(env, value, text, *n + 1, n);
    return text;
}

static napi_value complete(napi_env env, napi_callback_info info) {
    napi_value arguments[3], result = NULL;
    size_t n_arguments = 3, n_path = 0, n_prompt = 0;
    int32_t max_tokens = 16;
    s7f_error error = {S7F_MEMORY, "not enough memory", "", ""};
    s7f_model *model = NULL;
    s7f_session session = 0;
    struct text text = {NULL, 0};
    int status = S7F_MEMORY;
    napi_get_cb_info(env, info, &n_arguments, arguments, NULL, NULL);
    char *path = string_of(env, arguments[0], &n_path);
    char *prompt = path == NULL ? NULL : string_of(env, arguments[1], &n_prompt);
    napi_get_value_int32(env, arguments[2], &max_tokens);
    if (prompt != NULL) status = s7f_model_open_path(path, NULL, &model, &error);
    if (status == S7F_OK) status = s7f_session_open(model, &session, &error);
    if (status == S7F_OK)
        status = s7f_session_prompt(model, session, prompt, n_prompt, NULL, max_tokens, &error);
    if (status == S7F_OK)
        status = s7f_session_generate(model, session, max_tokens, collect, &text, NULL, &error);
    s7f_model_close(&model);
    if (status == S7F_OK) {
        if (text.n > 0) text.n = s7f_visible_text(text.data, text.n);
        napi_create_string_utf8(env, text.n > 0 ? text.data : "", text.n, &result);
    } else if (prompt != NULL) {
        napi_throw_error(env, s7f_status_text((s7f_status)status), error.what);
    }
    free(path);
    free(prompt);
    free(text.data);
    return result;
}

NAPI_MODULE_INIT() {
    napi_value function;
    napi_create_function(env, "complete", NAPI_AUTO_LENGTH, complete, NULL, &function);
    napi_set_named_property(env, exports, "complete", function);
    return exports;
}
