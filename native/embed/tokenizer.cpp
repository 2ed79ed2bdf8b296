// Reads the untrusted DICT lane. A field that decides ids or text is obeyed, or the file is
// refused.
#include "tokenizer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "decimal.h"
#include "symbols.h"
#include "tokenizer_form.h"
#include "utf8.h"

namespace s7f {

namespace {

bool has_form(const Value &value, const Field &field) {
    const bool text = value.is(Kind::kString), null = value.is(Kind::kNull);
    switch (field.form) {
        case Form::kNull:
            return null;
        case Form::kFalse:
            return value.is(Kind::kFalse);
        case Form::kTrue:
            return value.is(Kind::kTrue);
        case Form::kBool:
            return value.is(Kind::kFalse) || value.is(Kind::kTrue);
        case Form::kInteger:
            return value.is(Kind::kInteger);
        case Form::kString:
            return text;
        case Form::kStringOrNull:
            return text || null;
        case Form::kEmptyOrNull:
            return (text && value.text.n == 0) || null;
        case Form::kText:
            return text && value.text == field.text;
        case Form::kList:
            return value.is(Kind::kList);
        case Form::kObject:
            return value.is(Kind::kObject);
    }
    return false;
}

// Letters of the vocabulary: a visible byte of Latin-1 is itself, others follow from U+0100 on.
struct Letters {
    i32 byte_of[512];

    Letters() {
        std::fill(byte_of, byte_of + 512, -1);
        int next = 0x100;
        for (int byte = 0; byte < 256; ++byte) {
            const bool visible =
                (byte >= 0x21 && byte < 0x7F) || (byte >= 0xA1 && byte < 0xAD) || byte >= 0xAE;
            byte_of[visible ? byte : next++] = byte;
        }
    }

    // Append the bytes that a name spells; false, and nothing is, where a letter is none.
    bool append(const Slice &name, Vec<char> &to, bool &spelled) const {
        const size_t before = to.size();
        spelled = true;
        for (size_t i = 0; i < name.n && spelled;) {
            const size_t length = utf8_length(name.bytes() + i, name.n - i);
            const u32 letter = utf8_code_point(name.bytes() + i, length);
            spelled = letter < 512 && byte_of[letter] >= 0;
            if (spelled && !to.push(static_cast<char>(byte_of[letter]))) return false;
            i += length;
        }
        if (!spelled) to.shrink(before);
        return true;
    }
};

// A score as the library's JSON reader takes it (`as_read` of sevenfold.tokenizer.native): digits
// over a power of ten, rounded twice.
double as_read(double score) {
    char text[kDoubleRoom];
    const Slice literal(text, repr_double(std::fabs(score), text));
    u64 digits = 0;
    i64 power = 0;
    size_t exponent = 0, point = literal.n;
    while (exponent < literal.n && literal.data[exponent] != 'e') ++exponent;
    for (size_t i = exponent + 1; i < literal.n; ++i)
        if (literal.data[i] >= '0' && literal.data[i] <= '9')
            power = power * 10 + (literal.data[i] - '0');
    if (exponent + 1 < literal.n && literal.data[exponent + 1] == '-') power = -power;
    for (size_t i = 0; i < exponent; ++i)
        if (literal.data[i] == '.') point = i;
    const size_t whole = std::min(point, exponent);
    for (size_t i = 0; i < exponent; ++i) {
        if (i == point) continue;
        const u64 digit = static_cast<u64>(literal.data[i] - '0');
        if (digits > (UINT64_MAX - digit) / 10) {
            if (i < whole) power += static_cast<i64>(whole - i);
            break;
        }
        digits = digits * 10 + digit;
        power -= i > whole;
    }
    const auto ten_to = [](i64 n) {
        char one[8];
        const int length = std::snprintf(one, sizeof one, "1e%d", static_cast<int>(n));
        return parse_double({one, static_cast<size_t>(length)});
    };
    double read = static_cast<double>(digits);
    for (; power < -308 && read != 0; power += 308) read /= ten_to(308);
    const double scale = ten_to(power < 0 ? -power : power);
    return std::copysign(power >= 0 ? read * scale : read / scale, score);
}

}  // namespace

// One reading of a file. A refusal names the field.
class TokenizerReader {
  public:
    TokenizerReader(Tokenizer &to, s7f_error *error) : to_(to), error_(error) {}

