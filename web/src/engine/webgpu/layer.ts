/** The calls of one layer: those that read weights and scratch alone, bound once for the engine. */

import type { Layer, ModelShape } from "../weights.ts";
import { bind, type Bound, type Commands, type Sizes } from "./calls.ts";
import type { Device } from "./device.ts";
import type { Scratch } from "./scratch.ts";
import { type GpuLinear, normSizes, uploadGain, uploadLinear } from "./upload.ts";

/** Of tokens: from how many on a product is made tile by tile. */
const TILED_TOKENS = 8;
const TILE = 32;
const ROW_OUTPUTS = 8;
export const LANES = 64;

/** A product, in the form for few tokens and in that for many. */
export class Product {
  readonly #row: Bound;
  readonly #tile: Bound | null;
  readonly #sizes: number;
  readonly #n_out: number;

  /** `experts` are those of each token; one expert is made tile by tile. */
  constructor(
    device: Device,
    sizes: Sizes,
    linear: GpuLinear,
    buffers: { from: GPUBuffer; to: GPUBuffer; experts: GPUBuffer; n_rows: number },
  ) {
    const { from, to, experts, n_rows } = buffers;
    const held = [from, linear.codes, linear.rows, to];
    this.#row = bind(device, sizes, "row", [...held, experts]);
    this.#tile = linear.exponents.length === 1 ? bind(device, sizes, "tile", held) : null;
    this.#sizes = sizes.fixed([linear.n_in, linear.n_out, n_rows]);
    this.#n_out = linear.n_out;
  }

  run(commands: Commands, n_tokens: number): void {
    if (this.#tile && n_tokens >= TILED_TOKENS)
      commands.run(this.#tile, this.#sizes, Math.ceil(this.#n_out / TILE), Math.ceil(n_tokens / TILE));
    else commands.run(this.#row, this.#sizes, Math.ceil(this.#n_out / ROW_OUTPUTS), n_tokens);
  }
}

interface Sized {
  readonly bound: Bound;
  readonly sizes: number;
}

export class LayerCalls {
  readonly #shape: ModelShape;
  readonly #attnNorm: Sized;
  readonly #ffnNorm: Sized;
  readonly #q: Product;
  readonly #k: Product;
  readonly #v: Product;
  readonly #o: Product;
  readonly #gate: Product;
  readonly #up: Product;
  readonly #down: Product;
  readonly #turnQ: Bound;
  readonly #join: Sized;
  readonly #backO: Sized;
  readonly #swiglu: Sized;
  readonly #backFfn: Sized;
  /** Exponents of the projections whose heads are turned or kept. */
  readonly exponents: { readonly q: number; readonly k: number; readonly v: number };

  constructor(device: Device, sizes: Sizes, shape: ModelShape, scratch: Scratch, layer: Layer) {
    this.#shape = shape;
    this.exponents = { q: layer.q.exponent, k: layer.k.exponent, v: layer.v.exponent };
    const s = scratch;
    const { d_model, residual_exponent, head_dim, n_heads } = shape;
    const product = (linears: readonly Layer["q"][], from: GPUBuffer, to: GPUBuffer): Product => {
      const experts = linears.length > 1 ? s.experts : s.none;
      return new Product(device, sizes, uploadLinear(device, linears), {
        from,
        to,
        experts,
        n_rows: s.n_rows,
      });
    };
    const norm = (of: Layer["attn_norm"]): Sized => ({
      bound: bind(device, sizes, "norm", [s.x, uploadGain(device, of), s.codes, s.scales]),
      sizes: sizes.fixed(normSizes(of)),
    });
    this.#attnNorm = norm(layer.attn_norm);
    this.#ffnNorm = norm(layer.ffn_norm);
    this.#q = product([layer.q], s.codes, s.q);
    this.#k = product([layer.k], s.codes, s.k);
    this.#v = product([layer.v], s.codes, s.v);
    this.#o = product([layer.o], s.joined, s.back);
    const of = (part: "gate" | "up" | "down") => layer.experts.map((expert) => expert[part]);
    this.#gate = product(of("gate"), s.codes, s.gate);
    this.#up = product(of("up"), s.codes, s.up);
    this.#down = product(of("down"), s.hidden, s.back);
    this.#turnQ = bind(device, sizes, "heads", [s.q, s.turns, s.scales, s.qCodes, s.qScales]);
    this.#join = {
      bound: bind(device, sizes, "join", [s.o, s.lowest, s.joined, s.joinedScales]),
      sizes: sizes.fixed([head_dim, n_heads]),
    };
    const experts = layer.experts.length > 1 ? s.experts : s.none;
    this.#backO = {
      bound: bind(device, sizes, "residual", [s.back, s.joinedScales, s.x, s.none]),
      sizes: sizes.fixed([d_model, residual_exponent, layer.o.exponent]),
    };
    this.#swiglu = {
      bound: bind(device, sizes, "swiglu", [s.gate, s.up, s.scales, s.hidden, s.hiddenScales, experts]),
      sizes: sizes.fixed([
        layer.experts[0]!.gate.n_out,
        ...layer.experts.flatMap(({ gate, up }) => [gate.exponent, up.exponent]),
      ]),
    };
    this.#backFfn = {
      bound: bind(device, sizes, "residual", [s.back, s.hiddenScales, s.x, experts]),
      sizes: sizes.fixed([d_model, residual_exponent, ...of("down").map((down) => down.exponent)]),
    };
  }

  /** The norm, q, k and v of tokens from a position on, and q turned. */
  begin(commands: Commands, sizes: Sizes, n_tokens: number, position: number): void {
    const { head_dim, n_heads, score_m, score_e } = this.#shape;
    commands.run(this.#attnNorm.bound, this.#attnNorm.sizes, n_tokens);
    for (const product of [this.#q, this.#k, this.#v]) product.run(commands, n_tokens);
    const turn = sizes.moving([head_dim, n_heads, this.exponents.q, position, 1, score_m, score_e, 0]);
    commands.run(this.#turnQ, turn, n_heads, n_tokens);
  }

  /** What follows the sum of the values. */
  end(commands: Commands, n_tokens: number): void {
    const n_groups = Math.ceil(this.#shape.d_model / LANES);
    commands.run(this.#join.bound, this.#join.sizes, n_tokens);
    this.#o.run(commands, n_tokens);
    commands.run(this.#backO.bound, this.#backO.sizes, n_groups, n_tokens);
    commands.run(this.#ffnNorm.bound, this.#ffnNorm.sizes, n_tokens);
    this.#gate.run(commands, n_tokens);
    this.#up.run(commands, n_tokens);
    commands.run(this.#swiglu.bound, this.#swiglu.sizes, n_tokens);
    this.#down.run(commands, n_tokens);
    commands.run(this.#backFfn.bound, this.#backFfn.sizes, n_groups, n_tokens);
  }
}
