/**
 * A chain over the logits of windows of ids: each link is SHA-256 of the one before and of every logit of a
 * window, as big-endian words.
 *
 * Input: a model, a JSON list of ids, the ids of a window, and the last link in hex. Prints the new one.
 */

import { readFileSync } from "node:fs";
import { readArtifact } from "../../src/artifact/reader.ts";
import { MemorySource } from "../../src/artifact/source.ts";
import { toHex } from "../../src/core/bytes.ts";
import { hashLogits } from "../../src/engine/golden.ts";
import { WasmEngine } from "../../src/engine/wasm/engine.ts";
import { wasmHash, WasmInstance } from "../../src/engine/wasm/module.ts";
import { loadWeights } from "../../src/engine/weights.ts";

const [path, list, window, link] = process.argv.slice(2);
if (!path || !list || !window || !link) throw new Error("usage: windows MODEL IDS WINDOW LINK");
const engine = await WasmEngine.make(loadWeights(readArtifact(new MemorySource(readFileSync(path)))));
const ids = JSON.parse(readFileSync(list, "utf8")) as number[];
const startHash = wasmHash(await WasmInstance.make(false));
let last: Uint8Array = Buffer.from(link, "hex");
for (let at = 0; at < ids.length; at += Number(window)) {
  const part = ids.slice(at, at + Number(window));
  const session = engine.session();
  const hashing = startHash();
  hashing.add(last);
  hashLogits(hashing, await session.forward(part, part.length));
  session.close();
  last = hashing.digest();
}
console.log(toHex(last));
engine.close();