    s7f_status run(const Slice &dictionary) {
        switch (document_.parse(dictionary)) {
            case JsonFault::kNone:
                break;
            case JsonFault::kMemory:
                return no_memory(error_);
            default:
                return fail("the payload is not JSON, or a key stands twice");
        }
        if (const s7f_status bad = top()) return bad;
        if (const s7f_status bad = pieces()) return bad;
        if (const s7f_status bad = specials()) return bad;
        if (const s7f_status bad = is_bpe_ ? bpe_names() : unigram_names()) return bad;
        if (const s7f_status bad = mark_specials()) return bad;
        if (const s7f_status bad = vocabulary()) return bad;
        if (const s7f_status bad = is_bpe_ ? merges() : S7F_OK) return bad;
        return encoder();
    }

  private:
    struct Special {
        Slice name;
        u32 id;
    };
    enum : u8 { kListed = 1, kBeside = 2, kSpecial = 4 };

    s7f_status fail(const char *what) const {
        return refuse(error_, S7F_TOKENIZER, "DICT", "%s", what);
    }

    template <size_t n> s7f_status object(const Value &value, const Field (&fields)[n]) const {
        if (!value.is(Kind::kObject)) return fail("a part of it is no object");
        u32 n_found = 0;
        for (const Field &field : fields) {
            const Value *found = document_.get(&value, field.name);
            if (found == nullptr && !field.required) continue;
            if (found == nullptr || !has_form(*found, field))
                return refuse(error_, S7F_TOKENIZER, "DICT",
                              "the field %s is missing, or has a value that is not obeyed here",
                              field.name.data);
            ++n_found;
        }
        return n_found == value.n ? S7F_OK : fail("it has a field that this version does not know");
    }

    s7f_status top() {
        const Value &root = document_.root();
        if (const s7f_status bad = object(root, kTop)) return bad;
        const Value *decoder = document_.get(&root, "decoder");
        model_ = document_.get(&root, "model");
        const Value *type = document_.get(model_, "type");
        is_bpe_ = type != nullptr && type->is_string("BPE");
        if (const s7f_status bad = object(*decoder, kDecoder)) return bad;
        return is_bpe_ ? object(*model_, kBpe) : object(*model_, kUnigram);
    }

    s7f_status pieces() {
        const Value *sequence = document_.get("pre_tokenizer");
        if (const s7f_status bad = object(*sequence, kSequence)) return bad;
        const Value *steps = document_.get(sequence, "pretokenizers");
        if (steps->n != 2 && steps->n != 3) return fail("pre_tokenizer has not two or three steps");
        Slice rules[2];
        for (u32 i = 0; i + 1 < steps->n; ++i) {
            const Value &step = document_.child(*steps, i);
            if (const s7f_status bad = object(step, kSplit)) return bad;
            const Value *pattern = document_.get(&step, "pattern");
            if (const s7f_status bad = object(*pattern, kPattern)) return bad;
            rules[i] = document_.get(pattern, "Regex")->text;
        }
        if (const s7f_status bad = object(document_.child(*steps, steps->n - 1), kByteLevel))
            return bad;
        has_protected_ = steps->n == 3;
        const Slice rule = rules[steps->n - 2];
        rule_ = rule == kPieceRules[0] ? 0 : rule == kPieceRules[1] ? 1 : -1;
        if (rule_ < 0) return fail("it cuts text by a rule that this library has not written out");
        const Value *whole = document_.get(model_, "ignore_merges");
        takes_whole_ = is_bpe_ && is_true(whole);
        if (is_bpe_ && has_protected_ && !takes_whole_)
            return fail("model.ignore_merges is false with protected symbols");
        if (!has_protected_) return S7F_OK;
        const s7f_status bad = symbols_.read(rules[0]);
        if (bad == S7F_MEMORY) return no_memory(error_);
        return bad == S7F_OK ? S7F_OK : fail("its protected symbols are of another form");
    }

