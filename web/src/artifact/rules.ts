/** V0 to V7 of specs/verification.md over a file that the reader took, one function each. */

import { compareText, fromUtf8, toHex } from "../core/bytes.ts";
import { printable } from "../core/errors.ts";
import { leafHash, merkleFold } from "../core/merkle.ts";
import { sha256, type StartHash, startHash, taggedDigest } from "../core/sha256.ts";
import { laneLeaf } from "./binding.ts";
import { Failed, listOf, need } from "./checks.ts";
import { pythonText, stateChanges, storedLanes, writesOf } from "./changes.ts";
import { payloadOffset, whereOf } from "./frames.ts";
import { isDigest, isNatural, isObject, type Json, type JsonObject, member } from "./json.ts";
import { canonical } from "./json_write.ts";
import * as layout from "./layout.ts";
import type { Artifact } from "./reader.ts";
import { checkPieces } from "./pieces.ts";
import { checkGolden, type Replay } from "./golden.ts";

export type Verdict = "pass" | "fail" | "skipped";

export interface Row {
  readonly id: string;
  readonly title: string;
  readonly status: Verdict;
  readonly detail: string;
}

const operationsOf = (artifact: Artifact): JsonObject[] => listOf(artifact, "graph", "operations");

function v0(artifact: Artifact): string {
  const names = [...artifact.records.keys()];
  for (const [i, name] of names.entries())
    need(i === 0 || names[i - 1]! < name, `FIELD: tensor '${name}' stands after one of a higher name`);
  for (const record of artifact.records.values())
    need(Number.isFinite(record.scale), `FIELD: the scale of '${record.name}' is not finite`);
  const lanes = artifact.lanes;
  for (let i = 1; i < lanes.length; ++i) {
    const [before, lane] = [lanes[i - 1]!, lanes[i]!];
    const order =
      Number(before.kind !== "seal") - Number(lane.kind !== "seal") ||
      before.id - lane.id ||
      compareText(before.kind, lane.kind);
    need(order <= 0, `${whereOf(lane)} stands after a lane of a higher id or kind`);
  }
  for (const lane of lanes) {
    if (!lane.kind) continue;
    const text = canonical(artifact.json.get(lane.kind)!);
    need(text !== null, `${whereOf(lane)}: a number has no canonical form`);
    const payload = fromUtf8(artifact.source.read(payloadOffset(lane), lane.n_bytes));
    need(payload === text, `${whereOf(lane)}: the ${lane.kind} JSON is not in canonical form`);
  }
  return `${names.length} tensors and ${lanes.length} lanes in order, JSON canonical`;
}

function v1(artifact: Artifact): string {
  const operations = operationsOf(artifact);
  need(operations.length > 0, "EDGE graph has no operations");
  for (const [i, operation] of operations.entries()) {
    const name = operation.get("op");
    const fold = operation.get("fold");
    need(typeof name === "string" && name.length > 0, `operation ${i} has no name`);
    need(typeof fold === "string", `operation ${i}: exactly one fold is asked for`);
    need(layout.KNOWN_FOLDS.includes(fold), `operation ${i} names the unknown fold '${fold}'`);
  }
  return `${operations.length} operations, one fold each`;
}

const CONTROL_FIELDS = "allow,change,decide_hash,policy_hash,target_fold";

function v2(artifact: Artifact): string {
  const records = listOf(artifact, "control", "records");
  const changes = stateChanges(storedLanes(artifact), operationsOf(artifact));
  const seen = new Set<string>();
  for (const [i, record] of records.entries()) {
    const where = `control record ${i}`;
    need(
      [...record.keys()].sort(compareText).join() === CONTROL_FIELDS,
      `${where} has the fields of another form`,
    );
    const change = record.get("change");
    const fold = record.get("target_fold");
    const policy = record.get("policy_hash");
    need(
      typeof change === "string" && changes.has(change),
      `${where} is about a change which the file does not do`,
    );
    need(!seen.has(change), `${where}: its change has a record already`);
    need(record.get("allow") === true, `${where} does not allow it`);
    need(
      typeof fold === "string" && layout.KNOWN_FOLDS.includes(fold),
      `${where} has the target fold of no lane`,
    );
    need(isDigest(policy), `${where} has no policy_hash`);
    const decided = toHex(taggedDigest("sevenfold/decide/1", change, fold, policy, "allow"));
    need(record.get("decide_hash") === decided, `${where}: decide_hash is not that of '${change}'`);
    seen.add(change);
  }
  const missing = [...changes.keys()].find((change) => !seen.has(change));
  need(missing === undefined, `no control record for '${missing}'`);
  return `${seen.size} state changes, each decided and allowed`;
}

