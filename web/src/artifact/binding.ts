/** What binds a file together: the root over the payloads' digests, and the seal. */

import { type Bytes, concat, equalBytes, toHex } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";
import { leafHash, merkleFold, pairedFold } from "../core/merkle.ts";
import { AGAIN, type Header, type Lane, whereOf } from "./frames.ts";
import { equalsInteger, type Json, JsonBudget, type JsonObject, member, parseObject } from "./json.ts";
import * as layout from "./layout.ts";
import { parseSeal, type Seal, type SealedLane } from "./seal.ts";

const ROOT_PLACE = "header, root field at offset 8";

function spelled(word: string): string {
  const letters = [...word].map((c) => {
    const code = c.charCodeAt(0).toString(16);
    return `(?:${c}|\\\\u00${code.replace(/[a-f]/g, (d) => `[${d}${d.toUpperCase()}]`)})`;
  });
  return `"${letters.join("")}"`;
}

const CALLS_ITSELF_A_SEAL = new RegExp(`${spelled("kind")}[ \\t\\n\\r]*:[ \\t\\n\\r]*${spelled("seal")}`);
const latin1 = new TextDecoder("latin1");

/** A payload that calls itself a seal, of any lane; null for any other. `parseSeal` judges its shape. */
export function sealValue(payload: Bytes, n_file: number): JsonObject | null {
  if (payload.length === 0 || payload[0] !== 0x7b) return null;
  if (!CALLS_ITSELF_A_SEAL.test(latin1.decode(payload))) return null;
  try {
    const value = parseObject(payload, "", new JsonBudget(n_file));
    return value.get("kind") === "seal" ? value : null;
  } catch (error) {
    if (error instanceof ArtifactError) return null;
    throw error;
  }
}

/** The five bytes and the digest of a lane: its leaf in `collapse.hash`, and in the earlier root. */
export function laneLeaf(lane: Lane): Bytes {
  const head = new Uint8Array(layout.LANE_HEAD_BYTES);
  const view = new DataView(head.buffer);
  view.setUint8(0, lane.id);
  view.setUint32(1, lane.n_bytes);
  return concat(head, lane.sha256);
}

function isEarlierForm(header: Header, headBytes: Bytes, lanes: readonly Lane[]): boolean {
  const leaves = [headBytes, ...lanes.map(laneLeaf)].map(leafHash);
  return equalBytes(merkleFold(leaves), header.root);
}

function lists(listed: SealedLane, lane: Lane): boolean {
  return listed.id === lane.id && listed.n_bytes === lane.n_bytes && equalBytes(listed.sha256, lane.sha256);
}

// Which part was changed, by the seal. Every payload but FIELD's matches its own digest here.
function changedPlace(
  header: Header,
  lanes: readonly Lane[],
  own: Lane | null,
  seal: JsonObject | null,
): [string, string] {
  if (!own || !seal) return [ROOT_PLACE, "the lanes found do not give the root in the header"];
  if (own.id !== layout.EDGE) return [whereOf(own), `its id is ${own.id}, a seal lies in EDGE`];
  if (seal.get("header") !== header.head) return ["header", "its first bytes are not those of the seal"];
  const found = seal.get("lanes");
  const listed: readonly Json[] = Array.isArray(found) ? found : [];
  const others = lanes.filter((lane) => lane !== own);
  for (const [i, lane] of others.entries()) {
    const entry = listed[i];
    if (entry === undefined) return [whereOf(lane), "the lane is not in the seal"];
    if (!equalsInteger(member(entry, "id"), lane.id))
      return [whereOf(lane), `its id is ${lane.id}, the seal lists another`];
    if (member(entry, "sha256") !== toHex(lane.sha256))
      return [whereOf(lane), "its payload is not the one that the seal lists"];
    if (!equalsInteger(member(entry, "n_bytes"), lane.n_bytes))
      return [whereOf(lane), "its length is not that in the seal"];
  }
  if (others.length < listed.length)
    return ["end of the file", `a lane is missing: the seal lists ${listed.length} lanes`];
  if (own !== lanes[0]) return [whereOf(lanes[0]!), "it stands before the seal"];
  return [ROOT_PLACE, "every lane is the one that was sealed, the root field was changed"];
}

export interface Binding {
  readonly own: Lane | null;
  readonly value: JsonObject | null;
  readonly seal: Seal | null;
}

/**
 * Refuse a file whose root is not that of its lanes, or whose header and lanes are not those of its
 * seal. `payloadOf` reads a lane; payloads past a JSON lane's cap cannot be a seal and are not read.
 */
export function checkBinding(
  header: Header,
  headBytes: Bytes,
  lanes: readonly Lane[],
  n_file: number,
  payloadOf: (lane: Lane) => Bytes,
): Binding {
  let own: Lane | null = null;
  let value: JsonObject | null = null;
  for (const lane of lanes) {
    if (own || lane.n_bytes > layout.MAX_JSON_BYTES) continue;
    value = sealValue(payloadOf(lane), n_file);
    if (value) own = lane;
  }
  const refuseChanged = (what: string): never => {
    const [where, changed] = changedPlace(header, lanes, own, value);
    throw new ArtifactError("RootError", `${changed}; ${what}`, where, AGAIN);
  };
  if (!equalBytes(pairedFold(lanes.map((lane) => lane.sha256)), header.root)) {
    if (header.isPublished && isEarlierForm(header, headBytes, lanes))
      throw new ArtifactError(
        "EarlierFormError",
        "the root is that of the form from before version 3",
        ROOT_PLACE,
        "seal the model again",
      );
    refuseChanged("the root does not match");
  }
  if (header.isPublished) {
    if (!own) return { own: null, value: null, seal: null };
    throw new ArtifactError(
      "VersionError",
      `format version ${header.version} has no seal, lane ${own.index} is one: the header was changed`,
      "header, offset 4",
      AGAIN,
    );
  }
  if (lanes.length === 0) return { own: null, value: null, seal: null };
  if (!own || !value) {
    const first = lanes[0]!;
    // A seal that is no JSON, or past a cap, says that.
    if (first.id === layout.EDGE) parseObject(payloadOf(first), whereOf(first), new JsonBudget(n_file));
    throw new ArtifactError(
      "SealError",
      "format version 3 has a seal among its lanes, this file has none",
      "header, offset 4",
      AGAIN,
    );
  }
  if (own.id === layout.EDGE) {
    const seal = parseSeal(value, `${whereOf(own)}, seal`);
    const others = lanes.filter((lane) => lane !== own);
    const listsAll =
      seal.lanes.length === others.length && others.every((lane, i) => lists(seal.lanes[i]!, lane));
    if (seal.header === header.head && listsAll) return { own, value, seal };
  }
  return refuseChanged("the seal does not match");
}
