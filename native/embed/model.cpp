// Opens a model, and decides which thread may use which part of it.
#include "model.h"

#include <algorithm>
#include <cstdio>

#include "rules.h"
#include "weights.h"

namespace s7f {

namespace {

constexpr u64 kFree = 0, kIdle = 1, kInUse = 2;

s7f_status check_runnable(const s7f_file &file, s7f_error *error) {
    if (file.lanes.empty())
        return refuse(error, S7F_HEADER_ONLY, "header",
                      "the file is a header without lanes: it holds no model");
    if (file.is_published())
        return refuse(error, S7F_PUBLISHED, "header, offset 4",
                      "format version %d of the published contract: no seal binds it",
                      file.version);
    if (!file.has[kProvenance])
        return refuse(error, S7F_ANONYMOUS, "EDGE",
                      "the file does not say where it comes from (rule D6)");
    s7f_rule rules[S7F_N_RULES];
    if (check_rules(file, false, rules) != S7F_OK) return no_memory(error);
    return refuse_failed(rules, error);
}

s7f_status check_options(const s7f_options &options, s7f_error *error) {
    if (options.size != sizeof(s7f_options))
        return refuse(error, S7F_ARGUMENT, "options.size",
                      "%u bytes, this library has %zu: call s7f_options_init", options.size,
                      sizeof(s7f_options));
    if (options.n_threads < 1 || options.n_threads > S7F_MAX_THREADS)
        return refuse(error, S7F_THREADS, "options.n_threads", "%d is not 1 to %d",
                      options.n_threads, S7F_MAX_THREADS);
    if (options.max_sessions < 1 || options.max_sessions > S7F_MAX_SESSIONS)
        return refuse(error, S7F_ARGUMENT, "options.max_sessions", "%d is not 1 to %d",
                      options.max_sessions, S7F_MAX_SESSIONS);
    if (options.isa < -1 || options.isa >= S7_ISA_COUNT ||
        (options.isa >= 0 && !s7_isa_supported(static_cast<s7_isa>(options.isa))))
        return refuse(error, S7F_ISA, "options.isa", "instruction set %d is not here", options.isa);
    return S7F_OK;
}

void fill_info(s7f_model &model, const s7f_file &file, const s7f_options &options, s7_isa isa) {
    s7f_info &info = model.info;
    const s7_shape &shape = model.shape;
    const Roles &roles = model.tokenizer.roles();
    std::memcpy(info.root, file.root_hex, sizeof info.root);
    info.vocab_size = shape.vocab_size, info.context = shape.context;
    info.d_model = shape.d_model, info.n_layers = shape.n_layers;
    info.n_experts = shape.n_experts;
    info.isa = isa, info.n_threads = options.n_threads;
    info.weight_bytes = s7_model_bytes(model.engine);
    info.boundary = roles.boundary, info.begin = roles.begin, info.pad = roles.pad;
    info.n_ends = static_cast<i32>(roles.n_ends);
    std::copy(roles.ends, roles.ends + roles.n_ends, info.ends);
}

s7f_status open_model(const s7f_file &file, const s7f_options &options, s7f_model &to,
                      s7f_error *error) {
    if (const s7f_status bad = check_options(options, error)) return bad;
    if (const s7f_status bad = check_runnable(file, error)) return bad;
    const s7_isa isa = options.isa < 0 ? widest_isa() : static_cast<s7_isa>(options.isa);
    if (const s7f_status bad = load_engine(file, isa, &to.engine, to.shape, error)) return bad;
    if (const s7f_status bad = to.tokenizer.open(file.dictionary(), file.of(kGraph), error))
        return bad;
    if (to.tokenizer.vocab_size() != to.shape.vocab_size)
        return refuse(error, S7F_TOKENIZER, "DICT", "it has %d entries, the model %d",
                      to.tokenizer.vocab_size(), to.shape.vocab_size);
    to.slots = new (std::nothrow) Slot[static_cast<size_t>(options.max_sessions)];
    if (to.slots == nullptr || read_golden(file, 0, to.golden) != S7F_OK) return no_memory(error);
    to.max_sessions = options.max_sessions;
    fill_info(to, file, options, isa);
    {
        Team team(to);  // threads that cannot be had are said here
        if (const s7f_status bad = team.open(error)) return bad;
    }
    return self_test(to, error);
}

}  // namespace

s7f_status self_test(s7f_model &model, s7f_error *error) {
    Golden found;
    const s7f_status bad = run_golden(model.engine, model.shape, model.golden, found);
    if (bad == S7F_MEMORY) return no_memory(error);
    if (bad != S7F_OK)
        return refuse(error, S7F_GRAPH, "golden prompt 0", "it does not fit the model: %s",
                      s7f_status_text(bad));
    if (found.logits == model.golden.logits) return S7F_OK;
    return refuse(error, S7F_SELF_TEST, "golden prompt 0",
                  "instruction set %d gives logits %.16s, the seal says %.16s", model.info.isa,
                  Hex(found.logits).text, Hex(model.golden.logits).text);
}

Use::Use(s7f_model *model, s7f_session handle, s7f_error *error) {
    if (model == nullptr) {
        status_ = refuse(error, S7F_NULL, "model", "a pointer is missing");
        return;
    }
    const u64 index = (handle & 0xFFFF) - 1;
    generation_ = handle >> 16;
    if ((handle & 0xFFFF) == 0 || index >= static_cast<u64>(model->max_sessions)) {
        status_ = refuse(error, S7F_CLOSED, "session", "there is no such session");
        return;
    }
    Slot &slot = model->slots[index];
    u64 found = generation_ * 4 + kIdle;
    if (slot.state.compare_exchange_strong(found, generation_ * 4 + kInUse,
                                           std::memory_order_acquire)) {
        slot_ = &slot;
        status_ = S7F_OK;
        return;
    }
    const bool busy = found == generation_ * 4 + kInUse;
    status_ = busy ? refuse(error, S7F_BUSY, "session", "another thread is using it")
                   : refuse(error, S7F_CLOSED, "session", "it is closed");
}

Use::~Use() {
    if (slot_ != nullptr) slot_->state.store(generation_ * 4 + kIdle, std::memory_order_release);
}

void Use::close() {
    delete std::exchange(slot_->session, nullptr);
    slot_->state.store(generation_ * 4 + kFree, std::memory_order_release);
    slot_ = nullptr;
}

s7f_status Team::open(s7f_error *error) {
    for (auto &idle : model_.teams) {
        team_ = idle.exchange(nullptr, std::memory_order_acquire);
        if (team_ != nullptr) return S7F_OK;
    }
    const s7_status status = s7_team_create(model_.engine, model_.info.n_threads, &team_);
    if (status == S7_OK) return S7F_OK;
    if (status == S7_NO_MEMORY) return no_memory(error);
    return refuse(error, S7F_THREADS, "options.n_threads", "%d threads cannot be had",
                  model_.info.n_threads);
}

Team::~Team() {
    for (auto &idle : model_.teams) {
        s7_team *none = nullptr;
        if (team_ == nullptr ||
            idle.compare_exchange_strong(none, team_, std::memory_order_release))
            return;
    }
    s7_team_free(team_);
}

}  // namespace s7f

