/** The bytes against the seal (rule V6): every chunk, piece and part taken again. */

import { equalBytes, type Bytes } from "../core/bytes.ts";
import { leafHash, merkleFold } from "../core/merkle.ts";
import type { StartHash } from "../core/sha256.ts";
import { type Lane, payloadOffset, whereOf } from "./frames.ts";
import type { Artifact } from "./reader.ts";
import { need } from "./checks.ts";
import { partOf, type Piece, pieceRoot } from "./seal.ts";
import { hashRange } from "./source.ts";

/** Every piece with its lane and its offset in the file. */
export function* located(artifact: Artifact): Generator<[Lane, Piece, number]> {
  const others = artifact.lanes.filter((lane) => lane.kind !== "seal");
  for (const [i, lane] of others.entries()) {
    let offset = payloadOffset(lane);
    for (const piece of artifact.seal?.lanes[i]?.pieces ?? []) {
      yield [lane, piece, offset];
      offset += piece.n_bytes;
    }
  }
}

/** Returns the number of chunks. Without a hash their bytes are taken as proved, as those of a download are. */
export function checkPieces(artifact: Artifact, startHash: StartHash | null): number {
  const seal = artifact.seal;
  need(seal !== null, "the file has no seal");
  const records = [...artifact.records.values()];
  let n_named = 0;
  for (const [, piece, offset] of located(artifact)) {
    if (!piece.name) continue;
    const record = records[n_named++];
    need(
      record?.name === piece.name && record.start === offset,
      "seal: its pieces are not the records of FIELD",
    );
  }
  need(n_named === records.length, "seal: its pieces are not the records of FIELD");
  const parts = new Map<string, Bytes[]>();
  let n_chunks = 0;
  for (const [lane, piece, offset] of located(artifact)) {
    for (let at = 0, i = 0; at < piece.n_bytes; at += seal.chunk_bytes, ++i, ++n_chunks) {
      if (!startHash) continue;
      const hashing = startHash();
      hashRange(artifact.source, offset + at, Math.min(seal.chunk_bytes, piece.n_bytes - at), hashing);
      need(
        equalBytes(hashing.digest(), piece.chunks.subarray(32 * i, 32 * i + 32)),
        `${whereOf(lane)}: the chunk at offset ${offset + at} does not hash to what the seal lists`,
      );
    }
    if (!piece.name) continue;
    const part = partOf(piece.name);
    const leaf = leafHash(pieceRoot(piece));
    const leaves = parts.get(part);
    if (leaves) leaves.push(leaf);
    else parts.set(part, [leaf]);
  }
  need(parts.size === seal.parts.size, "seal: it lists other parts than the file has");
  for (const [part, leaves] of parts) {
    const sealed = seal.parts.get(part);
    need(
      sealed !== undefined && equalBytes(sealed, merkleFold(leaves)),
      "seal: the sub-root of a part is not that of its records",
    );
  }
  return n_chunks;
}