const DATA_LANES: readonly number[] = [layout.DICT, layout.FIELD, layout.BATCH];

function checkData(artifact: Artifact, entry: JsonObject, id: number): void {
  const name = layout.LANE_NAMES[id]!;
  const collapse = entry.get("collapse");
  need(isObject(collapse), `data entry for ${name} has no object 'collapse'`);
  const trace = artifact.lanes.find((lane) => lane.id === layout.LANE);
  const traceHash = trace ? toHex(trace.sha256) : null;
  need(
    traceHash !== null && entry.get("trace_hash") === traceHash,
    `${name}: trace_hash is not that of the LANE payload`,
  );
  const leaves = artifact.lanes.filter((lane) => lane.id === id).map((lane) => leafHash(laneLeaf(lane)));
  const root = toHex(merkleFold(leaves));
  need(collapse.get("hash") === root, `${name}: collapse.hash is not that of its lanes`);
  need(entry.get("stored") === true, `${name}: not marked as stored`);
  const recipe = pythonText(member(artifact.json.get("provenance")?.get("identity"), "recipe_digest"));
  const bound =
    recipe === null ? null : toHex(taggedDigest("sevenfold/seal/1", name, traceHash, root, recipe));
  need(
    entry.get("seal_hash") === bound,
    `${name}: seal_hash does not bind the data to this trace and recipe`,
  );
}

function v3(artifact: Artifact): string {
  const entries = listOf(artifact, "provenance", "data");
  const seen = new Set<number>();
  for (const [i, entry] of entries.entries()) {
    const name = entry.get("lane");
    const id = typeof name === "string" ? layout.laneNamed(name) : 0;
    const isHeld = DATA_LANES.includes(id) && artifact.lanes.some((lane) => lane.id === id);
    need(isHeld, `data entry ${i} is for a lane which the file does not hold`);
    need(!seen.has(id), `data entry for ${layout.LANE_NAMES[id]} twice`);
    seen.add(id);
    checkData(artifact, entry, id);
  }
  const stored = storedLanes(artifact);
  const bare = DATA_LANES.find((id) => stored.has(id) && !seen.has(id));
  need(
    bare === undefined,
    `${layout.LANE_NAMES[bare ?? 0]}: stored without trace_hash, collapse.hash and seal_hash`,
  );
  return `${entries.length} lanes bound to the training trace`;
}

function v4(artifact: Artifact): string {
  const declared = artifact.json.get("control")?.get("projections");
  need(
    Array.isArray(declared) && declared.length === 1 && declared[0] === "LANE",
    "EDGE control declares the projections of another form",
  );
  need(
    !storedLanes(artifact).has(layout.LANE) || artifact.json.get("trace")?.get("projection") === true,
    "the LANE payload does not say that it is a projection",
  );
  for (const [i, operation] of operationsOf(artifact).entries())
    need(!writesOf(operation).includes("LANE"), `operation ${i} writes LANE, which is a projection`);
  return "LANE is written by no operation";
}

function v5(artifact: Artifact): string {
  const bindings = artifact.json.get("control")?.get("bindings");
  const isMap =
    isObject(bindings) &&
    bindings.size === 5 &&
    Object.entries(layout.LANE_NAMES).every(([id, name]) => bindings.get(name) === layout.FOLDS[Number(id)]);
  need(isMap, "EDGE control binds lanes otherwise; the map is that of the rules");
  const operations = operationsOf(artifact);
  for (const [i, operation] of operations.entries())
    for (const name of writesOf(operation)) {
      const id = typeof name === "string" ? layout.laneNamed(name) : 0;
      need(id !== 0, `operation ${i} writes an unknown lane`);
      need(
        operation.get("fold") === layout.FOLDS[id],
        `operation ${i} writes ${layout.LANE_NAMES[id]}, which is bound to ${layout.FOLDS[id]}`,
      );
    }
  const changes = stateChanges(storedLanes(artifact), operations);
  for (const [i, record] of listOf(artifact, "control", "records").entries()) {
    const change = record.get("change");
    const bound = typeof change === "string" ? changes.get(change) : undefined;
    need(
      bound === undefined || bound === null || record.get("target_fold") === bound,
      `control record ${i} targets a fold, its lane is bound to another`,
    );
  }
  return "5 lanes bound as the map says";
}