    // Names and ids of the special tokens; the ids are compared with the vocabulary later.
    s7f_status specials() {
        const Value *added = document_.get("added_tokens");
        if (!specials_.resize(added->n)) return no_memory(error_);
        bool begins = false;
        for (u32 i = 0; i < added->n; ++i) {
            const Value &token = document_.child(*added, i);
            if (const s7f_status bad = object(token, kAddedToken)) return bad;
            i64 id = 0;
            if (!integer_within(document_.get(&token, "id"), 0, INT32_MAX, id))
                return fail("its ids are not 0 to n-1");
            specials_[i] = {document_.get(&token, "content")->text, static_cast<u32>(id)};
            for (const Slice &beginning : kBeginnings) begins |= specials_[i].name == beginning;
        }
        return begins ? S7F_OK : fail("none of its special tokens begins a text");
    }

    // Give an id its name, once.
    s7f_status name(i64 id, const Slice &text, u8 kind) {
        if (id < 0 || id >= static_cast<i64>(names_.size()) || kinds_[static_cast<size_t>(id)] != 0)
            return fail("its ids are not 0 to n-1");
        names_[static_cast<size_t>(id)] = text;
        kinds_[static_cast<size_t>(id)] = kind;
        return S7F_OK;
    }

    s7f_status bpe_names() {
        const Value *vocab = document_.get(model_, "vocab");
        // Llama 3 lists its special tokens beside the vocabulary, and not in it.
        size_t n = vocab->n;
        for (const Special &special : specials_) n += document_.get(vocab, special.name) == nullptr;
        if (n > INT32_MAX || !names_.resize(n) || !kinds_.resize(n)) return no_memory(error_);
        for (u32 i = 0; i < vocab->n; ++i) {
            const Value &entry = document_.child(*vocab, i);
            i64 id = -1;
            if (!integer_within(&entry, 0, INT32_MAX, id)) id = -1;
            if (const s7f_status bad = name(id, entry.key, kListed)) return bad;
        }
        for (const Special &special : specials_)
            if (document_.get(vocab, special.name) == nullptr)
                if (const s7f_status bad = name(special.id, special.name, kBeside)) return bad;
        return S7F_OK;
    }

    // The special tokens are entries with their own ids, and each is one of them.
    s7f_status mark_specials() {
        for (const Special &special : specials_) {
            if (special.id >= names_.size() || !(names_[special.id] == special.name))
                return fail("a special token has the id of another entry");
            u8 &kind = kinds_[special.id];
            if ((kind & kSpecial) != 0) return fail("a special token stands twice");
            kind |= kSpecial;
        }
        return S7F_OK;
    }

    s7f_status unigram_names() {
        const Value *vocab = document_.get(model_, "vocab");
        if (!names_.resize(vocab->n) || !kinds_.resize(vocab->n) || !scores_.resize(vocab->n))
            return no_memory(error_);
        for (u32 i = 0; i < vocab->n; ++i) {
            const Value &entry = document_.child(*vocab, i);
            if (!entry.is(Kind::kList) || entry.n != 2 ||
                !document_.child(entry, 0).is(Kind::kString) ||
                !document_.child(entry, 1).is(Kind::kFloat))
                return fail("an entry is no name with a score");
            const double score = parse_double(document_.child(entry, 1).text);
            if (!std::isfinite(score)) return fail("a score is no finite number");
            scores_[i] = as_read(score);
            if (const s7f_status bad = name(i, document_.child(entry, 0).text, kListed)) return bad;
        }
        Vec<u32> order;
        if (!order.resize(vocab->n)) return no_memory(error_);
        for (u32 i = 0; i < vocab->n; ++i) order[i] = i;
        std::sort(order.begin(), order.end(),
                  [&](u32 a, u32 b) { return compare(names_[a], names_[b]) < 0; });
        for (size_t i = 1; i < order.size(); ++i)
            if (names_[order[i]] == names_[order[i - 1]]) return fail("an entry stands twice");
        return S7F_OK;
    }

