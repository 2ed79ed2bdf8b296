/** The tables of specs/sampling.md, section 3, proved by the digests that stand there. */

import { toHex } from "../core/bytes.ts";
import { EngineError } from "../core/errors.ts";
import { sha256 } from "../core/sha256.ts";
import { entries, tableBytes } from "../engine/tables.ts";

export interface SamplingTables {
  readonly log2: Int32Array;
  readonly exp2: Int32Array;
  readonly ratio: Int32Array;
}

const DIGESTS: Readonly<Record<keyof SamplingTables, string>> = {
  log2: "b9819857e88df10e397d19979e7b5a3c783dc4052333f0660aae279d54a240a4",
  exp2: "ecb32c7f1d1fe7f1aee706aeff866caa37e2bc7452009bbda556697271d45394",
  ratio: "9affab10c754e83db4f5b393a99db7d5905d542b37984ddfce6086dc89aa6d64",
};
const N_ENTRIES = 257;

function ratioOf(i: number): number {
  const e = i / 512;
  // log1p keeps the digits of small e.
  return i === 0 ? Math.log2(Math.LOG2E) : Math.log2((-Math.log1p(-e) * Math.LOG2E) / e);
}

let known: SamplingTables | null = null;

/** The tables. Throws an `EngineError` where the numbers of this program are others. */
export function samplingTables(): SamplingTables {
  if (known) return known;
  const tables: SamplingTables = {
    log2: entries(N_ENTRIES, (i) => 2 ** 20 * Math.log2(1 + i / 256)),
    exp2: entries(N_ENTRIES, (i) => 2 ** 24 * 2 ** (-i / 256)),
    ratio: entries(N_ENTRIES, (i) => 2 ** 20 * ratioOf(i)),
  };
  for (const name of ["log2", "exp2", "ratio"] as const)
    if (toHex(sha256(tableBytes(tables[name]))) !== DIGESTS[name])
      throw new EngineError(
        `the table ${name} of the sampling law comes out otherwise here`,
        "tables",
        "use another browser",
      );
  known = tables;
  return tables;
}

/** A table's value at `index` and `rest` of 2^bits parts of the way to the next entry. */
export function between(table: Int32Array, index: number, rest: number, bits: number): number {
  const low = table[index]!;
  return low + Math.floor(((table[index + 1]! - low) * rest) / 2 ** bits + 0.5);
}