function checkIdentity(identity: JsonObject): void {
  for (const name of ["dataset_root", "recipe_digest", "tokenizer_digest"])
    need(isDigest(identity.get(name)), `identity: ${name} is not a SHA-256`);
  for (const name of ["code_version", "recipe_name"]) {
    const value = identity.get(name);
    need(typeof value === "string" && value.length > 0, `identity: ${name} is no text`);
  }
  need(isNatural(identity.get("training_seed")), "identity: training_seed is no number");
}

function v7(artifact: Artifact): string {
  const provenance = artifact.json.get("provenance");
  need(provenance !== undefined && provenance.size > 0, "no provenance: an anonymous model (rule D6)");
  need(provenance.get("abi_hash") === layout.ABI_HASH, "abi_hash is not that of this format");
  need(provenance.get("policy_hash") === layout.POLICY_HASH, "policy_hash is not that of these rules");
  for (const [i, record] of listOf(artifact, "control", "records").entries())
    need(record.get("policy_hash") === layout.POLICY_HASH, `control record ${i} was made under other rules`);
  const identity: Json | undefined = provenance.get("identity");
  need(isObject(identity), "EDGE provenance has no object 'identity'");
  checkIdentity(identity);
  need(
    identity.get("tokenizer_digest") === toHex(sha256(artifact.dictionary)),
    "tokenizer_digest is not the SHA-256 of the DICT payload",
  );
  const text = canonical(identity);
  need(text !== null, "identity: a number has no canonical form");
  need(
    provenance.get("meta_hash") === toHex(taggedDigest("sevenfold/meta/1", text)),
    "meta_hash is not that of the identity",
  );
  return `recipe ${String(identity.get("recipe_name"))}`;
}

type Check = readonly [id: string, title: string, run: (artifact: Artifact) => string];

const CHECKS: readonly Check[] = [
  ["V0", "canonical order", v0],
  ["V1", "one fold per operation", v1],
  ["V2", "control records", v2],
  ["V3", "data hashes", v3],
  ["V4", "read-only projections", v4],
  ["V5", "fold to lane map", v5],
  ["V6", "replay", () => ""],
  ["V7", "formats and rules", v7],
];

export interface VerifyOptions {
  readonly startHash?: StartHash;
  /** The chunks were proved by the seal while they came: do not hash them again. */
  readonly isProved?: boolean;
  /** Runs the golden prompts; without it V6 says that they were not run. */
  readonly replay?: Replay;
}

function v6(artifact: Artifact, options: VerifyOptions): [Verdict, string] {
  const n_chunks = checkPieces(artifact, options.isProved ? null : (options.startHash ?? startHash));
  const golden = listOf(artifact, "provenance", "golden");
  need(golden.length > 0, "no golden logits travel with the model");
  for (const [i, row] of golden.entries()) checkGolden(i, row);
  if (!options.replay)
    return ["skipped", `${n_chunks} chunks: the same; ${golden.length} golden prompts not run`];
  const differs = options.replay(artifact, golden);
  need(differs === null, differs ?? "");
  return [
    "pass",
    `${n_chunks} chunks: the same; ${golden.length} golden replays, the same logits bit for bit`,
  ];
}

function runCheck([id, title, run]: Check, artifact: Artifact, options: VerifyOptions): Row {
  const row = (status: Verdict, detail: string): Row => ({
    id,
    title,
    status,
    detail: printable(detail, 300),
  });
  if (artifact.lanes.length === 0) return row("fail", "a header-only file: it holds nothing to check");
  if (artifact.header.isPublished && id !== "V0")
    return row("fail", "a file of the published contract: no seal binds what this rule reads");
  try {
    return id === "V6" ? row(...v6(artifact, options)) : row("pass", run(artifact));
  } catch (error) {
    if (error instanceof Failed) return row("fail", error.message);
    throw error;
  }
}

/** Run V0 to V7. The rows are the result; nothing is thrown for what is in the file. */
export function verify(artifact: Artifact, options: VerifyOptions = {}): Row[] {
  return CHECKS.map((check) => runCheck(check, artifact, options));
}
