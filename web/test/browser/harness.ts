/** What tests ask of the engine on WebGPU, in a page: `globalThis.harness`. */

import {
  Client,
  type Engine,
  MemorySource,
  Model,
  type ModelWeights,
  loadWeights,
  readArtifact,
  WasmEngine,
  WebGpuEngine,
  type WebGpuOptions,
} from "../../src/index.ts";
import { toHex } from "../../src/core/bytes.ts";
import { startHash } from "../../src/core/sha256.ts";
import { hashLogits } from "../../src/engine/golden.ts";
import type { Counts } from "../../src/engine/webgpu/device.ts";
import { isPackedFaster } from "../../src/engine/webgpu/packed.ts";
import { digestsOf, type Run } from "../shared/digests.ts";

/** One constant of one program, changed. */
interface Spoiled {
  readonly operation: string;
  readonly from: string;
  readonly to: string;
}

interface Options {
  readonly isPacked?: boolean;
  readonly spoiled?: Spoiled;
}

async function source(url: string): Promise<MemorySource> {
  return new MemorySource(await (await fetch(url)).arrayBuffer());
}

function gpuOptions({ isPacked, spoiled }: Options): WebGpuOptions {
  const edit = (operation: string, text: string): string => {
    if (operation !== spoiled?.operation) return text;
    if (!text.includes(spoiled.from)) throw new TypeError(`${operation} has no ${spoiled.from}`);
    return text.replace(spoiled.from, spoiled.to);
  };
  return { edit, ...(isPacked === undefined ? {} : { isPacked }) };
}

/** Digests of runs on WebGPU (shared/digests.ts), and that greedy steps are those of WebAssembly. */
async function digests(url: string, runs: Run[], options: Options = {}): Promise<[string, string][]> {
  const weights = loadWeights(readArtifact(await source(url)));
  const engine = await WebGpuEngine.make(weights, gpuOptions(options));
  const found: [string, string][] = [];
  for (const run of runs) found.push(await digestsOf(engine, run));
  engine.close();
  return found;
}

/** Greedy blocks of both engines behind each prompt, with stops and forks; "" when they are the same. */
async function blocks(url: string, prompts: number[][], n_tokens: number): Promise<string> {
  const weights = loadWeights(readArtifact(await source(url)));
  const engines: Engine[] = [await WebGpuEngine.make(weights), await WasmEngine.make(weights)];
  const said: string[] = [];
  for (const engine of engines) {
    const lines: unknown[] = [];
    for (const prompt of prompts) {
      const session = await engine.session();
      const first = await session.generate(prompt, n_tokens, []);
      const length = session.length;
      const fork = await session.fork(prompt.length);
      session.truncate(prompt.length - 1);
      // A stop that comes in the middle of a block, and what follows it.
      const stopped = await session.generate(prompt.slice(-1), n_tokens, first.slice(1, 2));
      const after = [...(await session.forward([1], 1))];
      const forked = [...(await fork.forward([2], 1))];
      lines.push([first, length, stopped, session.length, after, forked, fork.length]);
      fork.close();
      session.close();
    }
    said.push(JSON.stringify(lines));
    engine.close();
  }
  return said[0] === said[1] ? "" : `${said[0]?.slice(0, 300)} and ${said[1]?.slice(0, 300)}`;
}

/** Read ids in windows on an engine; a digest over the logits of every one of them. */
async function windows(url: string, name: string, ids: number[], n: number): Promise<string> {
  const weights = loadWeights(readArtifact(await source(url)));
  const engine = name === "webgpu" ? await WebGpuEngine.make(weights) : await WasmEngine.make(weights);
  const hashing = startHash();
  for (let at = 0; at < ids.length; at += n) {
    const session = await engine.session();
    const window = ids.slice(at, at + n);
    hashLogits(hashing, await session.forward(window, window.length));
    session.close();
  }
  engine.close();
  return toHex(hashing.digest());
}

/** An answer whose device is destroyed after some pieces: its text, and who went on. */
async function lost(url: string, body: object, n_pieces: number): Promise<[string, string[], string]> {
  const told: string[] = [];
  let gpu: WebGpuEngine | null = null;
  const engines = [
    async (weights: ModelWeights): Promise<Engine> => (gpu = await WebGpuEngine.make(weights)),
    (weights: ModelWeights) => WasmEngine.make(weights),
  ];
  const onFailOver = (from: string, to: string): void => void told.push(`${from} ${to}`);
  const model = await Model.open(await source(url), { engines, onFailOver });
  const parts = await new Client(model).completions.create({ ...body, stream: true });
  let text = "";
  let n = 0;
  for await (const part of parts) {
    const piece = part.choices[0]?.text ?? "";
    text += piece;
    if (piece !== "" && ++n === n_pieces) (gpu as WebGpuEngine | null)?.device.gpu.destroy();
  }
  const { engine } = model.info();
  model.close();
  return [text, told, engine];
}

/** The engine that opens a model, and why another does not: for programs and adapters that fail. */
async function opened(
  url: string,
  options: Options,
  limits?: Record<string, number>,
): Promise<[string, readonly string[]]> {
  const small = { requestAdapter: async () => ({ limits, info: {} }), wgslLanguageFeatures: new Set() };
  const given = limits ? { gpu: small as unknown as GPU } : gpuOptions(options);
  const model = await Model.open(await source(url), {
    engines: [(weights) => WebGpuEngine.make(weights, given), (weights) => WasmEngine.make(weights)],
  });
  const { engine, notes } = model.info();
  model.close();
  return [engine, notes];
}

/** Whether packed products are taken where a round of them takes `packed` ms, and one of others `plain`. */
async function packed(packed: number, plain: number): Promise<boolean> {
  const adapter = (await navigator.gpu.requestAdapter())!;
  const device = await adapter.requestDevice();
  // Each round is two looks at the clock, and the two ways take turns.
  let [n_looks, now] = [0, 0];
  const clock = (): number => {
    const way = Math.floor(n_looks / 2) % 2 === 0 ? packed : plain;
    if (n_looks++ % 2 === 1) now += way;
    return now;
  };
  const found = await isPackedFaster(device, clock);
  device.destroy();
  return found;
}

/** What greedy tokens cost in calls and bytes. */
async function counts(url: string, n_tokens: number): Promise<Counts> {
  const engine = await WebGpuEngine.make(loadWeights(readArtifact(await source(url))));
  const session = engine.session();
  await session.forward([1], 0);
  const before = { ...engine.device.counts };
  await session.generate([1], n_tokens, []);
  const after = engine.device.counts;
  engine.close();
  const names = Object.keys(after) as (keyof Counts)[];
  return Object.fromEntries(names.map((name) => [name, after[name] - before[name]])) as unknown as Counts;
}

Object.assign(globalThis, { harness: { digests, blocks, windows, lost, opened, counts, packed } });
