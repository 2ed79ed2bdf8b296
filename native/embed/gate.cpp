// The gate: one character at a time; no way leads back from a refusal.
#include "gate.h"

#include <cstdio>

#include "utf8.h"

namespace s7f {

namespace {

constexpr u8 kSoh = 0x01, kStx = 0x02, kEtx = 0x03, kEot = 0x04, kSo = 0x0E, kSi = 0x0F,
             kDle = 0x10;
constexpr int kMaxDepth = 15;
constexpr size_t kMaxHeader = 1024, kMaxBody = size_t{16} << 20;

// What a byte below 0x80 that is no text may be: a character that some state has an arrow for, or
// one that none has.
bool is_refused_byte(u8 byte) { return byte < 0x80 && is_control(byte); }

bool has_meaning(u8 code) {
    return (code >= kSoh && code <= kEot) || (code >= kSo && code <= kDle);
}

}  // namespace

s7f_status check_prompt(const Slice &text, s7f_error *error) {
    u64 n_characters = 0;
    for (size_t i = 0; i < text.n; ++n_characters) {
        const size_t length = utf8_length(text.bytes() + i, text.n - i);
        if (length == 0)
            return refuse(error, S7F_GATE, "prompt", "the bytes at offset %zu are not UTF-8", i);
        const u32 code_point = utf8_code_point(text.bytes() + i, length);
        if (is_control(code_point))
            return refuse(error, S7F_GATE, "prompt", "control character U+%04X at offset %llu",
                          code_point, static_cast<unsigned long long>(n_characters));
        i += length;
    }
    if (text.n <= kMaxBody) return S7F_OK;
    return refuse(error, S7F_GATE, "prompt", "it has %zu bytes, the gate takes %zu", text.n,
                  kMaxBody);
}

}  // namespace s7f

using namespace s7f;

s7f_status s7f_gate::refuse_here(s7f_error *error, const char *what) const {
    static constexpr const char *kStates[] = {"start",   "header", "body",  "shifted",
                                              "literal", "closed", "ended", "refused"};
    char text[160];
    std::snprintf(text, sizeof text, "%s at offset %llu, in state %s", what,
                  static_cast<unsigned long long>(offset), kStates[state]);
    return refuse(error, S7F_GATE, "CM-1 stream", "%s", text);
}

s7f_status s7f_gate::keep(const char *text, size_t n, s7f_error *error) {
    const bool in_header = state == kHeader;
    Vec<char> &to = in_header ? header : body;
    if (to.size() + n > (in_header ? kMaxHeader : kMaxBody))
        return refuse_here(error, in_header ? "a header past 1024 bytes" : "a body past 16 MiB");
    return to.append(text, n) ? S7F_OK : no_memory(error);
}

// The character whose bytes are held is whole.
s7f_status s7f_gate::character(s7f_error *error) {
    const u32 code_point = utf8_code_point(held_, n_held_);
    const bool white = code_point == '\t' || code_point == '\n' || code_point == '\r';
    if (is_control(code_point) || (state == kHeader && white))
        return refuse_here(error, "a control character");
    const s7f_status bad = keep(reinterpret_cast<const char *>(held_), n_held_, error);
    if (bad == S7F_OK) n_held_ = 0;
    return bad;
}

s7f_status s7f_gate::take_control(u8 code, s7f_error *error) {
    if (n_held_ > 0) return refuse_here(error, "bytes that are not UTF-8");
    State next = kRefused;
    if (state == kLiteral && has_meaning(code)) {
        state = kBody;
        const char text = static_cast<char>(code);
        if (const s7f_status bad = keep(&text, 1, error)) return bad;
        next = kBody;
    } else if (state == kStart && code == kSoh) {
        next = kHeader;
    } else if (state == kHeader && code == kStx) {
        next = kBody;
    } else if (state == kBody && code == kEtx) {
        next = kClosed;
    } else if (state == kClosed && code == kEot) {
        next = kEnded;
    } else if (is_open() && code == kDle) {
        next = kLiteral;
    } else if (is_open() && code == kSo && depth < kMaxDepth) {
        ++depth;
        next = kBody;
    } else if (state == kShifted && code == kSi) {
        --depth;
        next = kBody;
    } else {
        return refuse_here(error, "a control character");
    }
    state = next == kBody && depth > 0 ? kShifted : next;
    return S7F_OK;
}

