// Checks V0 to V7 of specs/verification.md on a file that the reader accepted.
#pragma once

#include "reader.h"

namespace s7f {

// SHA-256 of the descriptions of format and rules (rule V7): `abi_hash()` and `policy_hash()` of
// src/sevenfold/artifact/layout.py; and the digest of the law's tables. Tests compare.
constexpr Slice kAbiHash = "201104d92f0dba786817afb6b48f367bd6d9b656cf31fcd39cbe56a60a5d31f7";
constexpr Slice kPolicyHash = "cb58475e387d3b98bbdd33db6b543582749d9d293429bc232ec9b7aa085144c1";
constexpr Slice kTablesDigest = "73b2f7e5119f5e12147830809a71d9a742e9bc629468a6706a7d9f1af7ea0117";

// One rule while it is checked. `need` records the first condition that does not hold.
class Rule {
  public:
    Rule(const s7f_file &of, s7f_rule &to) : file(of), row(to) { row.verdict = S7F_PASS; }

    // False when the condition does not hold; the rule fails then.
    [[gnu::format(printf, 3, 4)]] bool need(bool holds, const char *what, ...);
    [[gnu::format(printf, 2, 3)]] void say(const char *what, ...);
    // False when there is no memory to go on; the rule says nothing then.
    bool memory(bool there) {
        out_of_memory = out_of_memory || !there;
        return there;
    }

    const s7f_file &file;
    s7f_rule &row;
    bool out_of_memory = false;

    // The operations of the graph; null when they are no list of objects, and the rule has failed.
    const Value *operations();
    const Value *list(LaneKind kind, const Slice &key);
};

// Whether the file stores a lane of this id.
bool stores(const s7f_file &file, u8 id);

bool v6_chunks(Rule &rule);
bool v6_golden(Rule &rule, i64 &n_golden);
// Run the golden prompts on every instruction set that is here.
bool v6_replay(Rule &rule);

// All rules, in their order. S7F_MEMORY is the only failure: the rows are the result.
s7f_status check_rules(const s7f_file &file, bool replay, s7f_rule rows[S7F_N_RULES]);
// The first rule that failed as an error; S7F_OK when none did.
s7f_status refuse_failed(const s7f_rule rows[S7F_N_RULES], s7f_error *error);

}  // namespace s7f
