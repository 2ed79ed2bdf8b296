// The rules that read JSON, lanes and records: all but V6.
#include "rules.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "decimal.h"

namespace s7f {

namespace {

constexpr u8 kLaneIds[] = {kBatch, kDict, kEdge, kField, kLane};  // by name
constexpr u8 kDataLanes[] = {kDict, kField, kBatch};

Slice fold_of(u8 id) {
    return id == kDict   ? Slice("DATA")
           : id == kLane ? Slice("STORAGE")
           : id == kEdge ? Slice("CONTROL")
                         : Slice("COMPUTE");
}

bool is_fold(const Value *value) {
    for (const Slice fold : {Slice("COMPUTE"), Slice("CONTROL"), Slice("DATA"), Slice("STORAGE")})
        if (value != nullptr && value->is_string(fold)) return true;
    return false;
}

// The lane of a name; 0 when there is none.
u8 lane_named(const Slice &name) {
    for (const u8 id : kLaneIds)
        if (name == slice_of(lane_name(id))) return id;
    return 0;
}

// Python's str() of a value that is no list and no object.
struct Text {
    char buffer[kDoubleRoom];
    Slice slice;
    bool known = true;

    explicit Text(const Value *value) {
        if (value == nullptr || value->is(Kind::kNull)) {
            slice = "None";
        } else if (value->is(Kind::kTrue) || value->is(Kind::kFalse)) {
            slice = value->is(Kind::kTrue) ? Slice("True") : Slice("False");
        } else if (value->is(Kind::kFloat)) {
            const double number = parse_double(value->text);
            known = std::isfinite(number);
            if (known) slice = {buffer, repr_double(number, buffer)};
        } else {
            known = !value->is_container();
            slice = value->text == Slice("-0") ? Slice("0") : value->text;
        }
    }
};

int length(const Slice &text) { return shown(text); }

// What an operation writes, one name at a time: what is no list counts as one.
u32 n_writes(const Document &graph, const Value &operation) {
    const Value *writes = graph.get(&operation, "writes");
    return writes == nullptr ? 0 : writes->is(Kind::kList) ? writes->n : 1;
}
const Value &write_of(const Document &graph, const Value &operation, u32 i) {
    const Value *writes = graph.get(&operation, "writes");
    return writes->is(Kind::kList) ? graph.child(*writes, i) : *writes;
}

// A state change by its name: `store NAME`, or `operation INDEX OP` of one that writes.
struct Change {
    u8 lane = 0;
    const Value *operation = nullptr;
    u32 index = 0;
    bool there() const { return lane != 0 || operation != nullptr; }
};

Change change_named(const s7f_file &file, const Value &operations, const Slice &name) {
    Change found;
    if (name.starts_with("store ")) {
        const u8 id = lane_named(name.from(6));
        if (id != 0 && stores(file, id)) found.lane = id;
        return found;
    }
    if (!name.starts_with("operation ")) return found;
    u64 index = 0;
    size_t at = 10;
    for (; at < name.n && name.data[at] >= '0' && name.data[at] <= '9' && index < operations.n;
         ++at)
        index = index * 10 + static_cast<u64>(name.data[at] - '0');
    const bool plain = at > 10 && (name.data[10] != '0' || at == 11);
    if (!plain || at == name.n || name.data[at] != ' ' || index >= operations.n) return found;
    const Document &graph = file.of(kGraph);
    const Value &operation = graph.child(operations, static_cast<u32>(index));
    const Text op(graph.get(&operation, "op"));
    if (!op.known || !(name.from(at + 1) == op.slice) || !truthy(graph.get(&operation, "writes")))
        return found;
    found.operation = &operation;
    found.index = static_cast<u32>(index);
    return found;
}

void v0_order(Rule &rule) {
    const s7f_file &file = rule.file;
    for (size_t i = 0; i < file.records.size(); ++i) {
        const Record &record = file.records[i];
        if (!rule.need(i == 0 || compare(file.records[i - 1].name, record.name) < 0,
                       "FIELD: tensor '%.*s' stands after one of a higher name",
                       length(record.name), record.name.data))
            return;
    }
    for (const Record &record : file.records)
        if (!rule.need(std::isfinite(record.scale), "FIELD: the scale of '%.*s' is not finite",
                       length(record.name), record.name.data))
            return;
    const auto rank = [](const Lane &lane) {
        return (lane.kind != kSealKind) * 65536 + lane.id * 256 + lane.kind;
    };
    for (size_t i = 1; i < file.lanes.size(); ++i)
        if (!rule.need(rank(file.lanes[i - 1]) <= rank(file.lanes[i]),
                       "%s stands after a lane of a higher id or kind", Where(file.lanes[i]).text))
            return;
    for (const Lane &lane : file.lanes) {
        if (lane.kind == kNoKind) continue;
        const Document &value = file.of(lane.kind);
        if (!rule.need(is_finite(value, value.root()), "%s: a number has no canonical form",
                       Where(lane).text) ||
            !rule.need(is_canonical(value, file.payload(lane)),
                       "%s: the %s JSON is not in canonical form", Where(lane).text,
                       kind_name(lane.kind).data))
            return;
    }
    rule.say("%zu tensors and %zu lanes in order, JSON canonical", file.records.size(),
             file.lanes.size());
}

void v1_folds(Rule &rule) {
    const Value *operations = rule.operations();
    if (operations == nullptr || !rule.need(operations->n > 0, "EDGE graph has no operations"))
        return;
    const Document &graph = rule.file.of(kGraph);
    for (u32 i = 0; i < operations->n; ++i) {
        const Value &operation = graph.child(*operations, i);
        const Value *name = graph.get(&operation, "op"), *fold = graph.get(&operation, "fold");
        const bool named = name != nullptr && name->is(Kind::kString) && name->text.n > 0;
        if (!rule.need(named, "operation %u has no name", i) ||
            !rule.need(fold != nullptr && fold->is(Kind::kString),
                       "operation %u: exactly one fold is asked for", i) ||
            !rule.need(is_fold(fold), "operation %u names the unknown fold '%.*s'", i,
                       length(fold->text), fold->text.data))
            return;
    }
    rule.say("%u operations, one fold each", operations->n);
}

// One control record: complete, about a change that the file makes, and allowing it.
bool check_record(Rule &rule, const Value &operations, u32 i, const Value &record, Change &change) {
    const Document &control = rule.file.of(kControl);
    static constexpr Slice kFields[] = {"allow", "change", "decide_hash", "policy_hash",
                                        "target_fold"};
    bool complete = record.n == 5;
    for (u32 k = 0; complete && k < 5; ++k) complete = control.by_key(record, k).key == kFields[k];
    if (!rule.need(complete, "control record %u has the fields of another form", i)) return false;
    const Value *name = control.get(&record, "change"), *fold = control.get(&record, "target_fold"),
                *policy = control.get(&record, "policy_hash"),
                *decided = control.get(&record, "decide_hash");
    change = name->is(Kind::kString) ? change_named(rule.file, operations, name->text) : Change();
    if (!rule.need(change.there(), "control record %u is about a change which the file does not do",
                   i) ||
        !rule.need(is_true(control.get(&record, "allow")), "control record %u does not allow it",
                   i) ||
        !rule.need(is_fold(fold), "control record %u has the target fold of no lane", i) ||
        !rule.need(is_digest(policy), "control record %u has no policy_hash", i))
        return false;
    const Hex hash = TaggedDigest("sevenfold/decide/1")
                         .part(name->text)
                         .part(fold->text)
                         .part(policy->text)
                         .part("allow")
                         .hex();
    return rule.need(decided->is_string(hash.slice()),
                     "control record %u: decide_hash is not that of '%.*s'", i, length(name->text),
                     name->text.data);
}

void v2_control(Rule &rule) {
    const Value *records = rule.list(kControl, "records");
    const Value *operations = records == nullptr ? nullptr : rule.operations();
    if (operations == nullptr) return;
    const Document &control = rule.file.of(kControl), &graph = rule.file.of(kGraph);
    bool seen_lanes[kBatch + 1] = {};
    Vec<u8> seen;
    if (!rule.memory(seen.resize(operations->n))) return;
    for (u32 i = 0; i < records->n; ++i) {
        Change change;
        if (!check_record(rule, *operations, i, control.child(*records, i), change)) return;
        const bool again = change.lane != 0 ? std::exchange(seen_lanes[change.lane], true)
                                            : std::exchange(seen[change.index], u8{1}) != 0;
        if (!rule.need(!again, "control record %u: its change has a record already", i)) return;
    }
    for (const u8 id : kLaneIds)
        if (!rule.need(seen_lanes[id] || !stores(rule.file, id), "no control record for 'store %s'",
                       lane_name(id)))
            return;
    for (u32 i = 0; i < operations->n; ++i)
        if (!rule.need(seen[i] != 0 || !truthy(graph.get(&graph.child(*operations, i), "writes")),
                       "no control record for 'operation %u'", i))
            return;
    rule.say("%u state changes, each decided and allowed", records->n);
}

// RFC 6962 over the leaves of the lanes of an id.
bool collapse(Rule &rule, u8 id, Digest &to) {
    Vec<Digest> level;
    for (const Lane &lane : rule.file.lanes) {
        if (lane.id != id) continue;
        u8 leaf[kLaneHead + kDigest];
        std::memcpy(leaf, rule.file.bytes.data + lane.offset, kLaneHead);
        std::memcpy(leaf + kLaneHead, lane.sha256.bytes, kDigest);
        if (!rule.memory(level.push(leaf_hash(leaf, sizeof leaf)))) return false;
    }
    to = merkle_fold(level.data(), level.size());
    return true;
}

bool check_data(Rule &rule, const Value &entry, u8 id, const Lane *trace) {
    const Document &provenance = rule.file.of(kProvenance);
    const char *name = lane_name(id);
    const Value *collapsed = provenance.get(&entry, "collapse");
    if (!rule.need(collapsed != nullptr && collapsed->is(Kind::kObject),
                   "data entry for %s has no object 'collapse'", name))
        return false;
    Digest root;
    if (!collapse(rule, id, root)) return false;
    const Value *trace_hash = provenance.get(&entry, "trace_hash"),
                *hash = provenance.get(collapsed, "hash"),
                *seal = provenance.get(&entry, "seal_hash");
    const bool traced = trace != nullptr && trace_hash != nullptr &&
                        trace_hash->is_string(Hex(trace->sha256).slice());
    if (!rule.need(traced, "%s: trace_hash is not that of the LANE payload", name) ||
        !rule.need(hash != nullptr && hash->is_string(Hex(root).slice()),
                   "%s: collapse.hash is not that of its lanes", name) ||
        !rule.need(is_true(provenance.get(&entry, "stored")), "%s: not marked as stored", name))
        return false;
    const Text recipe(provenance.get(provenance.get("identity"), "recipe_digest"));
    const Hex wanted = TaggedDigest("sevenfold/seal/1")
                           .part(slice_of(name))
                           .part(trace_hash->text)
                           .part(hash->text)
                           .part(recipe.slice)
                           .hex();
    return rule.need(recipe.known && seal != nullptr && seal->is_string(wanted.slice()),
                     "%s: seal_hash does not bind the data to this trace and recipe", name);
}

void v3_data(Rule &rule) {
    const Value *entries = rule.list(kProvenance, "data");
    if (entries == nullptr) return;
    const Document &provenance = rule.file.of(kProvenance);
    const Lane *trace = nullptr, *of[kBatch + 1] = {};
    for (const Lane &lane : rule.file.lanes) {
        if (lane.id == kLane && trace == nullptr) trace = &lane;
        of[lane.id] = &lane;
    }
    bool seen[kBatch + 1] = {};
    for (u32 i = 0; i < entries->n; ++i) {
        const Value &entry = provenance.child(*entries, i);
        const Value *name = provenance.get(&entry, "lane");
        const u8 id = name != nullptr && name->is(Kind::kString) ? lane_named(name->text) : u8{0};
        const bool data = id == kDict || id == kField || id == kBatch;
        if (!rule.need(data && of[id] != nullptr,
                       "data entry %u is for a lane which the file does not hold", i) ||
            !rule.need(!std::exchange(seen[id], true), "data entry for %s twice", lane_name(id)) ||
            !check_data(rule, entry, id, trace))
            return;
    }
    for (const u8 id : kDataLanes)
        if (!rule.need(seen[id] || !stores(rule.file, id),
                       "%s: stored without trace_hash, collapse.hash and seal_hash", lane_name(id)))
            return;
    rule.say("%u lanes bound to the training trace", entries->n);
}

void v4_projections(Rule &rule) {
    const Document &control = rule.file.of(kControl), &graph = rule.file.of(kGraph);
    const Value *declared = control.get("projections");
    const bool right = declared != nullptr && declared->is(Kind::kList) && declared->n == 1 &&
                       control.child(*declared, 0).is_string("LANE");
    if (!rule.need(right, "EDGE control declares the projections of another form") ||
        !rule.need(!stores(rule.file, kLane) || is_true(rule.file.of(kTrace).get("projection")),
                   "the LANE payload does not say that it is a projection"))
        return;
    const Value *operations = rule.operations();
    for (u32 i = 0; operations != nullptr && i < operations->n; ++i) {
        const Value &operation = graph.child(*operations, i);
        for (u32 k = 0; k < n_writes(graph, operation); ++k)
            if (!rule.need(!write_of(graph, operation, k).is_string("LANE"),
                           "operation %u writes LANE, which is a projection", i))
                return;
    }
    rule.say("LANE is written by no operation");
}

bool check_writes(Rule &rule, const Value &operations) {
    const Document &graph = rule.file.of(kGraph);
    for (u32 i = 0; i < operations.n; ++i) {
        const Value &operation = graph.child(operations, i);
        const Value *fold = graph.get(&operation, "fold");
        for (u32 k = 0; k < n_writes(graph, operation); ++k) {
            const Value &written = write_of(graph, operation, k);
            const u8 id = written.is(Kind::kString) ? lane_named(written.text) : u8{0};
            if (!rule.need(id != 0, "operation %u writes the unknown lane", i) ||
                !rule.need(fold != nullptr && fold->is_string(fold_of(id)),
                           "operation %u writes %s, which is bound to %s", i, lane_name(id),
                           fold_of(id).data))
                return false;
        }
    }
    return true;
}

void v5_map(Rule &rule) {
    const Document &control = rule.file.of(kControl), &graph = rule.file.of(kGraph);
    const Value *bindings = control.get("bindings");
    bool right = bindings != nullptr && bindings->is(Kind::kObject) && bindings->n == 5;
    for (const u8 id : kLaneIds) {
        const Value *bound = control.get(bindings, slice_of(lane_name(id)));
        right = right && bound != nullptr && bound->is_string(fold_of(id));
    }
    if (!rule.need(right, "EDGE control binds lanes otherwise; the map is that of the rules"))
        return;
    const Value *operations = rule.operations();
    if (operations == nullptr || !check_writes(rule, *operations)) return;
    const Value *records = rule.list(kControl, "records");
    for (u32 i = 0; records != nullptr && i < records->n; ++i) {
        const Value &record = control.child(*records, i);
        const Value *name = control.get(&record, "change"),
                    *target = control.get(&record, "target_fold");
        if (name == nullptr || !name->is(Kind::kString)) continue;
        const Change change = change_named(rule.file, *operations, name->text);
        if (!change.there()) continue;
        const Value *fold =
            change.operation == nullptr ? nullptr : graph.get(change.operation, "fold");
        if (change.operation != nullptr && (fold == nullptr || fold->is(Kind::kNull))) continue;
        const Slice bound = change.lane != 0 ? fold_of(change.lane) : fold->text;
        if (!rule.need(target != nullptr && target->is_string(bound),
                       "control record %u targets a fold, its lane is bound to another", i))
            return;
    }
    rule.say("5 lanes bound as the map says");
}

bool check_identity(Rule &rule, const Value *identity) {
    const Document &provenance = rule.file.of(kProvenance);
    for (const Slice name :
         {Slice("dataset_root"), Slice("recipe_digest"), Slice("tokenizer_digest")})
        if (!rule.need(is_digest(provenance.get(identity, name)), "identity: %s is not a SHA-256",
                       name.data))
            return false;
    for (const Slice name : {Slice("code_version"), Slice("recipe_name")}) {
        const Value *text = provenance.get(identity, name);
        if (!rule.need(text != nullptr && text->is(Kind::kString) && text->text.n > 0,
                       "identity: %s is no text", name.data))
            return false;
    }
    return rule.need(is_natural(provenance.get(identity, "training_seed")),
                     "identity: training_seed is no number");
}

void v7_formats(Rule &rule) {
    const Document &provenance = rule.file.of(kProvenance), &control = rule.file.of(kControl);
    if (!rule.need(rule.file.has[kProvenance], "no provenance: an anonymous model (rule D6)"))
        return;
    const Value *abi = provenance.get("abi_hash"), *policy = provenance.get("policy_hash");
    if (!rule.need(abi != nullptr && abi->is_string(kAbiHash),
                   "abi_hash is not that of this format") ||
        !rule.need(policy != nullptr && policy->is_string(kPolicyHash),
                   "policy_hash is not that of these rules"))
        return;
    const Value *records = rule.list(kControl, "records");
    if (records == nullptr) return;
    for (u32 i = 0; i < records->n; ++i) {
        const Value *hash = control.get(&control.child(*records, i), "policy_hash");
        if (!rule.need(hash != nullptr && hash->is_string(kPolicyHash),
                       "control record %u was made under other rules", i))
            return;
    }
    const Value *identity = provenance.get("identity");
    if (!rule.need(identity != nullptr && identity->is(Kind::kObject),
                   "EDGE provenance has no object 'identity'") ||
        !check_identity(rule, identity))
        return;
    const Slice dictionary = rule.file.dictionary();
    const Hex digest(sha256(dictionary.data, dictionary.n));
    if (!rule.need(provenance.get(identity, "tokenizer_digest")->is_string(digest.slice()),
                   "tokenizer_digest is not the SHA-256 of the DICT payload"))
        return;
    Hex meta((Digest()));
    const Value *wanted = provenance.get("meta_hash");
    if (!rule.need(canonical_digest("sevenfold/meta/1", provenance, *identity, meta),
                   "identity: a number has no canonical form") ||
        !rule.need(wanted != nullptr && wanted->is_string(meta.slice()),
                   "meta_hash is not that of the identity"))
        return;
    const Slice name = provenance.get(identity, "recipe_name")->text;
    rule.say("recipe %.*s", length(name), name.data);
}

void v6(Rule &rule, bool replay) {
    i64 n_golden = 0;
    if (!v6_chunks(rule) || !v6_golden(rule, n_golden)) return;
    if (replay) {
        (void)v6_replay(rule);
        return;
    }
    rule.row.verdict = S7F_SKIPPED;
    rule.say("chunks and parts taken again: the same; %lld golden prompts not replayed",
             static_cast<long long>(n_golden));
}

void check_rule(Rule &rule, int index, bool replay) {
    static constexpr void (*kChecks[])(Rule &) = {v0_order,       v1_folds, v2_control, v3_data,
                                                  v4_projections, v5_map,   nullptr,    v7_formats};
    rule.row.id[0] = 'V', rule.row.id[1] = static_cast<char>('0' + index), rule.row.id[2] = 0;
    if (!rule.need(!rule.file.lanes.empty(), "a header-only file: it holds nothing to check") ||
        !rule.need(index == 0 || !rule.file.is_published(),
                   "a file of the published contract: no seal binds what this rule reads"))
        return;
    if (index == 6) return v6(rule, replay);
    kChecks[index](rule);
}

}  // namespace

bool Rule::need(bool holds, const char *what, ...) {
    if (holds) return true;
    row.verdict = S7F_FAIL;
    std::va_list arguments;
    va_start(arguments, what);
    std::vsnprintf(row.detail, sizeof row.detail, what, arguments);
    va_end(arguments);
    printable(row.detail);
    return false;
}

void Rule::say(const char *what, ...) {
    if (row.verdict == S7F_FAIL) return;
    std::va_list arguments;
    va_start(arguments, what);
    std::vsnprintf(row.detail, sizeof row.detail, what, arguments);
    va_end(arguments);
    printable(row.detail);
}

const Value *Rule::list(LaneKind kind, const Slice &key) {
    const Document &document = file.of(kind);
    const Value *found = file.has[kind] ? document.get(key) : nullptr;
    return need(list_of_objects(document, found), "EDGE %s has no list of objects '%s'",
                kind_name(kind).data, key.data)
               ? found
               : nullptr;
}

const Value *Rule::operations() { return list(kGraph, "operations"); }

bool stores(const s7f_file &file, u8 id) {
    for (const Lane &lane : file.lanes)
        if (lane.id == id && lane.n_bytes > 0) return true;
    return false;
}

s7f_status check_rules(const s7f_file &file, bool replay, s7f_rule rows[S7F_N_RULES]) {
    for (int i = 0; i < S7F_N_RULES; ++i) {
        rows[i] = s7f_rule{};
        Rule rule(file, rows[i]);
        check_rule(rule, i, replay);
        if (rule.out_of_memory) return S7F_MEMORY;
    }
    return S7F_OK;
}

s7f_status refuse_failed(const s7f_rule rows[S7F_N_RULES], s7f_error *error) {
    for (int i = 0; i < S7F_N_RULES; ++i)
        if (rows[i].verdict == S7F_FAIL)
            return refuse(error, S7F_UNVERIFIED, rows[i].id, "%s", rows[i].detail);
    return S7F_OK;
}

}  // namespace s7f
