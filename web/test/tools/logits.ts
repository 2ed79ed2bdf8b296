/**
 * The digests of the engine in WebAssembly for runs of ids (shared/digests.ts).
 *
 * Input: a model, a file of runs, where lines of digests are written, and how many threads.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { readArtifact } from "../../src/artifact/reader.ts";
import { MemorySource } from "../../src/artifact/source.ts";
import { WasmEngine } from "../../src/engine/wasm/engine.ts";
import { loadWeights } from "../../src/engine/weights.ts";
import { digestsOf, type Run } from "../shared/digests.ts";

const [path, runs, to, threads] = process.argv.slice(2);
if (!path || !runs || !to) throw new Error("usage: logits MODEL RUNS LINES [THREADS]");
const artifact = readArtifact(new MemorySource(new Uint8Array(readFileSync(path))));
const engine = await WasmEngine.make(loadWeights(artifact), { n_threads: Number(threads ?? 1) });
if (engine.n_threads !== Number(threads ?? 1)) throw new Error(engine.detail);
const lines: string[] = [];
for (const run of JSON.parse(readFileSync(runs, "utf8")) as Run[])
  lines.push(JSON.stringify(await digestsOf(engine, run)));
writeFileSync(to, lines.map((line) => `${line}\n`).join(""));
engine.close();
