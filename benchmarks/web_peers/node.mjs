// Our engine in Node.js: node.mjs PACKAGE FILE THREADS PROMPT STEPS ROUNDS -> a JSON list of [prefill, decode].
import { readFileSync } from "node:fs";
import { Bench } from "./sevenfold_engine.js";

const [index, file, threads, prompt, steps, rounds] = process.argv.slice(2);
const { loadWeights, MemorySource, readArtifact, WasmEngine } = await import(index);
const weights = loadWeights(readArtifact(new MemorySource(readFileSync(file))));
const bench = new Bench(await WasmEngine.make(weights, { n_threads: Number(threads) }));
const ids = JSON.parse(prompt);
const found = [];
for (let i = 0; i < Number(rounds); ++i)
  found.push([bench.prefill(ids), bench.decode(ids.slice(0, 16), Number(steps))]);
console.log(JSON.stringify(found));
process.exit(0);
