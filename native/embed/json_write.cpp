// Canonical bytes: keys by code point, no spaces, ASCII with escapes, floats as Python's repr.
#include <cmath>

#include "decimal.h"
#include "json.h"
#include "utf8.h"

namespace s7f {

namespace {

class Comparing final : public CanonicalWriter {
  public:
    explicit Comparing(const Slice &wanted) : left_(wanted) {}
    bool all() const { return left_.n == 0; }

  protected:
    bool take(const char *data, size_t n) override {
        if (!left_.starts_with({data, n})) return false;
        left_ = left_.from(n);
        return true;
    }

  private:
    Slice left_;
};

class Counting final : public CanonicalWriter {
  public:
    u64 n_bytes = 0;

  protected:
    bool take(const char *, size_t n) override {
        n_bytes += n;
        return true;
    }
};

class Hashing final : public CanonicalWriter {
  public:
    explicit Hashing(TaggedDigest &to) : to_(to) {}

  protected:
    bool take(const char *data, size_t n) override {
        to_.add({data, n});
        return true;
    }

  private:
    TaggedDigest &to_;
};

}  // namespace

bool CanonicalWriter::write(const Document &document, const Value &value) {
    switch (value.kind) {
        case Kind::kNull:
            return take("null", 4);
        case Kind::kFalse:
            return take("false", 5);
        case Kind::kTrue:
            return take("true", 4);
        case Kind::kString:
            return string(value.text);
        case Kind::kInteger:
        case Kind::kFloat:
            return number(value);
        default:
            return member(document, value);
    }
}

// The depth of a document bounds the recursion.
bool CanonicalWriter::member(const Document &document, const Value &value) {
    const bool object = value.is(Kind::kObject);
    if (!take(object ? "{" : "[", 1)) return false;
    for (u32 i = 0; i < value.n; ++i) {
        const Value &item = object ? document.by_key(value, i) : document.child(value, i);
        if (i > 0 && !take(",", 1)) return false;
        if (object && (!string(item.key) || !take(":", 1))) return false;
        if (!write(document, item)) return false;
    }
    return take(object ? "}" : "]", 1);
}

bool CanonicalWriter::number(const Value &value) {
    if (value.is(Kind::kInteger))
        return value.text == Slice("-0") ? take("0", 1) : take(value.text.data, value.text.n);
    const double read = parse_double(value.text);
    char text[kDoubleRoom];
    return std::isfinite(read) && take(text, repr_double(read, text));
}

bool CanonicalWriter::string(const Slice &text) {
    if (!take("\"", 1)) return false;
    size_t begin = 0, at = 0;
    const auto escaped = [&](u32 unit) {
        static constexpr char kDigits[] = "0123456789abcdef";
        const char six[6] = {'\\',
                             'u',
                             kDigits[unit >> 12 & 15],
                             kDigits[unit >> 8 & 15],
                             kDigits[unit >> 4 & 15],
                             kDigits[unit & 15]};
        return take(six, 6);
    };
    while (at < text.n) {
        const u8 c = text.bytes()[at];
        if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
            ++at;
            continue;
        }
        if (at > begin && !take(text.data + begin, at - begin)) return false;
        static constexpr char kFrom[] = "\"\\\b\f\n\r\t", kTo[] = "\"\\bfnrt";
        const char *plain = c == 0 ? nullptr : std::strchr(kFrom, c);
        const size_t length = c < 0x80 ? 1 : utf8_length(text.bytes() + at, text.n - at);
        const u32 code_point = utf8_code_point(text.bytes() + at, length);
        if (plain != nullptr) {
            const char two[2] = {'\\', kTo[plain - kFrom]};
            if (!take(two, 2)) return false;
        } else if (code_point < 0x10000) {
            if (!escaped(code_point)) return false;
        } else {
            if (!escaped(0xD800 + ((code_point - 0x10000) >> 10)) ||
                !escaped(0xDC00 + (code_point & 0x3FF)))
                return false;
        }
        at += length;
        begin = at;
    }
    return (at == begin || take(text.data + begin, at - begin)) && take("\"", 1);
}

bool is_finite(const Document &document, const Value &value) {
    if (value.is(Kind::kFloat)) return std::isfinite(parse_double(value.text));
    if (!value.is_container()) return true;
    for (u32 i = 0; i < value.n; ++i)
        if (!is_finite(document, document.child(value, i))) return false;
    return true;
}

bool is_canonical(const Document &document, const Slice &bytes) {
    Comparing writer(bytes);
    return writer.write(document, document.root()) && writer.all();
}

bool canonical_digest(const Slice &tag, const Document &document, const Value &value, Hex &to) {
    Counting counting;
    if (!counting.write(document, value)) return false;
    TaggedDigest digest(tag);
    digest.begin(counting.n_bytes);
    Hashing hashing(digest);
    (void)hashing.write(document, value);
    to = digest.hex();
    return true;
}

}  // namespace s7f
