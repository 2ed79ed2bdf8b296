// The parser, and questions to a value.
#include "json.h"

#include <algorithm>

#include "decimal.h"
#include "utf8.h"

namespace s7f {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

}  // namespace

class Parser {
  public:
    Parser(Document &to, const Slice &text) : to_(to), text_(text) {}

    JsonFault run() {
        Value root;
        if (!value(root, 0)) return fault_;
        blanks();
        if (at_ != text_.n) return syntax(), fault_;
        // The slot is there, so that a root is found even if memory runs out here.
        return to_.values_.push(root) && to_.sorted_.push(0) ? JsonFault::kNone
                                                             : JsonFault::kMemory;
    }
    size_t at() const { return at_; }

  private:
    bool syntax() { return fault_ = JsonFault::kSyntax, false; }
    bool no_memory() { return fault_ = JsonFault::kMemory, false; }
    char peek() const { return at_ < text_.n ? text_.data[at_] : '\0'; }
    void blanks() {
        while (at_ < text_.n && is_blank(text_.data[at_])) ++at_;
    }
    bool take(const Slice &word) {
        if (!text_.from(at_).starts_with(word)) return false;
        at_ += word.n;
        return true;
    }

    bool value(Value &to, int depth) {
        blanks();
        switch (peek()) {
            case '{':
                return object(to, depth + 1);
            case '[':
                return list(to, depth + 1);
            case '"':
                to.kind = Kind::kString;
                return string(to.text);
            case 'n':
                to.kind = Kind::kNull;
                return take("null") || syntax();
            case 't':
                to.kind = Kind::kTrue;
                return take("true") || syntax();
            case 'f':
                to.kind = Kind::kFalse;
                return take("false") || syntax();
            default:
                return number(to);
        }
    }

    bool number(Value &to) {
        const size_t begin = at_;
        to.kind = Kind::kInteger;
        if (peek() == '-') ++at_;
        const size_t digits = at_;
        if (!is_digit(peek())) return syntax();
        if (peek() == '0') {
            ++at_;
        } else {
            while (is_digit(peek())) ++at_;
        }
        const size_t n_digits = at_ - digits;
        if (peek() == '.' && at_ + 1 < text_.n && is_digit(text_.data[at_ + 1])) {
            to.kind = Kind::kFloat;
            for (++at_; is_digit(peek());) ++at_;
        }
        if (peek() == 'e' || peek() == 'E') {
            size_t next = at_ + 1;
            if (next < text_.n && (text_.data[next] == '+' || text_.data[next] == '-')) ++next;
            if (next < text_.n && is_digit(text_.data[next])) {
                to.kind = Kind::kFloat;
                for (at_ = next; is_digit(peek());) ++at_;
            }
        }
        to.text = {text_.data + begin, at_ - begin};
        return to.kind == Kind::kFloat || n_digits <= kMaxIntegerDigits || syntax();
    }

    // Four hexadecimal digits; -1 where there are none.
    i32 four() {
        if (text_.n - at_ < 4) return -1;
        i32 found = 0;
        for (int i = 0; i < 4; ++i) {
            const int digit = hex_digit(text_.data[at_ + i]);
            if (digit < 0) return -1;
            found = found << 4 | digit;
        }
        at_ += 4;
        return found;
    }

