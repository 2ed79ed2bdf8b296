/**
 * The engine on WebGPU: the shaders of the law, and products from tiles in workgroup memory. Nothing in it
 * depends on the size of a subgroup, and no sum on an order, so every adapter gives the same bits or none.
 */

import type { Engine, EngineSession } from "../engine.ts";
import type { ModelShape, ModelWeights } from "../weights.ts";
import { bind, type Bound, Commands, Sizes } from "./calls.ts";
import { Device, type DeviceOptions, gpuError } from "./device.ts";
import { LANES, LayerCalls, Product } from "./layer.ts";
import { GPU_USAGE } from "./pipeline.ts";
import { blockTokens, headRows, Scratch, scratchBytes, STEPS } from "./scratch.ts";
import { GpuSession } from "./session.ts";
import { needsOf, normSizes, uploadGain, uploadLinear } from "./upload.ts";

export type WebGpuOptions = DeviceOptions;

// Sizes that one layer keeps, and those of one step of it.
const FIXED_SLOTS = 16;
const MOVING_SLOTS = 4;
const OTHER_SLOTS = 16;

interface Ends {
  readonly embedIds: Bound;
  readonly embedChosen: Bound;
  readonly routeIds: Bound;
  readonly routeChosen: Bound;
  readonly norm: Bound;
  readonly product: Product;
  readonly productPart: Product;
  readonly head: Bound;
  readonly headPart: Bound;
  readonly argmax: Bound;
  readonly sizes: Readonly<Record<"embed" | "route" | "norm" | "head" | "argmax", number>>;
}

export class WebGpuEngine implements Engine {
  readonly name = "webgpu";
  readonly n_threads = 1;
  readonly shape: ModelShape;
  readonly detail: string;
  readonly n_bytes: number;
  readonly device: Device;
  readonly sizes: Sizes;
  readonly scratch: Scratch;
  readonly router: Uint8Array;
  /** Tokens that one submission reads. */
  readonly n_block: number;
  readonly n_head_rows: number;
  /** Where results are read. */
  readonly staging: GPUBuffer;
  readonly #trunk: readonly LayerCalls[];
  readonly #stacks: readonly LayerCalls[];
  readonly #ends: Ends;

  private constructor(device: Device, weights: ModelWeights) {
    const { shape } = weights;
    this.shape = shape;
    this.device = device;
    this.router = weights.router;
    this.n_block = blockTokens(shape);
    this.n_head_rows = headRows(shape);
    const n_layers = weights.layers.length + weights.stacks.length;
    const n_slots = n_layers * FIXED_SLOTS + STEPS * MOVING_SLOTS * n_layers + OTHER_SLOTS;
    this.sizes = new Sizes(device, n_slots, Math.max(8, 2 + 2 * shape.n_experts));
    this.scratch = new Scratch(device, weights);
    const made = (layer: ModelWeights["layers"][number]): LayerCalls =>
      new LayerCalls(device, this.sizes, shape, this.scratch, layer);
    this.#trunk = weights.layers.map(made);
    this.#stacks = weights.stacks.map(made);
    this.#ends = this.#makeEnds(weights);
    this.sizes.writeFixed();
    const { MAP_READ, COPY_DST } = GPU_USAGE;
    this.staging = device.buffer(
      4 * Math.max(this.n_head_rows * shape.vocab_size, STEPS),
      MAP_READ | COPY_DST,
    );
    this.n_bytes = device.n_bytes;
    this.detail = `WebGPU on ${device.description}${device.isPacked ? "" : ", without packed products"}`;
  }

  /** An engine, or an `EngineError` where the browser, the adapter or its memory does not suffice. */
  static async make(weights: ModelWeights, options: WebGpuOptions = {}): Promise<WebGpuEngine> {
    const device = await Device.make(needsOf(weights, scratchBytes(weights.shape)), options);
    try {
      return await device.allocated(() => new WebGpuEngine(device, weights));
    } catch (error) {
      device.gpu.destroy();
      if (error instanceof TypeError || error instanceof RangeError) throw gpuError(String(error));
      throw error;
    }
  }

