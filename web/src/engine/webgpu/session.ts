/** One sequence on WebGPU: blocks of a prompt, and several greedy steps to a submission. */

import { SevenfoldError, UsageError } from "../../core/errors.ts";
import type { EngineSession, KeyValues } from "../engine.ts";
import { Cache } from "./cache.ts";
import type { Commands } from "./calls.ts";
import { gpuError } from "./device.ts";
import { GPU_USAGE } from "./pipeline.ts";
import type { WebGpuEngine } from "./engine.ts";
import type { LayerCalls } from "./layer.ts";
import { STEPS } from "./scratch.ts";
import { wordsOf } from "./upload.ts";

// What a browser throws of a device that is gone is no error of ours.
async function guarded<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw error instanceof SevenfoldError ? error : gpuError(String(error));
  }
}

export class GpuSession implements EngineSession {
  readonly #engine: WebGpuEngine;
  readonly #cache: Cache;
  #layers: readonly LayerCalls[] = [];
  #length = 0;
  #isOpen = true;

  constructor(engine: WebGpuEngine) {
    this.#engine = engine;
    this.#cache = new Cache(engine.device, engine.sizes, engine.shape, engine.scratch);
  }

  get length(): number {
    return this.#length;
  }

  async #prepare(ids: readonly number[], n_more: number): Promise<void> {
    if (!this.#isOpen) throw new UsageError("the session is closed", "session");
    const { vocab_size, context } = this.#engine.shape;
    if (ids.length === 0) throw new UsageError("there are no ids", "ids");
    if (!ids.every((id) => Number.isInteger(id) && id >= 0 && id < vocab_size))
      throw new UsageError("an id is no token", "ids");
    const n_positions = this.#length + ids.length + n_more;
    if (n_positions > context)
      throw new UsageError(`${n_positions} positions; the context has ${context}`, "ids");
    this.#engine.device.check();
    if (this.#length === 0) this.#layers = this.#engine.layersOf(ids[0]!);
    await this.#cache.reserve(n_positions);
  }

  // From ids that are on the device to the codes before the head.
  #step(commands: Commands, n_tokens: number, position: number, isChosen: boolean): void {
    const engine = this.#engine;
    engine.embed(commands, n_tokens, isChosen);
    for (const [i, layer] of this.#layers.entries()) {
      layer.begin(commands, engine.sizes, n_tokens, position);
      this.#cache.run(commands, i, layer.exponents, n_tokens, position);
      layer.end(commands, n_tokens);
    }
    engine.norm(commands, n_tokens);
  }