    bool escape(char *&out) {
        const char c = peek();
        ++at_;
        static constexpr char kFrom[] = "\"\\/bfnrt", kTo[] = "\"\\/\b\f\n\r\t";
        if (c == 'u') {
            i32 unit = four();
            if (unit < 0 || (unit >= 0xDC00 && unit < 0xE000)) return syntax();
            if (unit >= 0xD800 && unit < 0xDC00) {
                const i32 second = take("\\u") ? four() : -1;
                if (second < 0xDC00 || second >= 0xE000) return syntax();
                unit = 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00);
            }
            out += utf8_put(static_cast<u32>(unit), out);
            return true;
        }
        const char *found = c == '\0' ? nullptr : std::strchr(kFrom, c);
        if (found == nullptr) return syntax();
        *out++ = kTo[found - kFrom];
        return true;
    }

    bool string(Slice &to) {
        const size_t begin = ++at_;
        while (at_ < text_.n && text_.data[at_] != '"' && text_.data[at_] != '\\') {
            const u8 c = static_cast<u8>(text_.data[at_]);
            if (c < 0x20) return syntax();
            const size_t length = c < 0x80 ? 1 : utf8_length(text_.bytes() + at_, text_.n - at_);
            if (length == 0) return syntax();
            at_ += length;
        }
        if (at_ == text_.n) return syntax();
        if (text_.data[at_] == '"') {
            to = {text_.data + begin, at_++ - begin};
            return true;
        }
        // Escapes are longer than what they stand for: the room of the whole text is enough.
        if (to_.unescaped_.empty() && !to_.unescaped_.resize(text_.n)) return no_memory();
        char *const first = to_.unescaped_.data() + n_unescaped_, *out = first;
        std::memcpy(out, text_.data + begin, at_ - begin);
        out += at_ - begin;
        while (at_ < text_.n && text_.data[at_] != '"') {
            const u8 c = static_cast<u8>(text_.data[at_]);
            if (c < 0x20) return syntax();
            if (c == '\\') {
                ++at_;
                if (!escape(out)) return false;
                continue;
            }
            const size_t length = c < 0x80 ? 1 : utf8_length(text_.bytes() + at_, text_.n - at_);
            if (length == 0) return syntax();
            std::memcpy(out, text_.data + at_, length);
            out += length;
            at_ += length;
        }
        if (at_ == text_.n) return syntax();
        ++at_;
        to = {first, static_cast<size_t>(out - first)};
        n_unescaped_ += to.n;
        return true;
    }

    // The children of a container that was read lie on `open_` from `begin` on.
    bool close(Value &to, Kind kind, size_t begin) {
        to.kind = kind;
        to.first = static_cast<u32>(to_.values_.size());
        to.n = static_cast<u32>(open_.size() - begin);
        if (to_.values_.size() + to.n >= UINT32_MAX) return no_memory();
        if (!to_.values_.append(open_.data() + begin, to.n) ||
            !to_.sorted_.resize(to_.values_.size()))
            return no_memory();
        open_.shrink(begin);
        u32 *const order = to_.sorted_.data() + to.first;
        for (u32 i = 0; i < to.n; ++i) order[i] = to.first + i;
        if (kind != Kind::kObject) return true;
        const Value *values = to_.values_.data();
        std::sort(order, order + to.n,
                  [&](u32 a, u32 b) { return compare(values[a].key, values[b].key) < 0; });
        for (u32 i = 1; i < to.n; ++i)
            if (values[order[i - 1]].key == values[order[i]].key)
                return fault_ = JsonFault::kDuplicateKey, false;
        return true;
    }

    bool object(Value &to, int depth) {
        if (depth > kMaxJsonDepth) return fault_ = JsonFault::kDepth, false;
        const size_t begin = open_.size();
        ++at_;
        blanks();
        if (peek() == '}') return ++at_, close(to, Kind::kObject, begin);
        for (;;) {
            blanks();
            Value member;
            if (peek() != '"') return syntax();
            if (!string(member.key)) return false;
            blanks();
            if (peek() != ':') return syntax();
            ++at_;
            if (!value(member, depth)) return false;
            if (!open_.push(member)) return no_memory();
            blanks();
            const char c = peek();
            ++at_;
            if (c == '}') return close(to, Kind::kObject, begin);
            if (c != ',') return --at_, syntax();
        }
    }

    bool list(Value &to, int depth) {
        if (depth > kMaxJsonDepth) return fault_ = JsonFault::kDepth, false;
        const size_t begin = open_.size();
        ++at_;
        blanks();
        if (peek() == ']') return ++at_, close(to, Kind::kList, begin);
        for (;;) {
            Value item;
            if (!value(item, depth)) return false;
            if (!open_.push(item)) return no_memory();
            blanks();
            const char c = peek();
            ++at_;
            if (c == ']') return close(to, Kind::kList, begin);
            if (c != ',') return --at_, syntax();
        }
    }

    Document &to_;
    const Slice text_;
    size_t at_ = 0, n_unescaped_ = 0;
    Vec<Value> open_;
    JsonFault fault_ = JsonFault::kNone;
};

JsonFault Document::parse(const Slice &text) {
    values_.shrink(0);
    sorted_.shrink(0);
    unescaped_.shrink(0);
    Parser parser(*this, text);
    const JsonFault fault = parser.run();
    at_ = parser.at();
    if (fault != JsonFault::kNone) values_.shrink(0);
    return fault;
}

const Value *Document::get(const Value *object, const Slice &key) const {
    if (object == nullptr || !object->is(Kind::kObject)) return nullptr;
    u32 low = 0, high = object->n;
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (compare(by_key(*object, middle).key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == object->n || !(by_key(*object, low).key == key)) return nullptr;
    return &by_key(*object, low);
}

bool integer_within(const Value *value, i64 least, i64 most, i64 &to) {
    if (value == nullptr || !value->is(Kind::kInteger)) return false;
    const bool negative = value->text.data[0] == '-';
    i64 found = 0;
    for (size_t i = negative; i < value->text.n; ++i) {
        if (found > INT64_MAX / 10 - 1) return false;
        found = found * 10 + (value->text.data[i] - '0');
    }
    if (negative) found = -found;
    if (found < least || found > most) return false;
    to = found;
    return true;
}

bool is_natural(const Value *value) {
    return value != nullptr && value->is(Kind::kInteger) &&
           (value->text.data[0] != '-' || value->text == Slice("-0"));
}

bool is_digest(const Value *value) {
    if (value == nullptr || !value->is(Kind::kString) || value->text.n != kHex) return false;
    for (size_t i = 0; i < kHex; ++i) {
        const char c = value->text.data[i];
        if (!is_digit(c) && !(c >= 'a' && c <= 'f')) return false;
    }
    return true;
}

bool is_true(const Value *value) { return value != nullptr && value->is(Kind::kTrue); }

bool equals_integer(const Value *value, i64 wanted) {
    i64 found = 0;
    if (value == nullptr) return false;
    if (value->is(Kind::kTrue) || value->is(Kind::kFalse)) return wanted == value->is(Kind::kTrue);
    if (value->is(Kind::kFloat)) return parse_double(value->text) == static_cast<double>(wanted);
    return integer_within(value, INT64_MIN, INT64_MAX, found) && found == wanted;
}

bool truthy(const Value *value) {
    if (value == nullptr) return false;
    switch (value->kind) {
        case Kind::kNull:
        case Kind::kFalse:
            return false;
        case Kind::kTrue:
            return true;
        case Kind::kInteger:
            return !(value->text == Slice("0") || value->text == Slice("-0"));
        case Kind::kFloat:
            return parse_double(value->text) != 0;
        case Kind::kString:
            return value->text.n > 0;
        default:
            return value->n > 0;
    }
}

bool list_of_objects(const Document &document, const Value *list) {
    if (list == nullptr || !list->is(Kind::kList)) return false;
    for (u32 i = 0; i < list->n; ++i)
        if (!document.child(*list, i).is(Kind::kObject)) return false;
    return true;
}

}  // namespace s7f