s7f_status s7f_gate::take(u8 byte, s7f_error *error) {
    if (is_refused_byte(byte)) return take_control(byte, error);
    if (state != kHeader && !is_open()) return refuse_here(error, "text where there is none");
    if (n_held_ == 0) {
        const Utf8Start start = utf8_start(byte);
        if (start.n_bytes == 0) return refuse_here(error, "a byte that is not UTF-8");
        held_[n_held_++] = byte;
        return start.n_bytes == 1 ? character(error) : S7F_OK;
    }
    const Utf8Start start = utf8_start(held_[0]);
    const u8 low = n_held_ == 1 ? start.low : 0x80, high = n_held_ == 1 ? start.high : 0xBF;
    if (byte < low || byte > high) return refuse_here(error, "bytes that are not UTF-8");
    held_[n_held_++] = byte;
    return n_held_ == start.n_bytes ? character(error) : S7F_OK;
}

s7f_status s7f_gate::feed(const Slice &bytes, s7f_error *error) {
    for (size_t i = 0; i < bytes.n; ++i, ++offset) {
        const s7f_status bad = take(bytes.bytes()[i], error);
        if (bad != S7F_OK) {
            state = kRefused;
            return bad;
        }
    }
    return S7F_OK;
}

s7f_status s7f_gate::require_open(const char *call, s7f_error *error) const {
    if (is_open()) return S7F_OK;
    return refuse(error, S7F_GATE, "CM-1 gate", "%s outside STX..ETX", call);
}

s7f_gate::Mark s7f_gate::mark() const {
    Mark made{state, offset, depth, {}, n_held_, header.size(), body.size()};
    std::memcpy(made.held, held_, sizeof held_);
    return made;
}

void s7f_gate::back_to(const Mark &mark) {
    state = mark.state;
    offset = mark.offset;
    depth = mark.depth;
    std::memcpy(held_, mark.held, sizeof held_);
    n_held_ = mark.n_held;
    header.shrink(mark.n_header);
    body.shrink(mark.n_body);
}

bool s7f_gate::copy_to(s7f_gate &to) const {
    to.state = state;
    to.offset = offset;
    to.depth = depth;
    std::memcpy(to.held_, held_, sizeof held_);
    to.n_held_ = n_held_;
    to.header.shrink(0);
    to.body.shrink(0);
    return to.header.append(header.data(), header.size()) &&
           to.body.append(body.data(), body.size());
}

s7f_status s7f_gate_open(s7f_gate **gate) {
    if (gate == nullptr) return S7F_NULL;
    auto *made = new (std::nothrow) s7f_gate;
    if (made == nullptr) return S7F_MEMORY;
    *gate = made;
    return S7F_OK;
}

void s7f_gate_close(s7f_gate **gate) {
    if (gate == nullptr) return;
    delete *gate;
    *gate = nullptr;
}

s7f_status s7f_gate_feed(s7f_gate *gate, const void *bytes, size_t n_bytes, s7f_error *error) {
    if (gate == nullptr || (bytes == nullptr && n_bytes > 0))
        return refuse(error, S7F_NULL, "s7f_gate_feed", "a pointer is missing");
    return gate->feed({static_cast<const char *>(bytes), n_bytes}, error);
}

int32_t s7f_gate_is_open(const s7f_gate *gate) { return gate != nullptr && gate->is_open(); }

int32_t s7f_gate_is_ended(const s7f_gate *gate) {
    return gate != nullptr && gate->state == s7f_gate::kEnded;
}

const char *s7f_gate_header(const s7f_gate *gate, size_t *n_bytes) {
    if (n_bytes != nullptr) *n_bytes = gate == nullptr ? 0 : gate->header.size();
    return gate == nullptr ? nullptr : gate->header.data();
}

const char *s7f_gate_body(const s7f_gate *gate, size_t *n_bytes) {
    if (n_bytes != nullptr) *n_bytes = gate == nullptr ? 0 : gate->body.size();
    return gate == nullptr ? nullptr : gate->body.data();
}
