/**
 * Tokens of the sampling law: a JSON list from a JSON list of cases {logits, temperature, top_k, min_p, top_p,
 * seed, position, sample}; fractions are decimal texts, the seed is a text.
 */

import { readFileSync } from "node:fs";
import { parseRatio, SamplingLaw } from "../../src/sampling/law.ts";

interface Case {
  readonly logits: number[];
  readonly temperature: string;
  readonly top_k: number;
  readonly min_p: string;
  readonly top_p: string;
  readonly seed: string;
  readonly position: number;
  readonly sample: number;
}

const tokens = (JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Case[]).map((row) => {
  const law = new SamplingLaw({
    temperature: parseRatio(row.temperature, "temperature", 65535),
    top_k: row.top_k,
    min_p: parseRatio(row.min_p, "min-p", 1),
    top_p: parseRatio(row.top_p, "top-p", 1),
    seed: BigInt(row.seed),
  });
  return law.choose(Int32Array.from(row.logits), row.position, row.sample);
});
console.log(JSON.stringify(tokens));
