// Sessions of the interface: every call that reads weights or the cache asks the gate first.
#include <cstdio>

#include "model.h"
#include "text.h"
#include "utf8.h"
#include "weights.h"

namespace s7f {

namespace {

s7f_status missing(const char *call, s7f_error *error) {
    return refuse(error, S7F_NULL, call, "a pointer is missing");
}

s7f_status engine_refusal(s7_status status, s7f_error *error) {
    const s7f_status code = of_engine(status);
    return code == S7F_MEMORY ? no_memory(error)
                              : refuse(error, code, "session", "%s", s7_status_text(status));
}

s7f_status check_ids(const s7f_model &model, const Slice &call, const i32 *ids, size_t n,
                     s7f_error *error) {
    if (n == 0) return refuse(error, S7F_IDS, call.data, "there are no ids");
    for (size_t i = 0; i < n; ++i)
        if (ids[i] < 0 || ids[i] >= model.info.vocab_size)
            return refuse(error, S7F_IDS, call.data, "id %d is outside 0 to %d", ids[i],
                          model.info.vocab_size - 1);
    return S7F_OK;
}

s7f_status check_context(const s7f_model &model, const Session &session, u64 n_more,
                         s7f_error *error) {
    const u64 needed = static_cast<u64>(session.length()) + n_more;
    if (needed <= static_cast<u64>(model.info.context)) return S7F_OK;
    return refuse(error, S7F_CONTEXT, "session", "%llu positions exceed the context of %d",
                  static_cast<unsigned long long>(needed), model.info.context);
}

// Read what is pending and the ids; the logits are those behind them. Nothing changes on failure.
s7f_status read(s7f_model &model, Session &session, const i32 *ids, size_t n, s7f_error *error) {
    Vec<i32> all;
    if (session.pending >= 0 && !all.push(session.pending)) return no_memory(error);
    if (!all.append(ids, n)) return no_memory(error);
    Team team(model);
    if (const s7f_status bad = team.open(error)) return bad;
    const s7_run run{session.cache, all.data(), static_cast<i32>(all.size()), 1,
                     session.logits.data()};
    const s7_status status = s7_forward(team.get(), &run, 1);
    if (status != S7_OK) return engine_refusal(status, error);
    session.has_logits = true;
    session.pending = -1;
    return S7F_OK;
}

// Make the logits those of the next token.
s7f_status settle(s7f_model &model, Session &session, const char *call, s7f_error *error) {
    if (const s7f_status bad = session.gate.require_open(call, error)) return bad;
    if (!session.has_logits)
        return refuse(error, S7F_GATE, call, "a step before a prompt was read");
    if (session.pending < 0) return S7F_OK;
    if (const s7f_status bad = check_context(model, session, 0, error)) return bad;
    return read(model, session, nullptr, 0, error);
}

s7f_status step(s7f_model &model, Session &session, i32 &id, s7f_error *error) {
    if (const s7f_status bad = settle(model, session, "step", error)) return bad;
    id = session.pending = argmax(session.logits.data(), model.info.vocab_size);
    return S7F_OK;
}

// A session of a model; `from` gives it `length` positions.
s7f_status make(s7f_model &model, const Session *from, i32 length, Own<Session> &to,
                s7f_error *error) {
    if (!to.make() || !to->logits.resize(static_cast<size_t>(model.info.vocab_size)))
        return no_memory(error);
    const s7_status status = from == nullptr ? s7_session_create(model.engine, &to->cache)
                                             : s7_session_fork(from->cache, length, &to->cache);
    return status == S7_OK ? S7F_OK : engine_refusal(status, error);
}

s7f_status place(s7f_model &model, Own<Session> &made, s7f_session *to, s7f_error *error) {
    for (i32 i = 0; i < model.max_sessions; ++i) {
        Slot &slot = model.slots[i];
        u64 state = slot.state.load(std::memory_order_relaxed);
        const u64 generation = state / 4 + 1;
        if (state % 4 != 0 || !slot.state.compare_exchange_strong(state, generation * 4 + 2,
                                                                  std::memory_order_acquire))
            continue;
        slot.session = made.release();
        slot.state.store(generation * 4 + 1, std::memory_order_release);
        *to = generation << 16 | static_cast<u64>(i + 1);
        return S7F_OK;
    }
    return refuse(error, S7F_SESSIONS, "session", "%d sessions are open", model.max_sessions);
}

s7f_status prompt(s7f_model &model, Session &session, const Slice &text, const Slice &domain,
                  i32 max_tokens, s7f_error *error) {
    if (session.gate.state != s7f_gate::kStart)
        return refuse(error, S7F_GATE, "CM-1 gate", "a gate opens once: this session has begun");
    if (const s7f_status bad = check_prompt(text, error)) return bad;
    Vec<i32> ids;
    const s7f_status encoded = prompt_ids(model.tokenizer, text, domain, ids);
    if (encoded == S7F_MEMORY) return no_memory(error);
    if (encoded != S7F_OK)
        return refuse(error, encoded, "domain", "the vocabulary has no token <|%.*s|>",
                      shown(domain), domain.data);
    if (const s7f_status bad =
            check_context(model, session, ids.size() + static_cast<u64>(max_tokens), error))
        return bad;
    const s7f_gate::Mark before = session.gate.mark();
    s7f_status status = session.gate.feed("\1\2", error);
    if (status == S7F_OK) status = session.gate.feed(text, error);
    if (status == S7F_OK) status = session.gate.require_open("prompt", error);
    if (status == S7F_OK) status = read(model, session, ids.data(), ids.size(), error);
    if (status != S7F_OK) session.gate.back_to(before);
    return status;
}

s7f_status append(s7f_model &model, Session &session, const i32 *ids, size_t n, s7f_error *error) {
    if (const s7f_status bad = check_ids(model, "s7f_session_append", ids, n, error)) return bad;
    if (const s7f_status bad = check_context(model, session, n, error)) return bad;
    const s7f_gate::Mark before = session.gate.mark();
    s7f_status status = S7F_OK;
    if (session.gate.state == s7f_gate::kStart) status = session.gate.feed("\1\2", error);
    if (status == S7F_OK) status = session.gate.require_open("append", error);
    for (size_t i = 0; status == S7F_OK && i < n; ++i)
        status = session.gate.feed(model.tokenizer.token(ids[i]), error);
    if (status == S7F_OK) status = session.gate.require_open("append", error);
    // A character that the gate refuses shuts it; anything else leaves all as it was.
    if (status == S7F_OK) status = read(model, session, ids, n, error);
    if (status != S7F_OK && status != S7F_GATE) session.gate.back_to(before);
    return status;
}

s7f_status generate(s7f_model &model, Session &session, i32 max_tokens, s7f_on_text on_text,
                    void *user, i32 &n_tokens, s7f_error *error) {
    s7f_text stream{};
    Vec<char> out;
    int stop = 0;
    const auto hand_over = [&](size_t n) {
        if (n > 0) stop = on_text(user, out.data(), n);
    };
    for (; n_tokens < max_tokens && stop == 0;) {
        i32 id = 0;
        if (const s7f_status bad = step(model, session, id, error)) return bad;
        ++n_tokens;
        if (model.tokenizer.roles().is_end(id)) break;
        const Slice token = model.tokenizer.token(id);
        if (!out.resize(3 * token.n + 3)) return no_memory(error);
        hand_over(text_feed(stream, token, out.data(), out.size()));
    }
    if (stop == 0 && !out.resize(3)) return no_memory(error);
    if (stop == 0) hand_over(text_end(stream, out.data(), out.size()));
    return stop == 0 ? S7F_OK : refuse(error, S7F_STOPPED, "on_text", "it gave %d", stop);
}

}  // namespace

}  // namespace s7f

