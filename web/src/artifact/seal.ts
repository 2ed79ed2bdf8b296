/** The seal as a structure: its shape is checked here; whether it is true is for the bytes to say. */

import { type Bytes, fromHex } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";
import { leafHash, merkleFold } from "../core/merkle.ts";
import { integerWithin, isObject, type Json, type JsonObject, member } from "./json.ts";
import * as layout from "./layout.ts";

/** A run of bytes that is hashed by itself. `name` is the tensor's, "" outside FIELD. */
export interface Piece {
  readonly name: string;
  readonly n_bytes: number;
  /** Digests in a row, 32 bytes each. */
  readonly chunks: Bytes;
}

export interface SealedLane {
  readonly id: number;
  readonly kind: string;
  readonly n_bytes: number;
  readonly sha256: Bytes;
  readonly pieces: readonly Piece[];
}

export interface Seal {
  readonly header: string;
  readonly chunk_bytes: number;
  readonly lanes: readonly SealedLane[];
  readonly parts: ReadonlyMap<string, Bytes>;
}

function fail(where: string, what: string): never {
  throw new ArtifactError("SealError", `the seal: ${what}`, where);
}

function asciiText(value: Json | undefined, where: string, what: string): string {
  if (typeof value !== "string" || !isAscii(value)) fail(where, `${what} is no text`);
  return value;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; ++i) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

function digests(value: Json | undefined, count: number, where: string, what: string): Bytes {
  const text = asciiText(value, where, what);
  const found = text.length === 64 * count ? fromHex(text, 32 * count) : null;
  return found ?? fail(where, `${what} is not ${count} digests in lower-case hex`);
}

function length(value: Json | undefined, where: string, what: string): number {
  return integerWithin(value, 0, layout.MAX_LANE_BYTES) ?? fail(where, `${what} is no length`);
}

function parsePiece(value: Json, size: number, where: string): Piece {
  const n_bytes = length(member(value, "n_bytes"), where, "n_bytes of a piece");
  return {
    n_bytes,
    name: asciiText(member(value, "name"), where, "the name of a piece"),
    chunks: digests(member(value, "chunks"), Math.ceil(n_bytes / size), where, "chunks of a piece"),
  };
}

function parseLane(value: Json, size: number, where: string): SealedLane {
  const id = integerWithin(member(value, "id"), layout.DICT, layout.BATCH);
  if (id === null) fail(where, "the id of a lane is none");
  const kind = asciiText(member(value, "kind"), where, "the kind of a lane");
  const n_bytes = length(member(value, "n_bytes"), where, "n_bytes of a lane");
  const sha256 = digests(member(value, "sha256"), 1, where, "sha256 of a lane");
  const listed = member(value, "pieces");
  if (!Array.isArray(listed)) fail(where, "the pieces of a lane are no list");
  const pieces = listed.map((piece) => parsePiece(piece, size, where));
  if (pieces.reduce((sum, piece) => sum + piece.n_bytes, 0) !== n_bytes)
    fail(where, "the pieces of a lane have another length in all");
  return { id, kind, n_bytes, sha256, pieces };
}

/** A seal out of a JSON payload. */
export function parseSeal(value: JsonObject, where: string): Seal {
  const size = integerWithin(value.get("chunk_bytes"), layout.MIN_CHUNK_BYTES, layout.MAX_CHUNK_BYTES);
  if (size === null || (size & (size - 1)) !== 0)
    fail(where, "chunk_bytes is no power of two from 4096 to 16777216");
  const listed = value.get("parts");
  if (!isObject(listed)) fail(where, "parts is no object");
  const header = asciiText(value.get("header"), where, "header");
  const lanes = value.get("lanes");
  if (!Array.isArray(lanes)) fail(where, "lanes is no list");
  const parsed = lanes.map((lane) => parseLane(lane, size, where));
  const parts = new Map<string, Bytes>();
  for (const [name, root] of listed) parts.set(name, digests(root, 1, where, "the root of a part"));
  return { header, chunk_bytes: size, lanes: parsed, parts };
}

/** The RFC 6962 root over the chunk digests of a piece. */
export function pieceRoot(piece: Piece): Bytes {
  const leaves: Bytes[] = [];
  for (let at = 0; at < piece.chunks.length; at += 32)
    leaves.push(leafHash(piece.chunks.subarray(at, at + 32)));
  return merkleFold(leaves);
}

/** The part of the model that a record belongs to: `trunk`, `expert.N` or `training`. */
export function partOf(name: string): string {
  if (name.startsWith("training.")) return "training";
  const found = /(?:^|\.)experts\.([0-9]+)\./.exec(name);
  return found ? `expert.${found[1]}` : "trunk";
}
