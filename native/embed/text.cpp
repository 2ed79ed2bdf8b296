// Text from bytes of tokens: whole characters as they come, U+FFFD for what is no UTF-8, as
// Python's incremental decoder gives them.
#include "text.h"

#include "utf8.h"

namespace s7f {

namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// Appends while there is room, and counts on.
struct Sink {
    char *to;
    size_t room, n = 0;
    void put(const void *from, size_t length) {
        if (n + length <= room) std::memcpy(to + n, from, length);
        n += length;
    }
};

void take(s7f_text &text, u8 byte, Sink &sink) {
    if (text.n_held > 0) {
        if (byte >= text.low && byte <= text.high) {
            text.held[text.n_held++] = byte;
            text.low = 0x80, text.high = 0xBF;
            if (text.n_held < text.n_wanted) return;
            sink.put(text.held, text.n_held);
            text.n_held = 0;
            return;
        }
        // What was held is no character; the byte may begin one.
        sink.put(kReplacement, 3);
        text.n_held = 0;
    }
    const Utf8Start start = utf8_start(byte);
    if (start.n_bytes == 0) return sink.put(kReplacement, 3);
    if (start.n_bytes == 1) return sink.put(&byte, 1);
    text.held[0] = byte;
    text.n_held = 1;
    text.n_wanted = start.n_bytes;
    text.low = start.low, text.high = start.high;
}

}  // namespace

size_t text_feed(s7f_text &text, const Slice &bytes, char *to, size_t room) {
    Sink sink{to, room};
    for (size_t i = 0; i < bytes.n; ++i) take(text, bytes.bytes()[i], sink);
    return sink.n;
}

size_t text_end(s7f_text &text, char *to, size_t room) {
    Sink sink{to, room};
    if (text.n_held > 0) sink.put(kReplacement, 3);
    text = s7f_text{};
    return sink.n;
}

}  // namespace s7f

size_t s7f_visible_text(char *text, size_t n_bytes) {
    using namespace s7f;
    if (text == nullptr) return 0;
    const u8 *from = reinterpret_cast<const u8 *>(text);
    size_t kept = 0;
    for (size_t i = 0; i < n_bytes;) {
        // A byte that begins no character stands for itself.
        const size_t length = utf8_length(from + i, n_bytes - i), taken = length == 0 ? 1 : length;
        if (length == 0 || !is_control(utf8_code_point(from + i, length))) {
            std::memmove(text + kept, text + i, taken);
            kept += taken;
        }
        i += taken;
    }
    return kept;
}