using namespace s7f;

s7f_status s7f_session_open(s7f_model *model, s7f_session *session, s7f_error *error) {
    if (model == nullptr || session == nullptr) return missing("s7f_session_open", error);
    Own<Session> made;
    if (const s7f_status bad = make(*model, nullptr, 0, made, error)) return bad;
    return place(*model, made, session, error);
}

s7f_status s7f_session_close(s7f_model *model, s7f_session *session) {
    if (session == nullptr) return S7F_NULL;
    Use use(model, *session, nullptr);
    if (use.status() != S7F_OK) return use.status();
    use.close();
    *session = 0;
    return S7F_OK;
}

s7f_status s7f_session_prompt(s7f_model *model, s7f_session session, const char *text,
                              size_t n_bytes, const char *domain, int32_t max_tokens,
                              s7f_error *error) {
    if (text == nullptr && n_bytes > 0) return missing("s7f_session_prompt", error);
    if (max_tokens < 0)
        return refuse(error, S7F_ARGUMENT, "max_tokens", "%d is below 0", max_tokens);
    Use use(model, session, error);
    if (use.status() != S7F_OK) return use.status();
    const Slice name = domain == nullptr ? Slice() : slice_of(domain);
    return prompt(*model, *use, {text, n_bytes}, name, max_tokens, error);
}

