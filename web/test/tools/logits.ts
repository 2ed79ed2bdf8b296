/**
 * Digests of logits and caches of a file on the engine: one JSON line for each run.
 *
 * Input: the path of a model, that of a JSON list of runs {ids, cuts, n_layers}, and the threads. The ids of
 * a run are appended in the parts that `cuts` divide; the digest is over the logits of every id, then over
 * the cache of each layer: codes, m and e of keys, then of values.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { readArtifact } from "../../src/artifact/reader.ts";
import { MemorySource } from "../../src/artifact/source.ts";
import { toHex } from "../../src/core/bytes.ts";
import { startHash } from "../../src/core/sha256.ts";
import { hashLogits } from "../../src/engine/golden.ts";
import { WasmEngine } from "../../src/engine/wasm/engine.ts";
import { loadWeights } from "../../src/engine/weights.ts";

interface Run {
  readonly ids: number[];
  readonly cuts: number[];
  readonly n_layers: number;
}

const [path, runs, to, threads] = process.argv.slice(2);
if (!path || !runs || !to) throw new Error("usage: logits MODEL RUNS LINES [THREADS]");
const artifact = readArtifact(new MemorySource(new Uint8Array(readFileSync(path))));
const engine = await WasmEngine.make(loadWeights(artifact), { n_threads: Number(threads ?? 1) });
if (engine.n_threads !== Number(threads ?? 1)) throw new Error(engine.detail);
const lines: string[] = [];
for (const run of JSON.parse(readFileSync(runs, "utf8")) as Run[]) {
  const session = await engine.session();
  const logits = startHash();
  const ends = [...run.cuts, run.ids.length];
  let begin = 0;
  for (const end of ends) {
    hashLogits(logits, await session.forward(run.ids.slice(begin, end), end - begin));
    begin = end;
  }
  const cache = startHash();
  for (let layer = 0; layer < run.n_layers; ++layer)
    for (const what of ["keys", "values"] as const) {
      const { codes, m, e } = await session.keyValues(layer, what);
      cache.add(new Uint8Array(codes.buffer));
      hashLogits(cache, m);
      hashLogits(cache, e);
    }
  session.close();
  lines.push(JSON.stringify([toHex(logits.digest()), toHex(cache.digest())]));
}
writeFileSync(to, lines.map((line) => `${line}\n`).join(""));
engine.close();
