/**
 * What a file is made of, from its header and seal alone: which bytes follow from the seal, and the digest
 * of every chunk of the others.
 */

import { sealValue } from "../artifact/binding.ts";
import {
  endOf,
  type Header,
  type Lane,
  parseHeader,
  parseLaneHead,
  payloadOffset,
  whereOf,
} from "../artifact/frames.ts";
import { DIGEST_BYTES, HEADER_BYTES, LANE_HEAD_BYTES } from "../artifact/layout.ts";
import { parseSeal } from "../artifact/seal.ts";
import { type Bytes, concat, equalBytes, toHex } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";
import { pairedFold } from "../core/merkle.ts";
import { sha256 } from "../core/sha256.ts";

export interface Chunk {
  readonly offset: number;
  readonly n_bytes: number;
  readonly sha256: Bytes;
}

export interface Plan {
  readonly root: string;
  readonly n_bytes: number;
  /** Header, seal, and heads and digests of lanes: bytes with their place. */
  readonly known: readonly (readonly [offset: number, bytes: Bytes])[];
  /** Everything else, by offset, without gaps but for what is known. */
  readonly chunks: readonly Chunk[];
}

/** Bytes from the start of a file that `makePlan` needs, from the first 45 of them. */
export function planBytes(head: Bytes): number {
  return endOf(firstLane(head));
}

export const HEAD_BYTES = HEADER_BYTES + LANE_HEAD_BYTES;

function firstLane(head: Bytes): Lane {
  const header: Header = parseHeader(head.subarray(0, HEADER_BYTES));
  if (header.isPublished)
    throw new ArtifactError(
      "PublishedError",
      "a file of the published contract has no seal to prove chunks by",
      "header, offset 4",
      "download it whole, and open it from memory",
    );
  return parseLaneHead(head.subarray(HEADER_BYTES, HEAD_BYTES), 0, HEADER_BYTES);
}

/** The plan of a file, from its first `planBytes` bytes; each of them is proved by the root. */
export function makePlan(head: Bytes): Plan {
  const header = parseHeader(head.subarray(0, HEADER_BYTES));
  const lane = firstLane(head);
  const payload = head.subarray(payloadOffset(lane), payloadOffset(lane) + lane.n_bytes);
  const digest = sha256(payload);
  const where = whereOf(lane);
  if (!equalBytes(digest, head.subarray(endOf(lane) - DIGEST_BYTES, endOf(lane))))
    throw new ArtifactError("LaneDigestError", "the seal does not hash to the digest behind it", where);
  // The file is at least as long as its first lane; the budget of JSON grows with the length.
  const value = sealValue(payload, lane.n_bytes * 2);
  if (!value) throw new ArtifactError("SealError", "the first lane is no seal", where);
  const seal = parseSeal(value, where);
  const root = pairedFold([digest, ...seal.lanes.map((listed) => listed.sha256)]);
  if (seal.header !== header.head || !equalBytes(root, header.root))
    throw new ArtifactError("RootError", "header and seal do not give the root in the header", "header");
  const known: (readonly [number, Bytes])[] = [[0, head.slice(0, endOf(lane))]];
  const chunks: Chunk[] = [];
  let offset = endOf(lane);
  for (const listed of seal.lanes) {
    const laneHead = new Uint8Array(LANE_HEAD_BYTES);
    new DataView(laneHead.buffer).setUint32(1, listed.n_bytes);
    laneHead[0] = listed.id;
    known.push([offset, laneHead]);
    offset += LANE_HEAD_BYTES;
    for (const piece of listed.pieces)
      for (let at = 0, i = 0; at < piece.n_bytes; at += seal.chunk_bytes, ++i) {
        const n_bytes = Math.min(seal.chunk_bytes, piece.n_bytes - at);
        chunks.push({ offset, n_bytes, sha256: piece.chunks.subarray(32 * i, 32 * i + 32) });
        offset += n_bytes;
      }
    known.push([offset, concat(listed.sha256)]);
    offset += DIGEST_BYTES;
  }
  return { root: toHex(root), n_bytes: offset, known, chunks };
}
