// A fuzz target: a model of random sizes and integers, damaged here and there, and eight calls on
// it. Every instruction set has to refuse the same models and calls and to give the same logits;
// the sanitizers see what reads or writes out of place.
//
// Alone: fuzz_driver SECONDS SEED. With a fuzzing engine: compile with -DS7_FUZZING_ENGINE and link
// it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "random_model.h"

namespace {

constexpr int64_t kEdges[] = {-2147483648LL,
                              -65537,
                              -32768,
                              -129,
                              -128,
                              -1,
                              0,
                              1,
                              2,
                              15,
                              16,
                              17,
                              127,
                              128,
                              255,
                              256,
                              32767,
                              32768,
                              65535,
                              65536,
                              1 << 20,
                              (1 << 20) + 1,
                              2147483647};

s7_shape random_shape(Random &r) {
    const auto small = [&](int64_t most) { return static_cast<int32_t>(r.between(1, most)); };
    s7_shape shape{small(40),
                   small(2),
                   0,
                   small(3),
                   2 * small(12),
                   small(40),
                   small(40),
                   7 + small(80),
                   small(3),
                   16,
                   48022,
                   30,
                   0,
                   0};
    if (r.between(0, 3) == 0) shape.stack_layers = small(2), shape.stack_d_ffn = small(40);
    shape.n_heads = shape.n_kv_heads * small(4);
    return shape;
}

// An entry of an array that the model owns; the arrays are const for the library alone.
template <class T> void damage(Random &r, std::vector<T> &array) {
    if (!array.empty())
        array[static_cast<size_t>(r.between(0, static_cast<int64_t>(array.size()) - 1))] =
            static_cast<T>(r.one_of(kEdges));
}

template <class T> void drop(const T *&pointer) { pointer = nullptr; }

void damage_linear(Random &r, s7_linear &w) {
    switch (r.between(0, 6)) {
        case 0:
            drop(w.codes);
            break;
        case 1:
            drop(w.row_m);
            break;
        case 2:
            drop(w.row_s);
            break;
        case 3:
            w.n_out = static_cast<int32_t>(r.one_of(kEdges));
            break;
        case 4:
            w.n_in = static_cast<int32_t>(r.one_of(kEdges));
            break;
        default:
            w.exponent = static_cast<int32_t>(r.one_of(kEdges));
            break;
    }
}

void damage_norm(Random &r, s7_norm &norm) {
    switch (r.between(0, 3)) {
        case 0:
            drop(norm.gain);
            break;
        case 1:
            norm.n = static_cast<int32_t>(r.one_of(kEdges));
            break;
        case 2:
            norm.exponent = static_cast<int32_t>(r.one_of(kEdges));
            break;
        default:
            norm.eps = r.one_of(kEdges) << r.between(0, 30);
            break;
    }
}

void damage_layer(Random &r, s7_layer &layer, std::vector<s7_ffn> &experts) {
    s7_linear *const linears[] = {&layer.q,         &layer.k,           &layer.v,        &layer.o,
                                  &experts[0].gate, &experts.back().up, &experts[0].down};
    switch (r.between(0, 3)) {
        case 0:
            damage_norm(r, r.between(0, 1) ? layer.attn_norm : layer.ffn_norm);
            break;
        case 1:
            drop(layer.experts);
            break;
        default:
            damage_linear(r, *r.one_of(linears));
            break;
    }
}

// A size; where the header declares no length for an array, never past what the array has.
void damage_shape(Random &r, s7_shape &shape) {
    int32_t fields[sizeof shape / 4];
    std::memcpy(fields, &shape, sizeof shape);
    const s7_shape before = shape;
    const int64_t field = r.between(0, sizeof shape / 4 - 1);
    fields[field] =
        static_cast<int32_t>(r.between(0, 1) ? r.one_of(kEdges) : fields[field] + r.between(-2, 2));
    std::memcpy(&shape, fields, sizeof shape);
    if (shape.n_layers > before.n_layers) shape.n_layers = before.n_layers;
    if (shape.n_experts > before.n_experts) shape.n_experts = before.n_experts;
    if (shape.stack_layers > before.stack_layers || shape.stack_layers == 0)
        shape.stack_layers = before.stack_layers;
}

void damage_model(Random &r, RandomModel &model) {
    switch (r.between(0, 10)) {
        case 0:
            damage_shape(r, model.shape);
            break;
        case 1:
            model.tables.exp2[r.between(0, S7_EXP2_ENTRIES - 1)] =
                static_cast<int32_t>(r.one_of(kEdges));
            break;
        case 2:
            model.tables.sigmoid[r.between(0, S7_SIGMOID_ENTRIES - 1)] =
                static_cast<int32_t>(r.one_of(kEdges));
            break;
        case 3:
            model.tables.rsqrt[r.between(0, S7_RSQRT_ENTRIES - 1)] =
                static_cast<int32_t>(r.one_of(kEdges));
            break;
        case 4:
            damage(r, model.codes[static_cast<size_t>(
                          r.between(0, static_cast<int64_t>(model.codes.size()) - 1))]);
            break;
        case 5:
        case 6:
            damage(r, model.rows[static_cast<size_t>(
                          r.between(0, static_cast<int64_t>(model.rows.size()) - 1))]);
            break;
        case 7:
            damage(r, model.halves[static_cast<size_t>(
                          r.between(0, static_cast<int64_t>(model.halves.size()) - 1))]);
            break;
        case 8:
            damage(r, model.router);
            break;
        case 9: {
            const auto i =
                static_cast<size_t>(r.between(0, static_cast<int64_t>(model.layers.size()) - 1));
            damage_layer(r, model.layers[i], model.experts[i]);
            break;
        }
        default:
            switch (r.between(0, 6)) {
                case 0:
                    drop(model.weights.cos_sin);
                    break;
                case 1:
                    drop(model.weights.router);
                    break;
                case 2:
                    drop(model.weights.layers);
                    break;
                case 3:
                    model.weights.n_cos_sin = r.one_of(kEdges);
                    break;
                case 6:
                    drop(model.weights.stacks);
                    break;
                case 4:
                    damage_norm(r, model.weights.final_norm);
                    break;
                default:
                    damage_linear(r,
                                  r.between(0, 1) ? model.weights.embedding : model.weights.head);
                    break;
            }
    }
}

// What eight calls give: their statuses, lengths and logits.
std::vector<int32_t> calls(const s7_model *model, const s7_shape &shape, Random r) {
    std::vector<int32_t> trace, logits(static_cast<size_t>(shape.vocab_size) * 3);
    s7_team *team = nullptr;
    s7_session *sessions[2] = {};
    trace.push_back(s7_team_create(model, r.between(0, 63) ? 1 : 2, &team));
    for (auto *&session : sessions) trace.push_back(s7_session_create(model, &session));
    for (int call = 0; call < 8; ++call) {
        s7_session *&session = sessions[r.between(0, 1)];
        const auto any = [&](int64_t usual) {
            return static_cast<int32_t>(r.between(0, 7) ? r.between(0, usual) : r.one_of(kEdges));
        };
        std::vector<int32_t> ids;
        for (int64_t n = r.between(0, 7) ? r.between(1, 8) : r.between(0, shape.context + 1); n > 0;
             --n) {
            ids.push_back(r.between(0, 40)
                              ? static_cast<int32_t>(r.between(0, shape.vocab_size - 1))
                              : any(shape.vocab_size));
        }
        ids.reserve(1);  // a pointer even when it is empty
        const auto n_ids = static_cast<int32_t>(ids.size());
        const auto n_logits = static_cast<int32_t>(r.between(0, n_ids < 3 ? n_ids : 3));
        std::fill(logits.begin(), logits.end(), 7);
        switch (r.between(0, 6)) {
            case 0: {
                s7_session *fork = nullptr;
                trace.push_back(s7_session_fork(session, any(s7_session_length(session)), &fork));
                if (fork != nullptr) {
                    s7_session_free(session);
                    session = fork;
                }
                break;
            }
            case 1:
                trace.push_back(s7_session_truncate(session, any(s7_session_length(session))));
                break;
            case 2: {
                const auto n = static_cast<int32_t>(r.between(-1, 4));
                const int32_t stop = any(shape.vocab_size);
                std::vector<int32_t> tokens(
                    static_cast<size_t>(n > 0 ? 2 * n : 1));  // exactly what may be written
                int32_t made[2] = {};
                const s7_run both[] = {
                    {sessions[0], ids.data(), n_ids, 0, logits.data()},
                    {sessions[1], ids.data(), n_ids, 0,
                     r.between(0, 1) ? logits.data() + shape.vocab_size : nullptr}};
                trace.push_back(
                    s7_greedy(team, both, r.between(0, 1) ? 2 : 1, stop, tokens.data(), n, made));
                trace.insert(trace.end(), tokens.begin(), tokens.end());
                trace.insert(trace.end(), made, made + 2);
                break;
            }
            case 3: {
                const s7_run both[] = {
                    {sessions[0], ids.data(), n_ids, n_logits, logits.data()},
                    {sessions[r.between(0, 7) ? 1 : 0], ids.data(), n_ids, 0, nullptr}};
                trace.push_back(s7_forward(team, both, 2));
                break;
            }
            case 4: {
                const auto n = static_cast<int32_t>(r.between(-1, 4));
                const int32_t stops[] = {any(shape.vocab_size), any(shape.vocab_size)};
                const auto n_stops = static_cast<int32_t>(r.between(-1, 2));
                std::vector<int32_t> tokens(static_cast<size_t>(n > 0 ? n : 1)), rows;
                if (r.between(0, 1))
                    rows.resize(tokens.size() * static_cast<size_t>(shape.vocab_size));
                int32_t made = 0;
                const s7_run run{session, ids.data(), n_ids, 0,
                                 rows.empty() ? nullptr : rows.data()};
                trace.push_back(s7_generate(team, &run, n_stops > 0 ? stops : nullptr, n_stops,
                                            tokens.data(), n, &made));
                trace.insert(trace.end(), tokens.begin(), tokens.end());
                trace.insert(trace.end(), rows.begin(), rows.end());
                trace.push_back(made);
                break;
            }
            default: {
                const s7_run run{session, ids.data(), n_ids, n_logits, logits.data()};
                trace.push_back(s7_forward(team, &run, 1));
                break;
            }
        }
        trace.push_back(s7_session_length(session));
        trace.insert(trace.end(), logits.begin(), logits.end());
    }
    for (s7_session *session : sessions) s7_session_free(session);
    s7_team_free(team);
    return trace;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Random random{1, data, size};
    RandomModel made(random_shape(random), random);
    for (int64_t n = random.between(0, 3); n > 0; --n) damage_model(random, made);
    std::vector<int32_t> first;
    s7_status first_status = S7_OK;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        s7_model *model = nullptr;
        const s7_status status = s7_model_create(&made.shape, &made.tables, &made.weights,
                                                 static_cast<s7_isa>(isa), &model);
        const auto trace =
            model == nullptr ? std::vector<int32_t>{} : calls(model, made.shape, random);
        s7_model_free(model);
        if (isa == S7_SCALAR) {
            first = trace;
            first_status = status;
        }
        if (status != first_status || trace != first) {
            std::fprintf(stderr, "instruction set %d differs from scalar\n", isa);
            std::abort();
        }
    }
    return first_status == S7_OK ? 0 : -1;
}

#ifndef S7_FUZZING_ENGINE
int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const time_t end = std::time(nullptr) + std::atoi(argv[1]);
    long n_models = 0, n_taken = 0;
    for (auto seed = std::strtoull(argv[2], nullptr, 10); std::time(nullptr) < end;
         ++seed, ++n_models) {
        Random random{seed * 0x9E3779B97F4A7C15ULL};
        uint8_t data[64];
        for (uint8_t &byte : data) byte = static_cast<uint8_t>(random.between(0, 255));
        std::fprintf(stderr, "seed %llu\n",
                     static_cast<unsigned long long>(seed));  // the last line names the culprit
        n_taken += LLVMFuzzerTestOneInput(data, sizeof data) == 0;
    }
    std::printf("%ld models, %ld taken\n", n_models, n_taken);
    return n_models == 0 || n_taken == 0 ||
           n_taken == n_models;  // some of both kinds, or it tests nothing
}
#endif