    // Bytes of every id: as decoding gives them, and as a text may hold them.
    s7f_status vocabulary() {
        const Letters letters;
        bool single[256] = {};
        for (size_t id = 0; id < names_.size(); ++id) {
            const size_t before = entries_.size();
            bool spelled = false;
            // No text becomes a token that stands beside the vocabulary.
            if ((kinds_[id] & kBeside) == 0 && !letters.append(names_[id], entries_, spelled))
                return no_memory(error_);
            if (!entry_ends_.push(static_cast<u32>(entries_.size()))) return no_memory(error_);
            const Slice entry(entries_.data() + before, entries_.size() - before);
            Slice decoded = entry;
            if ((kinds_[id] & kSpecial) != 0) {
                decoded = {};
                for (const Slice &marker : kMarkers)
                    if (names_[id] == marker) decoded = names_[id];
                if (!to_.names_.append(names_[id].data, names_[id].n) ||
                    !to_.name_ids_.push(static_cast<i32>(id)) ||
                    !to_.name_ends_.push(static_cast<u32>(to_.names_.size())))
                    return no_memory(error_);
            } else if (!spelled) {
                return fail("an entry holds a letter that stands for no byte");
            } else if (entry.n == 1) {
                single[entry.bytes()[0]] = true;
            }
            if (!to_.bytes_.append(decoded.data, decoded.n) ||
                !to_.ends_.push(static_cast<u32>(to_.bytes_.size())))
                return no_memory(error_);
        }
        for (const bool found : single)
            if (!found) return fail("its vocabulary lacks a byte");
        return S7F_OK;
    }

    // A merge as two names: a pair, or the names with a blank between.
    bool pair(const Value &merge, Slice &left, Slice &right) const {
        if (merge.is(Kind::kList)) {
            if (merge.n != 2 || !document_.child(merge, 0).is(Kind::kString) ||
                !document_.child(merge, 1).is(Kind::kString))
                return false;
            left = document_.child(merge, 0).text;
            right = document_.child(merge, 1).text;
            return true;
        }
        if (!merge.is(Kind::kString)) return false;
        const char *end = merge.text.data + merge.text.n;
        const char *blank = std::find(merge.text.data, end, ' ');
        if (blank == end || std::find(blank + 1, end, ' ') != end) return false;
        left = {merge.text.data, static_cast<size_t>(blank - merge.text.data)};
        right = {blank + 1, static_cast<size_t>(end - blank - 1)};
        return true;
    }

    s7f_status merges() {
        const Value *listed = document_.get(model_, "merges"),
                    *vocab = document_.get(model_, "vocab");
        Vec<char> joined;
        if (!merges_.reserve(size_t{3} * listed->n)) return no_memory(error_);
        for (u32 i = 0; i < listed->n; ++i) {
            Slice part[3];
            if (!pair(document_.child(*listed, i), part[0], part[1]))
                return fail("a merge is not two names");
            joined.shrink(0);
            if (!joined.append(part[0].data, part[0].n) || !joined.append(part[1].data, part[1].n))
                return no_memory(error_);
            part[2] = {joined.data(), joined.size()};
            for (const Slice &name : part) {
                const Value *entry = document_.get(vocab, name);
                i64 id = 0;
                if (!integer_within(entry, 0, INT32_MAX, id))
                    return fail("a merge is not one of entries");
                if (!merges_.push(static_cast<i32>(id))) return no_memory(error_);
            }
            const size_t into = static_cast<size_t>(merges_.back());
            if (into >= kinds_.size() || (kinds_[into] & kSpecial) != 0)
                return fail("a merge makes a special token");
        }
        return S7F_OK;
    }

    s7f_status encoder() {
        s7_tokens_file file{};
        file.rule = rule_;
        file.n_entries = static_cast<i32>(names_.size());
        file.n_symbols = static_cast<i32>(symbols_.ends.size());
        file.whole = takes_whole_;
        file.n_merges = static_cast<i64>(merges_.size() / 3);
        file.ends = entry_ends_.data();
        file.bytes = reinterpret_cast<const u8 *>(entries_.data());
        file.scores = is_bpe_ ? nullptr : scores_.data();
        file.merges = merges_.data();
        file.symbol_ends = symbols_.ends.data();
        file.symbols = reinterpret_cast<const u8 *>(symbols_.bytes.data());
        file.symbol_flags = symbols_.flags.data();
        to_.encoder_ = s7_tokens_open(&file);
        return to_.encoder_ != nullptr ? S7F_OK : no_memory(error_);
    }

