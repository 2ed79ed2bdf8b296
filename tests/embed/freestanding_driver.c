/* The engine alone on memory of the program: a model of random codes in a static block, its logits
 * on standard output. Built once against a freestanding core and once against the ordinary one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s7.h"

enum { D = 24, LAYERS = 2, HEADS = 4, KV = 2, E = 6, F = 10, V = 37, C = 80, STEPS = 20 };

#if defined(S7_FREESTANDING_CORE)
/* Memory of the program: blocks in a row; the space of the last ones comes back when they go. */
static _Alignas(64) unsigned char memory[16 << 20];
static size_t used = 0, live = 0, most = 0, budget = sizeof memory;

void *s7_take(size_t n_bytes) {
    const size_t rounded = (n_bytes + 15) / 16 * 16;
    if (n_bytes > budget || rounded > budget - used) return NULL;
    void *here = memory + used;
    memset(here, 0, rounded);
    used += rounded;
    ++live;
    if (used > most) most = used;
    return here;
}
void s7_give(void *block) {
    (void)block;
    if (--live == 0) used = 0;
}
#endif

static unsigned state = 1;
static int random_from(int low, int high) {
    state = state * 1664525u + 1013904223u;
    return low + (int)((state >> 8) % (unsigned)(high - low + 1));
}

static s7_linear linear(int n_out, int n_in) {
    int8_t *codes = malloc((size_t)(n_out * n_in));
    uint16_t *m = malloc(sizeof *m * (size_t)n_out), *s = malloc(sizeof *s * (size_t)n_out);
    for (int i = 0; i < n_out * n_in; ++i) codes[i] = (int8_t)random_from(-127, 127);
    for (int o = 0; o < n_out; ++o) {
        m[o] = (uint16_t)random_from(32768, 65535);
        s[o] = (uint16_t)random_from(16, 19);
    }
    return (s7_linear){codes, m, s, n_out, n_in, 27};
}

static s7_norm norm(void) {
    int16_t *gain = malloc(sizeof *gain * D);
    for (int i = 0; i < D; ++i) gain[i] = (int16_t)random_from(-32767, 32767);
    return (s7_norm){gain, 343597, D, 13};
}

static void fill(s7_tables *tables) {
    for (int i = 0; i < S7_EXP2_ENTRIES; ++i) tables->exp2[i] = 32512 - 250 * i;
    for (int i = 0; i < S7_SIGMOID_ENTRIES; ++i) tables->sigmoid[i] = 16384 + 30 * i;
    for (int i = 0; i < S7_RSQRT_ENTRIES; ++i) tables->rsqrt[i] = 65535 - 170 * i;
}

static int run(const s7_model *model) {
    static int32_t logits[V];
    s7_team *team = NULL;
    s7_session *session = NULL, *fork = NULL;
    int32_t ids[STEPS], tokens[STEPS], made = 0;
    s7_status bad = s7_team_create(model, 1, &team);
    if (bad == S7_OK) bad = s7_session_create(model, &session);
    for (int i = 0; i < STEPS; ++i) ids[i] = i * 7 % V;
    s7_run call = {session, ids, STEPS, 1, logits};
    if (bad == S7_OK) bad = s7_forward(team, &call, 1);
    if (bad == S7_OK) bad = s7_session_fork(session, 11, &fork);
    call.session = fork;
    if (bad == S7_OK) bad = s7_greedy(team, &call, 1, -1, tokens, STEPS, &made);
    for (int i = 0; bad == S7_OK && i < V; ++i) printf("%d ", logits[i]);
    for (int i = 0; bad == S7_OK && i < made; ++i) printf("%d ", tokens[i]);
    s7_session_free(fork);
    s7_session_free(session);
    s7_team_free(team);
    return bad;
}

int main(int argc, char **argv) {
    static s7_tables tables;
    static s7_layer layers[LAYERS];
    static s7_ffn ffn[LAYERS];
    static int16_t cos_sin[C * E];
    static uint8_t router[V];
    const s7_shape shape = {D, LAYERS, HEADS, KV, E, F, V, C, 1, 16, 48022, 30, 0, 0};
    s7_weights weights = {linear(V, D), cos_sin, C * E, router, layers, NULL, norm(), linear(V, D)};
    s7_model *model = NULL;
    s7_team *team = NULL;
    fill(&tables);
    for (int i = 0; i < C * E; ++i) cos_sin[i] = (int16_t)random_from(-32767, 32767);
    for (int i = 0; i < LAYERS; ++i) {
        ffn[i] = (s7_ffn){linear(F, D), linear(F, D), linear(D, F)};
        layers[i] = (s7_layer){norm(),
                               norm(),
                               linear(HEADS * E, D),
                               linear(KV * E, D),
                               linear(KV * E, D),
                               linear(D, HEADS * E),
                               &ffn[i]};
    }
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported((s7_isa)isa)) continue;
        s7_status bad = s7_model_create(&shape, &tables, &weights, (s7_isa)isa, &model);
        if (bad == S7_OK) bad = run(model);
        s7_model_free(model);
        if (bad != S7_OK) return printf("%s\n", s7_status_text(bad)), 1;
        printf("\n");
    }
#if defined(S7_FREESTANDING_CORE)
    if (live != 0) return printf("%zu blocks are left\n", live), 1;
    if (s7_model_create(&shape, &tables, &weights, S7_SCALAR, &model) != S7_OK) return 1;
    if (s7_team_create(model, 2, &team) != S7_THREADS) return printf("a second thread\n"), 1;
    s7_model_free(model);
    /* With less memory: a code, and nothing is left. */
    for (budget = 0; budget < most; budget += 4096) {
        live = used = 0;
        s7_status bad = s7_model_create(&shape, &tables, &weights, S7_SCALAR, &model);
        if (bad == S7_OK) {
            bad = s7_team_create(model, 1, &team);
            if (bad == S7_OK) s7_team_free(team);
            s7_model_free(model);
        }
        if ((bad != S7_OK && bad != S7_NO_MEMORY) || live != 0) return printf("budget\n"), 1;
    }
    fprintf(stderr, "%zu bytes\n", most);
#endif
    (void)argc, (void)argv, (void)team;
    return 0;
}
