/** The keys and values of one sequence, and the calls of each layer that read or write them. */

import type { ModelShape } from "../weights.ts";
import { bind, type Bound, type Commands, type Sizes } from "./calls.ts";
import type { Device } from "./device.ts";
import { LANES, type LayerCalls } from "./layer.ts";
import type { Scratch } from "./scratch.ts";
import { wordsOf } from "./upload.ts";

const FIRST_POSITIONS = 256;
// As in sum.wgsl.
const SUM_WORDS = 16;

/** Of one layer: codes and scales of keys, then of values. */
export type LayerBuffers = readonly [k: GPUBuffer, kScales: GPUBuffer, v: GPUBuffer, vScales: GPUBuffer];

interface LayerBound {
  readonly keep: readonly [k: Bound, v: Bound];
  readonly attend: readonly [score: Bound, weigh: Bound, sum: Bound];
}

export class Cache {
  readonly #device: Device;
  readonly #sizes: Sizes;
  readonly #shape: ModelShape;
  readonly #scratch: Scratch;
  readonly #n_layers: number;
  #n_positions = 0;
  layers: LayerBuffers[] = [];
  #bound: LayerBound[] = [];

  constructor(device: Device, sizes: Sizes, shape: ModelShape, scratch: Scratch) {
    this.#device = device;
    this.#sizes = sizes;
    this.#shape = shape;
    this.#scratch = scratch;
    this.#n_layers = shape.n_layers + shape.stack_layers;
  }

  /** Bytes of one position: of codes, and of scales. */
  get rowBytes(): readonly [codes: number, scales: number] {
    const { n_kv_heads, head_dim } = this.#shape;
    return [4 * n_kv_heads * wordsOf(head_dim), 8 * n_kv_heads];
  }

  /** Make room for positions; what is held stays. */
  async reserve(n_positions: number): Promise<void> {
    if (n_positions <= this.#n_positions) return;
    const n = Math.min(this.#shape.context, Math.max(n_positions, FIRST_POSITIONS, 2 * this.#n_positions));
    const rows = this.rowBytes;
    const made = await this.#device.allocated(() =>
      Array.from(
        { length: this.#n_layers },
        () => [0, 1, 2, 3].map((i) => this.#device.buffer(n * rows[i % 2]!)) as unknown as LayerBuffers,
      ),
    );
    const old = this.layers;
    this.layers = made;
    this.copyFrom(old, this.#n_positions);
    for (const buffer of old.flat()) this.#device.give(buffer);
    this.#n_positions = n;
    this.#bound = made.map((layer) => this.#bind(layer));
  }

  /** Take the first positions of another sequence, for which there is room. */
  copyFrom(from: readonly LayerBuffers[], n_positions: number): void {
    if (n_positions === 0 || from.length === 0) return;
    const encoder = this.#device.gpu.createCommandEncoder();
    for (const [i, layer] of from.entries())
      for (const [k, buffer] of layer.entries())
        encoder.copyBufferToBuffer(buffer, 0, this.layers[i]![k]!, 0, n_positions * this.rowBytes[k % 2]!);
    this.#device.gpu.queue.submit([encoder.finish()]);
  }

  #bind([k, kScales, v, vScales]: LayerBuffers): LayerBound {
    const s = this.#scratch;
    const made = (operation: Parameters<typeof bind>[2], ...buffers: GPUBuffer[]): Bound =>
      bind(this.#device, this.#sizes, operation, buffers);
    return {
      keep: [
        made("heads", s.k, s.turns, s.scales, k, kScales),
        made("heads", s.v, s.turns, s.scales, v, vScales),
      ],
      attend: [
        made("score", s.qCodes, s.qScales, k, kScales, s.scores),
        made("weigh", s.scores, vScales, s.totals, s.lowest),
        made("sum", s.scores, v, s.totals, s.o),
      ],
    };
  }

  /** Keep the keys and values of tokens, and attend to all up to each of them. */
  run(
    commands: Commands,
    at: number,
    exponents: LayerCalls["exponents"],
    n_tokens: number,
    position: number,
  ): void {
    const { head_dim, n_heads, n_kv_heads, context } = this.#shape;
    const { keep, attend } = this.#bound[at]!;
    const kept = (exponent: number, turns: number): number =>
      this.#sizes.moving([head_dim, n_kv_heads, exponent, position, turns, 0, 0, position]);
    commands.run(keep[0], kept(exponents.k, 1), n_kv_heads, n_tokens);
    commands.run(keep[1], kept(exponents.v, 0), n_kv_heads, n_tokens);
    const sizes = this.#sizes.moving([head_dim, n_heads, n_kv_heads, context, position]);
    commands.run(attend[0], sizes, Math.ceil((position + n_tokens) / LANES), n_heads, n_tokens);
    commands.run(attend[1], sizes, n_heads, n_tokens);
    commands.run(attend[2], sizes, Math.ceil(wordsOf(head_dim) / SUM_WORDS), n_heads, n_tokens);
  }

  close(): void {
    for (const buffer of this.layers.flat()) this.#device.give(buffer);
    this.layers = [];
    this.#n_positions = 0;
  }
}