    Tokenizer &to_;
    s7f_error *error_;
    Document document_;
    const Value *model_ = nullptr;
    bool is_bpe_ = false, has_protected_ = false, takes_whole_ = false;
    i32 rule_ = 0;
    Vec<Special> specials_;
    Vec<Slice> names_;  // of every id
    Vec<u8> kinds_;     // of every id: kListed or kBeside, and kSpecial
    Vec<double> scores_;
    Vec<char> entries_;
    Vec<u32> entry_ends_;
    Vec<i32> merges_;
    Symbols symbols_;
};

namespace {

// An id, or null (-1) where that is allowed; ids past the vocabulary are for the caller to see.
bool read_role(const Value *value, i32 &to) {
    to = -1;
    if (value == nullptr) return false;
    if (value->is(Kind::kNull)) return true;
    i64 id = 0;
    if (!is_natural(value)) return false;
    to = integer_within(value, 0, INT32_MAX - 1, id) ? static_cast<i32>(id) : INT32_MAX;
    return true;
}

bool read_roles(const Document &graph, const Value &tokens, Roles &to) {
    const Value *ends = graph.get(&tokens, "ends");
    if (!tokens.is(Kind::kObject) || tokens.n != 4 || ends == nullptr || !ends->is(Kind::kList) ||
        ends->n > kMaxEnds)
        return false;
    for (u32 i = 0; i < ends->n; ++i)
        if (!read_role(&graph.child(*ends, i), to.ends[i]) || to.ends[i] < 0) return false;
    to.n_ends = ends->n;
    return read_role(graph.get(&tokens, "begin"), to.begin) &&
           read_role(graph.get(&tokens, "bos"), to.bos) &&
           read_role(graph.get(&tokens, "pad"), to.pad);
}

}  // namespace

s7f_status Tokenizer::open(const Slice &dictionary, const Document &graph, s7f_error *error) {
    if (const s7f_status bad = TokenizerReader(*this, error).run(dictionary)) return bad;
    for (const Slice &name : kBeginnings)
        if (roles_.boundary < 0) roles_.boundary = special_id(name);
    const Value *tokens = graph.get("tokens");
    if (tokens == nullptr || tokens->is(Kind::kNull)) {
        roles_.begin = roles_.bos = roles_.ends[0] = roles_.boundary;
        roles_.n_ends = 1;
        for (const Slice &name : kPaddings)
            if (roles_.pad < 0) roles_.pad = special_id(name);
        return S7F_OK;
    }
    if (!read_roles(graph, *tokens, roles_))
        return refuse(error, S7F_TOKENIZER, "EDGE graph", "tokens: its roles are of another form");
    i32 largest = std::max({roles_.begin, roles_.bos, roles_.pad});
    for (u32 i = 0; i < roles_.n_ends; ++i) largest = std::max(largest, roles_.ends[i]);
    if (largest >= vocab_size())
        return refuse(error, S7F_TOKENIZER, "EDGE graph",
                      "tokens: an id has a role, and is outside the vocabulary");
    const i32 first_end = roles_.n_ends > 0 ? roles_.ends[0] : -1;
    const i32 named = roles_.begin >= 0 ? roles_.begin : first_end >= 0 ? first_end : roles_.bos;
    if (named >= 0) roles_.boundary = named;
    return S7F_OK;
}

Slice Tokenizer::token(i32 id) const {
    const size_t at = static_cast<size_t>(id);
    const u32 begin = at > 0 ? ends_[at - 1] : 0;
    return {bytes_.data() + begin, ends_[at] - begin};
}

i32 Tokenizer::special_id(const Slice &name) const {
    u32 begin = 0;
    for (size_t i = 0; i < name_ends_.size(); begin = name_ends_[i++])
        if (Slice(names_.data() + begin, name_ends_[i] - begin) == name) return name_ids_[i];
    return -1;
}

s7f_status Tokenizer::encode(const Slice &text, Vec<i32> &ids) {
    const size_t before = ids.size();
    if (text.n >= size_t{1} << 31) return S7F_ARGUMENT;
    if (!ids.resize(before + text.n)) return S7F_MEMORY;
    const i64 n =
        s7_tokens_encode(encoder_, text.bytes(), static_cast<i64>(text.n), ids.data() + before);
    ids.shrink(n < 0 ? before : before + static_cast<size_t>(n));
    return n < 0 ? S7F_MEMORY : S7F_OK;
}

}  // namespace s7f
