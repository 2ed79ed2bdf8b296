// Text and ids, and steps of several sessions at once.
#include "model.h"
#include "utf8.h"
#include "weights.h"

using namespace s7f;

s7f_status s7f_encode(s7f_model *model, const char *text, size_t n_bytes, int32_t *ids, size_t room,
                      size_t *n_ids) {
    if (model == nullptr || n_ids == nullptr || (text == nullptr && n_bytes > 0) ||
        (ids == nullptr && room > 0))
        return S7F_NULL;
    const Slice bytes(text, n_bytes);
    for (size_t i = 0; i < n_bytes;) {
        const size_t length = utf8_length(bytes.bytes() + i, n_bytes - i);
        if (length == 0) return S7F_ARGUMENT;
        i += length;
    }
    Vec<i32> found;
    if (const s7f_status bad = model->tokenizer.encode(bytes, found)) return bad;
    *n_ids = found.size();
    if (found.size() > room) return S7F_ROOM;
    if (!found.empty()) std::memcpy(ids, found.data(), found.size() * sizeof(i32));
    return S7F_OK;
}

s7f_status s7f_decode(const s7f_model *model, const int32_t *ids, size_t n_ids, char *text,
                      size_t room, size_t *n_bytes) {
    if (model == nullptr || n_bytes == nullptr || (ids == nullptr && n_ids > 0) ||
        (text == nullptr && room > 0))
        return S7F_NULL;
    size_t n = 0;
    for (size_t i = 0; i < n_ids; ++i) {
        if (ids[i] < 0 || ids[i] >= model->info.vocab_size) return S7F_IDS;
        n += model->tokenizer.token(ids[i]).n;
    }
    *n_bytes = n;
    if (n > room) return S7F_ROOM;
    for (size_t i = 0; i < n_ids; ++i) {
        const Slice token = model->tokenizer.token(ids[i]);
        if (token.n > 0) std::memcpy(text, token.data, token.n);
        text += token.n;
    }
    return S7F_OK;
}

int32_t s7f_special_id(const s7f_model *model, const char *name) {
    return model == nullptr || name == nullptr ? -1 : model->tokenizer.special_id(slice_of(name));
}

namespace {

// The use of several sessions, all or none.
class Uses {
  public:
    ~Uses() {
        for (size_t i = n_; i-- > 0;) at(i).~Use();
    }
    s7f_status open(s7f_model *model, const s7f_session *sessions, size_t n, s7f_error *error) {
        if (!room_.resize(n)) return no_memory(error);
        for (size_t i = 0; i < n; ++i) {
            Use *made = new (room_[i].bytes) Use(model, sessions[i], error);
            ++n_;
            if (made->status() != S7F_OK) return made->status();
        }
        return S7F_OK;
    }
    Use &at(size_t i) { return *std::launder(reinterpret_cast<Use *>(room_[i].bytes)); }

  private:
    struct Place {
        alignas(Use) u8 bytes[sizeof(Use)];
    };
    Vec<Place> room_;
    size_t n_ = 0;
};

s7f_status check_ready(const s7f_model &model, Session &session, s7f_error *error) {
    if (const s7f_status bad = session.gate.require_open("step", error)) return bad;
    if (!session.has_logits)
        return refuse(error, S7F_GATE, "step", "a step before a prompt was read");
    if (session.length() <= model.info.context) return S7F_OK;
    return refuse(error, S7F_CONTEXT, "session", "the context of %d is full", model.info.context);
}

}  // namespace

s7f_status s7f_step_batch(s7f_model *model, const s7f_session *sessions, int32_t n, int32_t *ids,
                          s7f_error *error) {
    if (model == nullptr || sessions == nullptr || ids == nullptr)
        return refuse(error, S7F_NULL, "s7f_step_batch", "a pointer is missing");
    if (n < 1 || n > S7F_MAX_SESSIONS)
        return refuse(error, S7F_ARGUMENT, "s7f_step_batch", "%d sessions", n);
    Uses uses;
    if (const s7f_status bad = uses.open(model, sessions, static_cast<size_t>(n), error))
        return bad;
    Vec<s7_run> runs;
    if (!runs.reserve(static_cast<size_t>(n))) return no_memory(error);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        Session &session = *uses.at(i);
        if (const s7f_status bad = check_ready(*model, session, error)) return bad;
        if (session.pending < 0) continue;
        const s7_run run{session.cache, &session.pending, 1, 1, session.logits.data()};
        if (!runs.push(run)) return no_memory(error);
    }
    if (!runs.empty()) {
        Team team(*model);
        if (const s7f_status bad = team.open(error)) return bad;
        const s7_status status =
            s7_forward(team.get(), runs.data(), static_cast<int32_t>(runs.size()));
        if (status != S7_OK)
            return refuse(error, of_engine(status), "session", "%s", s7_status_text(status));
    }
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        Session &session = *uses.at(i);
        ids[i] = session.pending = argmax(session.logits.data(), model->info.vocab_size);
    }
    return S7F_OK;
}
