// Any bytes are a file or a refusal: opened, verified, shown, and run if they are a model. Built
// for libFuzzer, or with a main of its own that takes files.
//
// A random change never survives a digest, so every input is also read a second time as lanes whose
// digests, seal and root are put right, and parts of the library are asked directly.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "decimal.h"
#include "gate.h"
#include "json.h"
#include "sevenfold.h"
#include "sha256.h"
#include "tokenizer.h"

namespace {

using Bytes = std::string;

void need(bool holds, const char *what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

bool printable(const char *text) {
    for (; *text != 0; ++text)
        if (*text < 0x20 || *text > 0x7E) return false;
    return true;
}

int stop_late(void *user, const char *, size_t) { return ++*static_cast<int *>(user) > 3; }

void run(const s7f_file *file) {
    s7f_model *model = nullptr;
    s7f_error error{};
    const s7f_status status = s7f_model_open(file, nullptr, &model, &error);
    need((status == S7F_OK) == (model != nullptr), "a model, or a refusal");
    if (status != S7F_OK) return need(error.what[0] != 0 && printable(error.what), "what is said");
    s7f_session session = 0;
    need(s7f_session_open(model, &session, &error) == S7F_OK, "a session opens");
    int n = 0;
    if (s7f_session_prompt(model, session, "def ", 4, nullptr, 4, &error) == S7F_OK)
        (void)s7f_session_generate(model, session, 4, stop_late, &n, nullptr, &error);
    need(s7f_session_close(model, &session) == S7F_OK, "a session closes");
    s7f_model_close(&model);
}

void read(const Bytes &bytes) {
    s7f_file *file = nullptr;
    s7f_error error{};
    const s7f_status status = s7f_file_open_memory(bytes.data(), bytes.size(), &file, &error);
    need((status == S7F_OK) == (file != nullptr), "a file, or a refusal");
    if (status != S7F_OK) {
        need(status >= S7F_MAGIC && error.what[0] != 0 && error.remedy[0] != 0, "what is refused");
        return need(printable(error.what) && printable(error.where), "what is said");
    }
    s7f_rule rules[S7F_N_RULES];
    const s7f_status verified = s7f_file_verify(file, 1, rules, &error);
    need(verified == S7F_OK || verified == S7F_UNVERIFIED, "rules are run");
    bool failed = false;
    for (const s7f_rule &rule : rules) {
        need(printable(rule.detail) && rule.detail[0] != 0, "what a rule says");
        failed = failed || rule.verdict == S7F_FAIL;
    }
    need(failed == (verified == S7F_UNVERIFIED), "a rule that fails is told");
    need(failed || s7f_file_version(file) == 3, "no rule holds without a seal");
    s7f_lane lane;
    for (int32_t i = 0; i < s7f_file_n_lanes(file); ++i)
        need(s7f_file_lane(file, i, &lane) == S7F_OK &&
                 lane.offset + lane.n_bytes + 37 <= bytes.size(),
             "a lane lies in the file");
    s7f_tensor tensor;
    for (int32_t i = 0; i < s7f_file_n_tensors(file); ++i)
        need(s7f_file_tensor(file, i, &tensor) == S7F_OK &&
                 tensor.data + tensor.n_values <=
                     reinterpret_cast<const int8_t *>(bytes.data()) + bytes.size(),
             "a tensor lies in the file");
    run(file);
    s7f_file_close(&file);
}

// Lanes as the input cuts them: id, u16 length, payload.
std::vector<std::pair<uint8_t, Bytes>> lanes_of(const uint8_t *data, size_t n) {
    std::vector<std::pair<uint8_t, Bytes>> found;
    for (size_t at = 0; at + 3 <= n && found.size() < 12;) {
        size_t length = static_cast<size_t>(data[at + 1]) << 8 | data[at + 2];
        if (length > n - at - 3) length = n - at - 3;
        found.emplace_back(data[at], Bytes(reinterpret_cast<const char *>(data) + at + 3, length));
        at += 3 + length;
    }
    return found;
}

void put(Bytes &to, uint64_t value, int n) {
    while (n-- > 0) to.push_back(static_cast<char>(value >> 8 * n));
}

Bytes hex_of(const Bytes &bytes) { return s7f::Hex(s7f::sha256(bytes.data(), bytes.size())).text; }

// The records of a FIELD payload, as a seal lists them; the whole payload where it is none.
std::vector<std::pair<Bytes, Bytes>> pieces_of(uint8_t id, const Bytes &payload, bool padded) {
    std::vector<std::pair<Bytes, Bytes>> found;
    const auto number = [&](size_t at, int n) {
        uint64_t value = 0;
        for (int i = 0; i < n; ++i) value = value << 8 | static_cast<uint8_t>(payload[at + i]);
        return value;
    };
    for (size_t at = 0; id == 2 && at < payload.size();) {
        const size_t begin = at;
        if (at + 2 > payload.size()) return {{"", payload}};
        const size_t length = number(at, 2);
        if (length == 0 || at + 3 + length > payload.size()) return {{"", payload}};
        const Bytes name = payload.substr(at + 2, length);
        const size_t rank = number(at + 2 + length, 1);
        at += 3 + length;
        if (at + 4 * rank + 4 > payload.size()) return {{"", payload}};
        uint64_t n = 1;
        for (size_t i = 0; i < rank && n < payload.size(); ++i) n *= number(at + 4 * i, 4);
        if (padded) n = (n + 31) / 32 * 32;
        if (n > payload.size() - at - 4 * rank - 4) return {{"", payload}};
        at += 4 * rank + 4 + n;
        for (const char c : name)
            if (c < 0x21 || c > 0x7E || c == '"' || c == '\\') return {{"", payload}};
        found.emplace_back(name, payload.substr(begin, at - begin));
    }
    if (found.empty()) found.emplace_back("", payload);
    return found;
}

Bytes kind_of(const Bytes &payload) {
    s7f::Document value;
    if (value.parse({payload.data(), payload.size()}) != s7f::JsonFault::kNone) return "";
    const s7f::Value *kind = value.get("kind");
    if (kind == nullptr || !kind->is(s7f::Kind::kString)) return "";
    for (size_t i = 0; i < kind->text.n; ++i)
        if (kind->text.data[i] < 'a' || kind->text.data[i] > '{') return "";
    return Bytes(kind->text.data, kind->text.n);
}

Bytes pack(const std::vector<std::pair<uint8_t, Bytes>> &lanes, uint8_t version, uint8_t class_,
           uint8_t flags, bool seal) {
    Bytes head = "S7LM", body;
    put(head, version, 2);
    put(head, class_, 1);
    put(head, flags, 1);
    auto all = lanes;
    if (seal) {
        Bytes hex_head, listed, trunk;
        std::vector<s7f::Digest> roots;
        char two[3];
        for (const char c : head)
            std::snprintf(two, sizeof two, "%02x", static_cast<uint8_t>(c)), hex_head += two;
        for (const auto &[id, payload] : lanes) {
            Bytes pieces;
            for (const auto &[name, bytes] : pieces_of(id, payload, (flags & 0x80) != 0)) {
                const s7f::Digest chunk = s7f::sha256(bytes.data(), bytes.size());
                s7f::Digest leaf = s7f::leaf_hash(chunk.bytes, 32);
                if (!name.empty()) roots.push_back(s7f::leaf_hash(leaf.bytes, 32));
                pieces += (pieces.empty() ? "" : ",") + Bytes("{\"chunks\":\"") +
                          (bytes.empty() ? "" : hex_of(bytes)) +
                          "\",\"n_bytes\":" + std::to_string(bytes.size()) + ",\"name\":\"" + name +
                          "\"}";
            }
            listed += (listed.empty() ? "" : ",") + Bytes("{\"id\":") + std::to_string(id) +
                      ",\"kind\":\"" + (id > 2 ? kind_of(payload) : "") +
                      "\",\"n_bytes\":" + std::to_string(payload.size()) + ",\"pieces\":[" +
                      pieces + "],\"sha256\":\"" + hex_of(payload) + "\"}";
        }
        if (!roots.empty())
            trunk = "\"trunk\":\"" +
                    Bytes(s7f::Hex(s7f::merkle_fold(roots.data(), roots.size())).text) + "\"";
        all.insert(all.begin(), {4, "{\"chunk_bytes\":16777216,\"header\":\"" + hex_head +
                                        "\",\"kind\":\"seal\",\"lanes\":[" + listed +
                                        "],\"parts\":{" + trunk + "}}"});
    }
    std::vector<s7f::Digest> level(all.size() + 1);
    for (size_t i = 0; i < all.size(); ++i) {
        level[i] = s7f::sha256(all[i].second.data(), all[i].second.size());
        put(body, all[i].first, 1);
        put(body, all[i].second.size(), 4);
        body += all[i].second;
        body.append(reinterpret_cast<const char *>(level[i].bytes), 32);
    }
    const s7f::Digest root = s7f::paired_fold(level.data(), all.size());
    return head + Bytes(reinterpret_cast<const char *>(root.bytes), 32) + body;
}

void parts(const Bytes &bytes) {
    const s7f::Slice all(bytes.data(), bytes.size());
    s7f::Document value, none;
    if (value.parse(all) == s7f::JsonFault::kNone) {
        s7f::Hex digest((s7f::Digest()));
        need(s7f::canonical_digest("t", value, value.root(), digest) ==
                 s7f::is_finite(value, value.root()),
             "finite values have a canonical form");
        (void)s7f::is_canonical(value, all);
    }
    s7f_gate whole, split;
    const s7f_status status = whole.feed(all, nullptr);
    s7f_status piecewise = S7F_OK;
    for (size_t i = 0; i < all.n && piecewise == S7F_OK; ++i)
        piecewise = split.feed(all.from(i).first(1), nullptr);
    need(status == piecewise && whole.state == split.state,
         "where a stream is cut does not matter");
    s7f::Tokenizer tokenizer;
    (void)tokenizer.open(all, none, nullptr);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const Bytes bytes(reinterpret_cast<const char *>(data), n);
    read(bytes);
    parts(bytes);
    if (n < 3) return 0;
    const uint8_t version = static_cast<uint8_t>(1 + data[0] % 3),
                  class_ = static_cast<uint8_t>(1 + data[1] % 2);
    const uint8_t flags = class_ == 2 ? 5 : 1, padded = data[1] & 0x80;
    const auto lanes = lanes_of(data + 2, n - 2);
    read(pack(lanes, version, class_, version == 3 ? flags | padded : flags, false));
    read(pack(lanes, 3, class_, flags | padded, true));
    return 0;
}

#if defined(S7F_FUZZ_MAIN)
int main(int argc, char **argv) {
    for (int i = 1; i < argc; ++i) {
        std::FILE *in = std::fopen(argv[i], "rb");
        if (in == nullptr) return 2;
        Bytes bytes;
        char block[4096];
        for (size_t n; (n = std::fread(block, 1, sizeof block, in)) > 0;) bytes.append(block, n);
        std::fclose(in);
        LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
    }
    std::printf("%d files\n", argc - 1);
    return 0;
}
#endif
