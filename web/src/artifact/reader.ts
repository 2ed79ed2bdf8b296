/**
 * The total reader of `.s7l` files: any bytes give an `Artifact` or an `ArtifactError`, nothing else.
 *
 * Every size is checked against the file and the caps before it is used. FIELD is hashed a piece at
 * a time, so a file that is read from a handle is never whole in memory.
 */

import { type Bytes, toHex } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";
import { type Hashing, type StartHash, startHash } from "../core/sha256.ts";
import { checkBinding } from "./binding.ts";
import {
  AGAIN,
  checkDigest,
  endOf,
  type Header,
  type Lane,
  parseHeader,
  parseLaneHead,
  payloadOffset,
  whereOf,
} from "./frames.ts";
import { JsonBudget, type JsonObject, parseObject } from "./json.ts";
import * as layout from "./layout.ts";
import { readRecords, type TensorRecord } from "./records.ts";
import type { Seal } from "./seal.ts";
import { type ByteSource, hashRange } from "./source.ts";

/** A file whose structure, root and JSON are right. What its contents promise is `verify`'s to check. */
export interface Artifact {
  readonly source: ByteSource;
  readonly header: Header;
  /** The name of the model, as hex. */
  readonly root: string;
  readonly lanes: readonly Lane[];
  /** The JSON payloads by kind. */
  readonly json: ReadonlyMap<string, JsonObject>;
  readonly seal: Seal | null;
  /** In file order. */
  readonly records: ReadonlyMap<string, TensorRecord>;
  /** The DICT payload; empty when the file has none. */
  readonly dictionary: Bytes;
}

export interface ReadOptions {
  /** A faster SHA-256, such as the engine's. */
  readonly startHash?: StartHash;
  /** The chunks of FIELD were proved by the seal while they came: do not hash the lane again. */
  readonly isProved?: boolean;
}

class Reader {
  readonly #source: ByteSource;
  readonly #startHash: StartHash;
  readonly #isProved: boolean;

  constructor(source: ByteSource, options: ReadOptions) {
    this.#source = source;
    this.#startHash = options.startHash ?? startHash;
    this.#isProved = options.isProved ?? false;
  }

  run(): Artifact {
    const source = this.#source;
    const headBytes = source.read(0, Math.min(layout.HEADER_BYTES, source.n_bytes)).slice();
    const header = parseHeader(headBytes);
    const lanes = this.#lanes();
    const binding = this.#binding(header, headBytes.subarray(0, layout.ROOT_OFFSET), lanes);
    refuseTwins(lanes, header);
    const json = new Map<string, JsonObject>();
    if (!header.isPublished) this.#readJson(lanes, json, binding.own, binding.value);
    if (binding.seal) checkKinds(lanes, binding.seal);
    if (!this.#isProved || !binding.seal) this.#proveFields(lanes);
    const records = readRecords(source, lanes, header.isPadded);
    const dict = lanes.find((lane) => lane.id === layout.DICT);
    return {
      source,
      header,
      root: toHex(header.root),
      lanes,
      json,
      seal: binding.seal,
      records,
      dictionary: dict ? this.#payload(dict).slice() : new Uint8Array(0),
    };
  }

  #payload = (lane: Lane): Bytes => this.#source.read(payloadOffset(lane), lane.n_bytes);

  #hash(lane: Lane): Bytes {
    const hashing: Hashing = this.#startHash();
    hashRange(this.#source, payloadOffset(lane), lane.n_bytes, hashing);
    return hashing.digest();
  }

  #proveFields(lanes: readonly Lane[]): void {
    for (const lane of lanes) if (lane.id === layout.FIELD) checkDigest(lane, this.#hash(lane));
  }

  #lanes(): Lane[] {
    const lanes: Lane[] = [];
    const n_bytes = this.#source.n_bytes;
    try {
      for (let offset = layout.HEADER_BYTES; offset < n_bytes;) {
        const lane = this.#lane(lanes.length, offset);
        lanes.push(lane);
        offset = endOf(lane);
      }
    } catch (error) {
      // A changed length shows only behind its lane: name the lane.
      if (error instanceof ArtifactError) this.#proveFields(lanes);
      throw error;
    }
    return lanes;
  }

  #lane(index: number, offset: number): Lane {
    const source = this.#source;
    const left = source.n_bytes - offset;
    const lane = parseLaneHead(source.read(offset, Math.min(layout.LANE_HEAD_BYTES, left)), index, offset);
    if (endOf(lane) > source.n_bytes)
      throw new ArtifactError(
        "TruncatedError",
        `it claims ${lane.n_bytes} bytes, the file ends ${left} bytes after the lane's start`,
        whereOf(lane),
        AGAIN,
      );
    lane.sha256 = source.read(endOf(lane) - layout.DIGEST_BYTES, layout.DIGEST_BYTES).slice();
    if (lane.id !== layout.FIELD) checkDigest(lane, this.#hash(lane));
    return lane;
  }

  #binding(header: Header, head: Bytes, lanes: readonly Lane[]): ReturnType<typeof checkBinding> {
    try {
      return checkBinding(header, head, lanes, this.#source.n_bytes, this.#payload);
    } catch (error) {
      // If a payload was changed, that is the cause.
      if (error instanceof ArtifactError && error.cause_ === "RootError") this.#proveFields(lanes);
      throw error;
    }
  }

  #readJson(
    lanes: readonly Lane[],
    json: Map<string, JsonObject>,
    own: Lane | null,
    seal: JsonObject | null,
  ): void {
    const budget = new JsonBudget(this.#source.n_bytes);
    for (const lane of lanes) {
      const allowed = layout.KINDS[lane.id];
      if (lane.n_bytes === 0 || !allowed) continue;
      const where = whereOf(lane);
      const payload = this.#payload(lane);
      // The seal was read before the others. It counts, too.
      const value =
        lane === own && seal ? (budget.decode(payload, where), seal) : parseObject(payload, where, budget);
      const kind = value.get("kind");
      if (typeof kind !== "string" || !allowed.includes(kind))
        throw new ArtifactError("LaneKindError", `no kind, or none of ${allowed.join(", ")}`, where);
      if (json.has(kind))
        throw new ArtifactError(
          "DuplicateLaneError",
          `the file has a payload of kind '${kind}' already`,
          where,
        );
      json.set(kind, value);
      lane.kind = kind;
    }
  }
}

function refuseTwins(lanes: readonly Lane[], header: Header): void {
  const once = header.isPublished ? [layout.DICT] : [layout.DICT, layout.LANE, layout.BATCH];
  const seen = new Set<number>();
  for (const lane of lanes) {
    if (once.includes(lane.id) && seen.has(lane.id))
      throw new ArtifactError("DuplicateLaneError", "the file has this lane already", whereOf(lane));
    seen.add(lane.id);
  }
}

function checkKinds(lanes: readonly Lane[], seal: Seal): void {
  const others = lanes.filter((lane) => lane.kind !== "seal");
  for (const [i, lane] of others.entries())
    if (seal.lanes[i]?.kind !== lane.kind)
      throw new ArtifactError(
        "SealError",
        "the seal calls the lane otherwise than its payload does",
        whereOf(lane),
        AGAIN,
      );
}

/** Read and prove a file. Throws an `ArtifactError` that names the cause and the place. */
export function readArtifact(source: ByteSource, options: ReadOptions = {}): Artifact {
  return new Reader(source, options).run();
}
