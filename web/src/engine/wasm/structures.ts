/**
 * Writes the structures of native/engine/s7.h into the module's memory. native/web/web.cpp asserts the
 * sizes and offsets that are used here.
 */

import { lawTables } from "../tables.ts";
import type { Layer, Linear, ModelShape, ModelWeights, Norm } from "../weights.ts";
import type { WasmInstance } from "./module.ts";

const SHAPE_FIELDS: readonly (keyof ModelShape)[] = [
  "d_model",
  "n_layers",
  "n_heads",
  "n_kv_heads",
  "head_dim",
  "d_ffn",
  "vocab_size",
  "context",
  "n_experts",
  "residual_exponent",
  "score_m",
  "score_e",
  "stack_layers",
  "stack_d_ffn",
];
const FFN_BYTES = 72;
const LAYER_BYTES = 152;
const LINEAR_BYTES = 24;
const WEIGHTS_BYTES = 104;

/** The arguments of s7_model_create, in memory that `free` gives back. */
export class ModelArguments {
  readonly #instance: WasmInstance;
  readonly #taken: number[] = [];
  // The codes of a projection are a name: its place here, and one more, because 0 is NULL.
  readonly #projections: Linear[] = [];
  readonly shape: number;
  readonly tables: number;
  readonly weights: number;
  /** Where the model is written. */
  readonly result: number;

  constructor(instance: WasmInstance, weights: ModelWeights) {
    this.#instance = instance;
    this.shape = this.#words(SHAPE_FIELDS.map((field) => weights.shape[field]));
    const { exp2, sigmoid, rsqrt } = lawTables();
    this.tables = this.#words([...exp2, ...sigmoid, ...rsqrt]);
    this.result = this.#take(4);
    this.weights = this.#take(WEIGHTS_BYTES);
    this.#linear(this.weights, weights.embedding);
    const cos_sin = this.#halves(weights.cos_sin);
    this.#pointer(this.weights + 24, cos_sin);
    this.#instance.view().setBigInt64(this.weights + 32, BigInt(weights.cos_sin.length), true);
    this.#pointer(this.weights + 40, this.#bytes(weights.router));
    this.#pointer(this.weights + 44, this.#layers(weights.layers));
    this.#pointer(this.weights + 48, weights.stacks.length > 0 ? this.#layers(weights.stacks) : 0);
    this.#norm(this.weights + 56, weights.final_norm);
    this.#linear(this.weights + 80, weights.head);
  }

  projection(name: number): Linear | undefined {
    return this.#projections[name - 1];
  }

  get largest(): number {
    return Math.max(...this.#projections.map((linear) => linear.n_out * linear.n_in));
  }

  free(): void {
    for (const at of this.#taken.splice(0)) this.#instance.give(at);
  }

  #take(n_bytes: number): number {
    const at = this.#instance.take(n_bytes);
    this.#taken.push(at);
    return at;
  }

  #words(values: readonly number[]): number {
    const at = this.#take(4 * values.length);
    this.#instance.words(at, values.length).set(values);
    return at;
  }

  #bytes(values: Uint8Array): number {
    const at = this.#take(values.length);
    this.#instance.bytes(at, values.length).set(values);
    return at;
  }

  #halves(values: Int16Array | Uint16Array): number {
    return this.#bytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  #pointer(at: number, to: number): void {
    this.#instance.view().setUint32(at, to, true);
  }

  #linear(at: number, linear: Linear): void {
    const row_m = this.#halves(linear.row_m);
    const row_s = this.#halves(linear.row_s);
    const name = this.#projections.push(linear);
    this.#instance.words(at, 6).set([name, row_m, row_s, linear.n_out, linear.n_in, linear.exponent]);
  }

  #norm(at: number, norm: Norm): void {
    this.#pointer(at, this.#halves(norm.gain));
    const view = this.#instance.view();
    view.setBigInt64(at + 8, BigInt(norm.eps), true);
    view.setInt32(at + 16, norm.gain.length, true);
    view.setInt32(at + 20, norm.exponent, true);
  }

  #layers(layers: readonly Layer[]): number {
    const first = this.#take(LAYER_BYTES * layers.length);
    for (const [i, layer] of layers.entries()) {
      const at = first + LAYER_BYTES * i;
      this.#norm(at, layer.attn_norm);
      this.#norm(at + 24, layer.ffn_norm);
      for (const [k, linear] of [layer.q, layer.k, layer.v, layer.o].entries())
        this.#linear(at + 48 + LINEAR_BYTES * k, linear);
      const experts = this.#take(FFN_BYTES * layer.experts.length);
      for (const [e, { gate, up, down }] of layer.experts.entries())
        for (const [k, linear] of [gate, up, down].entries())
          this.#linear(experts + FFN_BYTES * e + LINEAR_BYTES * k, linear);
      this.#pointer(at + 144, experts);
    }
    return first;
  }
}
