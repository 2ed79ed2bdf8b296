/**
 * Which tokenizer files are read: one line each, "taken" or "refused".
 *
 * Input: a file that holds files in a row, each behind its length as a big-endian u32.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { ArtifactError } from "../../src/core/errors.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

const [from, to] = process.argv.slice(2);
if (!from || !to) throw new Error("usage: dictionaries FILES LINES");
const whole = readFileSync(from);
const lines: string[] = [];
for (let at = 0; at < whole.length;) {
  const n = whole.readUInt32BE(at);
  try {
    new Tokenizer(new Uint8Array(whole.subarray(at + 4, at + 4 + n)));
    lines.push("taken");
  } catch (error) {
    lines.push(
      error instanceof ArtifactError && error.name === "TokenizerError" ? "refused" : `CRASH ${error}`,
    );
  }
  at += 4 + n;
}
writeFileSync(to, lines.map((line) => `${line}\n`).join(""));