  #makeEnds(weights: ModelWeights): Ends {
    const { device, sizes, scratch: s, shape } = this;
    const embedding = uploadLinear(device, [weights.embedding]);
    const embed = (ids: GPUBuffer): Bound =>
      bind(device, sizes, "embed", [ids, embedding.codes, embedding.rows, s.x]);
    const router = device.filled(Uint32Array.from(weights.router));
    const route = (ids: GPUBuffer): Bound => bind(device, sizes, "route", [ids, router, s.experts]);
    const head = uploadLinear(device, [weights.head]);
    const product = (from: GPUBuffer): Product =>
      new Product(device, sizes, head, { from, to: s.headSums, experts: s.none, n_rows: this.n_head_rows });
    const units = (scales: GPUBuffer): Bound => bind(device, sizes, "head", [s.headSums, scales, s.logits]);
    return {
      embedIds: embed(s.ids),
      embedChosen: embed(s.chosen),
      routeIds: route(s.ids),
      routeChosen: route(s.chosen),
      norm: bind(device, sizes, "norm", [s.x, uploadGain(device, weights.final_norm), s.codes, s.scales]),
      product: product(s.codes),
      productPart: product(s.headCodes),
      head: units(s.scales),
      headPart: units(s.headScales),
      argmax: bind(device, sizes, "argmax", [s.logits, s.chosen]),
      sizes: {
        embed: sizes.fixed([shape.d_model]),
        route: sizes.fixed([s.n_rows]),
        norm: sizes.fixed(normSizes(weights.final_norm)),
        head: sizes.fixed([shape.vocab_size, weights.head.exponent]),
        argmax: sizes.fixed([shape.vocab_size]),
      },
    };
  }

  commands(): Commands {
    return new Commands(this.device, this.sizes);
  }

  /** The layers of a sequence that begins with an id. */
  layersOf(first: number): LayerCalls[] {
    const { stack_layers } = this.shape;
    const begin = stack_layers * (this.router[first] ?? 0);
    return [...this.#trunk, ...this.#stacks.slice(begin, begin + stack_layers)];
  }

  /** From ids to the residual; the ids are those that were written, or that which was chosen last. */
  embed(commands: Commands, n_tokens: number, isChosen: boolean): void {
    const ends = this.#ends;
    commands.run(isChosen ? ends.embedChosen : ends.embedIds, ends.sizes.embed, n_tokens);
    if (this.shape.n_experts > 1 && this.shape.stack_layers === 0)
      commands.run(
        isChosen ? ends.routeChosen : ends.routeIds,
        ends.sizes.route,
        Math.ceil(n_tokens / LANES),
      );
  }

  norm(commands: Commands, n_tokens: number): void {
    commands.run(this.#ends.norm, this.#ends.sizes.norm, n_tokens);
  }

  /** Logits of tokens `first` to `first + n` of a block, and the choice for each. */
  head(commands: Commands, first: number, n: number): void {
    const { scratch: s, shape } = this;
    const ends = this.#ends;
    const isPart = first > 0;
    if (isPart) {
      const row = 4 * Math.ceil(shape.d_model / 4);
      commands.copy(s.codes, first * row, s.headCodes, 0, n * row);
      commands.copy(s.scales, 8 * first, s.headScales, 0, 8 * n);
    }
    (isPart ? ends.productPart : ends.product).run(commands, n);
    const n_groups = Math.ceil(shape.vocab_size / LANES);
    commands.run(isPart ? ends.headPart : ends.head, ends.sizes.head, n_groups, n);
    commands.run(ends.argmax, ends.sizes.argmax, n);
  }

  session(): EngineSession {
    return new GpuSession(this);
  }

  close(): void {
    this.device.gpu.destroy();
  }
}