s7f_status s7f_session_append(s7f_model *model, s7f_session session, const int32_t *ids,
                              size_t n_ids, s7f_error *error) {
    if (ids == nullptr && n_ids > 0) return missing("s7f_session_append", error);
    Use use(model, session, error);
    if (use.status() != S7F_OK) return use.status();
    return append(*model, *use, ids, n_ids, error);
}

s7f_status s7f_session_end(s7f_model *model, s7f_session session, s7f_error *error) {
    Use use(model, session, error);
    if (use.status() != S7F_OK) return use.status();
    return use->gate.feed("\3\4", error);
}

s7f_status s7f_session_fork(s7f_model *model, s7f_session from, int32_t length,
                            s7f_session *session, s7f_error *error) {
    if (session == nullptr) return missing("s7f_session_fork", error);
    Use use(model, from, error);
    if (use.status() != S7F_OK) return use.status();
    const i32 held = s7_session_length(use->cache);
    if (length < -1 || length > held)
        return refuse(error, S7F_CONTEXT, "length", "position %d of a session of %d", length, held);
    Own<Session> made;
    if (const s7f_status bad = make(*model, &*use, length < 0 ? held : length, made, error))
        return bad;
    if (!use->gate.copy_to(made->gate)) return no_memory(error);
    if (length < 0) {
        std::memcpy(made->logits.data(), use->logits.data(), use->logits.size() * sizeof(i32));
        made->has_logits = use->has_logits;
        made->pending = use->pending;
    }
    return place(*model, made, session, error);
}

int32_t s7f_session_length(s7f_model *model, s7f_session session) {
    Use use(model, session, nullptr);
    return use.status() == S7F_OK ? static_cast<int32_t>(use->length()) : -1;
}

s7f_status s7f_session_step(s7f_model *model, s7f_session session, int32_t *id, s7f_error *error) {
    if (id == nullptr) return missing("s7f_session_step", error);
    Use use(model, session, error);
    if (use.status() != S7F_OK) return use.status();
    return step(*model, *use, *id, error);
}

s7f_status s7f_session_logits(s7f_model *model, s7f_session session, int32_t *logits, size_t room,
                              s7f_error *error) {
    if (logits == nullptr) return missing("s7f_session_logits", error);
    Use use(model, session, error);
    if (use.status() != S7F_OK) return use.status();
    if (room < use->logits.size())
        return refuse(error, S7F_ROOM, "logits", "%zu numbers, %zu are needed", room,
                      use->logits.size());
    if (const s7f_status bad = settle(*model, *use, "logits", error)) return bad;
    std::memcpy(logits, use->logits.data(), use->logits.size() * sizeof(i32));
    return S7F_OK;
}

s7f_status s7f_session_generate(s7f_model *model, s7f_session session, int32_t max_tokens,
                                s7f_on_text on_text, void *user, int32_t *n_tokens,
                                s7f_error *error) {
    if (n_tokens != nullptr) *n_tokens = 0;
    if (on_text == nullptr) return missing("s7f_session_generate", error);
    if (max_tokens < 0)
        return refuse(error, S7F_ARGUMENT, "max_tokens", "%d is below 0", max_tokens);
    Use use(model, session, error);
    if (use.status() != S7F_OK) return use.status();
    i32 n_done = 0;
    const s7f_status status = generate(*model, *use, max_tokens, on_text, user, n_done, error);
    if (n_tokens != nullptr) *n_tokens = n_done;
    return status;
}

s7f_status s7f_text_feed(const s7f_model *model, s7f_text *text, const int32_t *ids, size_t n_ids,
                         char *to, size_t room, size_t *n_bytes) {
    if (model == nullptr || text == nullptr || n_bytes == nullptr || (ids == nullptr && n_ids > 0))
        return S7F_NULL;
    if (to == nullptr && room > 0) return S7F_NULL;
    if (text->n_held > 3 || text->n_wanted > 4) return S7F_ARGUMENT;
    if (const s7f_status bad =
            n_ids == 0 ? S7F_OK : check_ids(*model, "s7f_text_feed", ids, n_ids, nullptr))
        return bad;
    size_t n_most = 3;
    for (size_t i = 0; i < n_ids; ++i) n_most += 3 * model->tokenizer.token(ids[i]).n;
    if (room < n_most) return *n_bytes = n_most, S7F_ROOM;
    size_t n = 0;
    for (size_t i = 0; i < n_ids; ++i)
        n += text_feed(*text, model->tokenizer.token(ids[i]), to + n, room - n);
    *n_bytes = n_ids > 0 ? n : text_end(*text, to, room);
    return S7F_OK;
}
