/* Complete a prompt with a sealed model, without Python: embed MODEL PROMPT [TOKENS]
 *
 *     cc -I include embed.c -L lib -lsevenfold -o embed
 *
 * Every hash, every rule and the golden logits are checked before the model opens. The output is
 * that of `s7 run`, byte for byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sevenfold.h>

/* Text comes as whole characters; a terminal is given no control characters. */
static int print_text(void *user, const char *text, size_t n_bytes) {
    char *copy = malloc(n_bytes);
    (void)user;
    if (copy == NULL) return 1;
    memcpy(copy, text, n_bytes);
    fwrite(copy, 1, s7f_visible_text(copy, n_bytes), stdout);
    free(copy);
    return fflush(stdout) != 0;
}

static int complete(s7f_model *model, const char *prompt, int max_tokens, s7f_error *error) {
    s7f_session session = 0;
    int status = s7f_session_open(model, &session, error);
    if (status == S7F_OK)
        status =
            s7f_session_prompt(model, session, prompt, strlen(prompt), NULL, max_tokens, error);
    if (status == S7F_OK)
        status = s7f_session_generate(model, session, max_tokens, print_text, NULL, NULL, error);
    s7f_session_close(model, &session);
    return status;
}

int main(int argc, char **argv) {
    s7f_error error;
    s7f_model *model = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT [TOKENS]\n", argv[0]);
        return 2;
    }
    int status = s7f_model_open_path(argv[1], NULL, &model, &error);
    if (status == S7F_OK) status = complete(model, argv[2], argc > 3 ? atoi(argv[3]) : 16, &error);
    s7f_model_close(&model);
    if (status != S7F_OK) {
        fprintf(stderr, "%s: %s (%s)\n", error.where, error.what, error.remedy);
        return 1;
    }
    putchar('\n');
    return 0;
}
