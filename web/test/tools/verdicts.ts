/**
 * What this reader says of files: one line each, the cause of a refusal or the verdicts of the rules.
 *
 * Input: the path of a file that holds files in a row, each behind its length as a big-endian u32.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { readArtifact } from "../../src/artifact/reader.ts";
import { verify } from "../../src/artifact/rules.ts";
import { MemorySource } from "../../src/artifact/source.ts";
import { ArtifactError } from "../../src/core/errors.ts";

function verdict(data: Uint8Array): string {
  try {
    const artifact = readArtifact(new MemorySource(data));
    return verify(artifact)
      .map((row) => row.status)
      .join(" ");
  } catch (error) {
    // Anything else is a fault of the reader, and its name says so.
    return error instanceof ArtifactError ? error.name : `CRASH ${String(error)}`;
  }
}

const [from, to] = process.argv.slice(2);
if (!from || !to) throw new Error("usage: verdicts FILES LINES");
const whole = readFileSync(from);
const lines: string[] = [];
for (let at = 0; at < whole.length;) {
  const n = whole.readUInt32BE(at);
  lines.push(verdict(new Uint8Array(whole.subarray(at + 4, at + 4 + n))));
  at += 4 + n;
}
writeFileSync(to, lines.map((line) => `${line}\n`).join(""));
