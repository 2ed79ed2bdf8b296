/** The two Merkle roots of specs/artifact.md. */

import { type Bytes, concat } from "./bytes.ts";
import { sha256 } from "./sha256.ts";

const LEAF = new Uint8Array([0]);
const NODE = new Uint8Array([1]);

export function leafHash(leaf: Bytes): Bytes {
  return sha256(concat(LEAF, leaf));
}

/** RFC 6962 over leaves that are hashed already: an odd last node is carried upwards. */
export function merkleFold(leaves: readonly Bytes[]): Bytes {
  if (leaves.length === 0) return sha256(new Uint8Array(0));
  let level = [...leaves];
  while (level.length > 1) {
    const above: Bytes[] = [];
    for (let i = 0; i + 1 < level.length; i += 2) above.push(sha256(concat(NODE, level[i]!, level[i + 1]!)));
    if (level.length % 2 === 1) above.push(level[level.length - 1]!);
    level = above;
  }
  return level[0]!;
}

/** RFC 6962 over leaves. */
export function merkleRoot(leaves: readonly Bytes[]): Bytes {
  return merkleFold(leaves.map(leafHash));
}

/** The published root: neighbours paired, an odd last one with itself; zeros for none. */
export function pairedFold(digests: readonly Bytes[]): Bytes {
  if (digests.length === 0) return new Uint8Array(32);
  let level = [...digests];
  while (level.length > 1) {
    const above: Bytes[] = [];
    for (let i = 0; i < level.length; i += 2)
      above.push(sha256(concat(level[i]!, level[i + 1] ?? level[i]!)));
    level = above;
  }
  return level[0]!;
}
