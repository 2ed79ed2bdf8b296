/**
 * The tables of specs/arithmetic.md, section 2. They are taken in doubles: no entry lies near a half,
 * and the digest in the specification proves the result on the engine at hand.
 */

import { TABLES_DIGEST } from "../artifact/layout.ts";
import { type Bytes, toHex } from "../core/bytes.ts";
import { EngineError } from "../core/errors.ts";
import { taggedDigest } from "../core/sha256.ts";

export interface LawTables {
  readonly exp2: Int32Array;
  readonly sigmoid: Int32Array;
  readonly rsqrt: Int32Array;
}

/** `n` entries, each rounded half up. */
export function entries(n: number, value: (i: number) => number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => Math.floor(value(i) + 0.5));
}

/** The entries as big-endian integers of 64 bits: what digests of tables are over. */
export function tableBytes(table: Int32Array): Bytes {
  const bytes = new Uint8Array(8 * table.length);
  const view = new DataView(bytes.buffer);
  table.forEach((entry, i) => view.setBigInt64(8 * i, BigInt(entry)));
  return bytes;
}

let known: LawTables | null = null;

/** The tables. Throws an `EngineError` where the numbers of this program are others. */
export function lawTables(): LawTables {
  if (known) return known;
  const tables: LawTables = {
    exp2: entries(65, (i) => 32512 * 2 ** (-i / 64)),
    sigmoid: entries(513, (i) => 32768 / (1 + Math.exp(-i / 32))),
    rsqrt: entries(192, (i) => Math.min(65535, 65536 / Math.sqrt((i + 64.5) / 64))),
  };
  const found = taggedDigest("sevenfold/tables/1", ...Object.values(tables).map(tableBytes));
  if (toHex(found) !== TABLES_DIGEST)
    throw new EngineError("the tables of the law come out otherwise here", "tables", "use another browser");
  known = tables;
  return tables;
}
