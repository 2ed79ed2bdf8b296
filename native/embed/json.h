// Reads untrusted JSON in one pass, with a cap on depth, without repeated keys and half characters,
// and writes its canonical bytes. It accepts what Python's `json` accepts within specs/artifact.md,
// "JSON payloads".
#pragma once

#include "common.h"
#include "sha256.h"

namespace s7f {

constexpr int kMaxJsonDepth = 32;
// Python refuses longer integers, to bound the time that they take.
constexpr size_t kMaxIntegerDigits = 4300;

enum class Kind : u8 { kNull, kFalse, kTrue, kInteger, kFloat, kString, kList, kObject };

// One value. Children of a list or an object lie in a row; those of an object are found by key in
// the order of the document's `sorted`.
struct Value {
    Kind kind = Kind::kNull;
    u32 first = 0, n = 0;  // children
    Slice text;            // a string's characters, or the literal of a number
    Slice key;             // where it is a member of an object

    bool is(Kind wanted) const { return kind == wanted; }
    bool is_string(const Slice &wanted) const { return kind == Kind::kString && text == wanted; }
    bool is_container() const { return kind == Kind::kList || kind == Kind::kObject; }
};

enum class JsonFault { kNone, kSyntax, kDuplicateKey, kDepth, kMemory };

class Document {
  public:
    // `text` must outlive the document.
    JsonFault parse(const Slice &text);

    bool empty() const { return values_.empty(); }
    const Value &root() const { return values_.back(); }
    // A member, or null; null for what is no object.
    const Value *get(const Value *object, const Slice &key) const;
    const Value *get(const Slice &key) const { return empty() ? nullptr : get(&root(), key); }
    const Value &child(const Value &of, u32 i) const { return values_[of.first + i]; }
    // The i-th member by key.
    const Value &by_key(const Value &of, u32 i) const { return values_[sorted_[of.first + i]]; }
    void swap(Document &other) {
        values_.swap(other.values_);
        sorted_.swap(other.sorted_);
        unescaped_.swap(other.unescaped_);
    }
    // Where parsing stopped.
    size_t offset() const { return at_; }

  private:
    friend class Parser;
    Vec<Value> values_;  // the root is the last
    Vec<u32> sorted_;
    Vec<char> unescaped_;
    size_t at_ = 0;
};

// An integer from `least` to `most`: false for anything else, a bool included.
bool integer_within(const Value *value, i64 least, i64 most, i64 &to);
bool is_natural(const Value *value);                  // an integer of any size, 0 or more
bool is_digest(const Value *value);                   // 64 hexadecimal digits in lower case
bool is_true(const Value *value);                     // `true`, and nothing like it
bool equals_integer(const Value *value, i64 wanted);  // as Python's ==: 1, 1.0 and true
bool truthy(const Value *value);                      // as Python's bool()
bool list_of_objects(const Document &document, const Value *list);

// Canonical bytes, handed on in pieces; false at the first number that is not finite, or where
// `take` says so.
class CanonicalWriter {
  public:
    virtual ~CanonicalWriter() = default;
    bool write(const Document &document, const Value &value);

  protected:
    virtual bool take(const char *data, size_t n) = 0;

  private:
    bool member(const Document &document, const Value &value);
    bool string(const Slice &text);
    bool number(const Value &value);
};

bool is_finite(const Document &document, const Value &value);
// Whether the canonical bytes of a document are exactly these.
bool is_canonical(const Document &document, const Slice &bytes);
// D(tag, canonical bytes); false where there are none.
bool canonical_digest(const Slice &tag, const Document &document, const Value &value, Hex &to);

}  // namespace s7f