using namespace s7f;

s7f_model::~s7f_model() {
    for (i32 i = 0; i < max_sessions; ++i) delete slots[i].session;
    delete[] slots;
    for (auto &team : teams) s7_team_free(team.load());
    s7_model_free(engine);
}

void s7f_options_init(s7f_options *options) {
    if (options == nullptr) return;
    *options = {};
    options->size = sizeof(s7f_options);
    options->n_threads = 1;
    options->isa = -1;
    options->max_sessions = 64;
}

s7f_status s7f_model_open(const s7f_file *file, const s7f_options *options, s7f_model **model,
                          s7f_error *error) {
    if (file == nullptr || model == nullptr)
        return refuse(error, S7F_NULL, "s7f_model_open", "a pointer is missing");
    s7f_options chosen;
    s7f_options_init(&chosen);
    if (options != nullptr) chosen = *options;
    Own<s7f_model> made;
    if (!made.make()) return no_memory(error);
    if (const s7f_status bad = open_model(*file, chosen, *made, error)) return bad;
    *model = made.release();
    return S7F_OK;
}

s7f_status s7f_model_open_path(const char *path, const s7f_options *options, s7f_model **model,
                               s7f_error *error) {
    s7f_file *file = nullptr;
    if (model == nullptr) return refuse(error, S7F_NULL, "model", "a pointer is missing");
    if (const s7f_status bad = s7f_file_open_path(path, &file, error)) return bad;
    const s7f_status status = s7f_model_open(file, options, model, error);
    s7f_file_close(&file);
    return status;
}

void s7f_model_close(s7f_model **model) {
    if (model == nullptr) return;
    delete *model;
    *model = nullptr;
}

s7f_status s7f_model_info(const s7f_model *model, s7f_info *info) {
    if (model == nullptr || info == nullptr) return S7F_NULL;
    *info = model->info;
    return S7F_OK;
}

s7f_status s7f_self_test(s7f_model *model, s7f_error *error) {
    if (model == nullptr) return refuse(error, S7F_NULL, "model", "a pointer is missing");
    return self_test(*model, error);
}
