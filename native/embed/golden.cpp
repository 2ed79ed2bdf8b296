// The self-test and the replay of rule V6.
#include "golden.h"

#include <cstdio>

#include "rules.h"
#include "weights.h"

namespace s7f {

namespace {

bool read_ids(const Document &document, const Value *list, Vec<i32> &to) {
    for (u32 i = 0; i < list->n; ++i) {
        i64 id = -1;
        (void)integer_within(&document.child(*list, i), 0, INT32_MAX, id);
        if (!to.push(static_cast<i32>(id))) return false;
    }
    return true;
}

bool same(const Vec<i32> &a, const Vec<i32> &b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(i32)) == 0;
}

struct Engine {
    s7_model *model = nullptr;
    s7_shape shape{};
    ~Engine() { s7_model_free(model); }
};

// One golden prompt on one engine: "" when all is as it was sealed, else what is not.
s7f_status replay_one(const s7f_file &file, u32 index, const Engine &engine, Tokenizer &tokenizer,
                      const char *&differs) {
    const Document &provenance = file.of(kProvenance);
    const Value &row = provenance.child(*provenance.get("golden"), index);
    const Value *domain = provenance.get(&row, "domain");
    Golden sealed, found;
    if (const s7f_status bad = read_golden(file, index, sealed)) return bad;
    const Slice name = domain != nullptr && domain->is(Kind::kString) ? domain->text : Slice();
    if (const s7f_status bad =
            prompt_ids(tokenizer, provenance.get(&row, "prompt")->text, name, found.ids))
        return bad;
    if (!same(found.ids, sealed.ids)) {
        differs = "other ids";
        return S7F_OK;
    }
    if (const s7f_status bad = run_golden(engine.model, engine.shape, sealed, found)) return bad;
    if (!same(found.tokens, sealed.tokens)) differs = "other tokens";
    if (!(found.logits == sealed.logits)) differs = "other logits";
    return S7F_OK;
}

// Fail the rule, or say that there is no memory.
bool cannot(Rule &rule, s7f_status status, const s7f_error &error) {
    if (status == S7F_MEMORY) return rule.memory(false);
    return rule.need(false, "the golden prompts cannot be replayed: %s: %s", error.where,
                     error.what);
}

}  // namespace

i32 argmax(const i32 *logits, i64 n) {
    i64 best = 0;
    for (i64 i = 1; i < n; ++i)
        if (logits[i] > logits[best]) best = i;
    return static_cast<i32>(best);
}

s7f_status read_golden(const s7f_file &file, u32 index, Golden &to) {
    const Document &provenance = file.of(kProvenance);
    const Value &row = provenance.child(*provenance.get("golden"), index);
    if (!read_ids(provenance, provenance.get(&row, "ids"), to.ids) ||
        !read_ids(provenance, provenance.get(&row, "tokens"), to.tokens))
        return S7F_MEMORY;
    (void)integer_within(provenance.get(&row, "n_steps"), 1, INT64_MAX, to.n_steps);
    const Slice text = provenance.get(&row, "logits_sha256")->text;
    for (size_t i = 0; i < kDigest; ++i) {
        unsigned byte = 0;
        char two[3] = {text.data[2 * i], text.data[2 * i + 1], 0};
        (void)std::sscanf(two, "%2x", &byte);
        to.logits.bytes[i] = static_cast<u8>(byte);
    }
    return S7F_OK;
}

s7f_status run_golden(const s7_model *engine, const s7_shape &shape, const Golden &from,
                      Golden &to) {
    Vec<i32> logits;
    if (!logits.resize(static_cast<size_t>(shape.vocab_size))) return S7F_MEMORY;
    if (from.ids.size() > static_cast<size_t>(shape.context)) return S7F_CONTEXT;
    s7_session *session = nullptr;
    s7_team *team = nullptr;
    s7_status status = s7_session_create(engine, &session);
    if (status == S7_OK) status = s7_team_create(engine, 1, &team);
    bool memory = true;
    Sha256 hash;
    i32 token = 0;
    for (i64 step = 0; status == S7_OK && memory && step < from.n_steps; ++step) {
        const s7_run run{session, step == 0 ? from.ids.data() : &token,
                         step == 0 ? static_cast<i32>(from.ids.size()) : 1, 1, logits.data()};
        status = s7_forward(team, &run, 1);
        if (status != S7_OK) break;
        token = argmax(logits.data(), shape.vocab_size);
        memory = to.tokens.push(token);
        for (const i32 logit : logits) {
            const u32 bits = static_cast<u32>(logit);
            const u8 bytes[4] = {static_cast<u8>(bits >> 24), static_cast<u8>(bits >> 16),
                                 static_cast<u8>(bits >> 8), static_cast<u8>(bits)};
            hash.add(bytes, 4);
        }
    }
    s7_team_free(team);
    s7_session_free(session);
    to.logits = hash.digest();
    return memory ? of_engine(status) : S7F_MEMORY;
}

s7f_status prompt_ids(Tokenizer &tokenizer, const Slice &prompt, const Slice &domain,
                      Vec<i32> &ids) {
    const Roles &roles = tokenizer.roles();
    if (domain.n > 0) {
        char name[80];
        if (domain.n > sizeof name - 5) return S7F_ARGUMENT;
        const int n =
            std::snprintf(name, sizeof name, "<|%.*s|>", static_cast<int>(domain.n), domain.data);
        const i32 lead = tokenizer.special_id({name, static_cast<size_t>(n)});
        if (lead < 0) return S7F_ARGUMENT;
        if (!ids.push(lead)) return S7F_MEMORY;
    }
    if (roles.begin >= 0 && !ids.push(roles.begin)) return S7F_MEMORY;
    const size_t before = ids.size();
    if (const s7f_status bad = tokenizer.encode(prompt, ids)) return bad;
    // A text without ids begins with the token between two documents.
    if (roles.begin < 0 && ids.size() == before && !ids.push(roles.boundary)) return S7F_MEMORY;
    return S7F_OK;
}

bool v6_replay(Rule &rule) {
    const s7f_file &file = rule.file;
    const u32 n_golden = file.of(kProvenance).get("golden")->n;
    u32 n_replays = 0;
    for (int isa = 0; isa < S7_ISA_COUNT; ++isa) {
        if (!s7_isa_supported(static_cast<s7_isa>(isa))) continue;
        s7f_error error{};
        Engine engine;
        Tokenizer tokenizer;
        s7f_status bad =
            load_engine(file, static_cast<s7_isa>(isa), &engine.model, engine.shape, &error);
        if (bad == S7F_OK) bad = tokenizer.open(file.dictionary(), file.of(kGraph), &error);
        if (bad == S7F_OK && tokenizer.vocab_size() != engine.shape.vocab_size)
            bad = refuse(&error, S7F_TOKENIZER, "DICT", "it has another number of ids");
        if (bad != S7F_OK) return cannot(rule, bad, error);
        for (u32 i = 0; i < n_golden; ++i, ++n_replays) {
            const char *differs = nullptr;
            bad = replay_one(file, i, engine, tokenizer, differs);
            if (bad != S7F_OK) {
                refuse(&error, bad, "golden prompt", "%s", s7f_status_text(bad));
                return cannot(rule, bad, error);
            }
            if (!rule.need(differs == nullptr,
                           "golden prompt %u on instruction set %d: sealed one run, replayed %s", i,
                           isa, differs))
                return false;
        }
    }
    rule.say(
        "chunks and parts taken again: the same; %u golden replays, logits the same bit for "
        "bit",
        n_replays);
    return true;
}

}  // namespace s7f