  #block(ids: readonly number[], begin: number): Commands {
    const { device, scratch, n_block } = this.#engine;
    const block = Uint32Array.from(ids.slice(begin, begin + n_block));
    device.write(scratch.ids, 0, block);
    const commands = this.#engine.commands();
    this.#step(commands, block.length, this.#length + begin, false);
    return commands;
  }

  forward(ids: readonly number[], n_logits: number): Promise<Int32Array> {
    return guarded(async () => {
      if (n_logits < 0 || n_logits > ids.length)
        throw new UsageError(`${n_logits} rows of logits`, "n_logits");
      await this.#prepare(ids, 0);
      const { n_block, shape } = this.#engine;
      const logits = new Int32Array(n_logits * shape.vocab_size);
      for (let begin = 0; begin < ids.length; begin += n_block) {
        const end = Math.min(begin + n_block, ids.length);
        const commands = this.#block(ids, begin);
        const first = Math.max(begin, ids.length - n_logits);
        if (first >= end) commands.submit();
        else
          await this.#logits(
            commands,
            first - begin,
            end - begin,
            (row) => row + begin - (ids.length - n_logits),
            logits,
          );
      }
      this.#length += ids.length;
      return logits;
    });
  }

  // Read the logits of tokens `first` to `end` of a block.
  async #logits(
    begun: Commands,
    first: number,
    end: number,
    place: (row: number) => number,
    to: Int32Array,
  ): Promise<void> {
    const { device, scratch, shape, staging, n_head_rows } = this.#engine;
    let commands = begun;
    for (let row = first; row < end; row += n_head_rows) {
      const n = Math.min(n_head_rows, end - row);
      const n_bytes = 4 * n * shape.vocab_size;
      this.#engine.head(commands, row, n);
      commands.copy(scratch.logits, 0, staging, 0, n_bytes);
      commands.submit();
      to.set(new Int32Array(await device.read(staging, n_bytes)), place(row) * shape.vocab_size);
      commands = this.#engine.commands();
    }
  }

  generate(ids: readonly number[], n_tokens: number, stops: readonly number[]): Promise<number[]> {
    return guarded(async () => {
      await this.#prepare(ids, Math.max(n_tokens, 1) - 1);
      const { n_block, device, scratch, staging } = this.#engine;
      const last = n_block * Math.floor((ids.length - 1) / n_block);
      for (let begin = 0; begin < last; begin += n_block) this.#block(ids, begin).submit();
      let commands = this.#block(ids, last);
      if (n_tokens < 1) {
        commands.submit();
        this.#length += ids.length;
        return [];
      }
      this.#engine.head(commands, ids.length - last - 1, 1);
      commands.copy(scratch.chosen, 0, scratch.history, 0, 4);
      const tokens: number[] = [];
      let position = this.#length + ids.length;
      for (let held = 1; ; held = 0) {
        const n = Math.min(STEPS, n_tokens - tokens.length);
        for (let step = held; step < n; ++step) {
          this.#step(commands, 1, position++, true);
          this.#engine.head(commands, 0, 1);
          commands.copy(scratch.chosen, 0, scratch.history, 4 * step, 4);
        }
        commands.copy(scratch.history, 0, staging, 0, 4 * n);
        commands.submit();
        const made = [...new Uint32Array(await device.read(staging, 4 * n))];
        // What was computed behind a stop is forgotten: the next call writes over it.
        const stop = made.findIndex((token) => stops.includes(token));
        tokens.push(...(stop < 0 ? made : made.slice(0, stop + 1)));
        if (stop >= 0 || tokens.length === n_tokens) break;
        commands = this.#engine.commands();
      }
      this.#length += ids.length + tokens.length - 1;
      return tokens;
    });
  }

  truncate(length: number): void {
    if (!(length >= 0 && length <= this.#length))
      throw new UsageError(`${length} positions; the session has ${this.#length}`, "length");
    this.#length = length;
  }

  fork(length: number): Promise<EngineSession> {
    return guarded(async () => {
      if (!(length >= 0 && length <= this.#length))
        throw new UsageError(`${length} positions; the session has ${this.#length}`, "length");
      const made = new GpuSession(this.#engine);
      await made.#cache.reserve(length);
      made.#cache.copyFrom(this.#cache.layers, length);
      made.#length = length;
      made.#layers = this.#layers;
      return made;
    });
  }

  keyValues(layer: number, what: "keys" | "values"): Promise<KeyValues> {
    return guarded(async () => {
      const { device, shape } = this.#engine;
      const buffers = this.#cache.layers[layer];
      if (!buffers) throw new UsageError(`layer ${layer} is not there`, "layer");
      const [codeBytes, scaleBytes] = this.#cache.rowBytes.map((n) => n * this.#length) as [number, number];
      const [codes, scales] = what === "keys" ? [buffers[0], buffers[1]] : [buffers[2], buffers[3]];
      const { MAP_READ, COPY_DST } = GPU_USAGE;
      const staging = device.buffer(codeBytes + scaleBytes, MAP_READ | COPY_DST);
      const encoder = device.gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(codes, 0, staging, 0, codeBytes);
      encoder.copyBufferToBuffer(scales, 0, staging, codeBytes, scaleBytes);
      device.gpu.queue.submit([encoder.finish()]);
      const raw = await device.read(staging, codeBytes + scaleBytes);
      device.give(staging);
      return unpacked(raw, codeBytes, shape.head_dim);
    });
  }

  close(): void {
    if (this.#isOpen) this.#cache.close();
    this.#isOpen = false;
  }
}

// Rows without their padding, and scales apart.
function unpacked(raw: ArrayBuffer, codeBytes: number, head_dim: number): KeyValues {
  const width = 4 * wordsOf(head_dim);
  const padded = new Int8Array(raw, 0, codeBytes);
  const n_rows = codeBytes / width;
  const codes = new Int8Array(n_rows * head_dim);
  for (let row = 0; row < n_rows; ++row)
    codes.set(padded.subarray(row * width, row * width + head_dim), row * head_dim);
  const scales = new Int32Array(raw, codeBytes, 2 * n_rows);
  return {
    codes,
    m: Int32Array.from({ length: n_rows }, (_, i) => scales[2 * i]!),
    e: Int32Array.from({ length: n_rows }, (_, i) => scales[2 * i + 1]!),
  };
}
