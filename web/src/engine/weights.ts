/**
 * What an engine reads of a file: shape, projections, norms and tables, each looked up by name and
 * held to the graph. Codes stay in the file until an engine asks for them.
 */

import { equalsInteger, integerWithin, isObject, type Json, member } from "../artifact/json.ts";
import { TABLES_DIGEST } from "../artifact/layout.ts";
import type { Artifact } from "../artifact/reader.ts";
import type { TensorRecord } from "../artifact/records.ts";
import type { Bytes } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";

export interface ModelShape {
  readonly d_model: number;
  readonly n_layers: number;
  readonly n_heads: number;
  readonly n_kv_heads: number;
  readonly head_dim: number;
  readonly d_ffn: number;
  readonly vocab_size: number;
  readonly context: number;
  readonly n_experts: number;
  readonly residual_exponent: number;
  readonly score_m: number;
  readonly score_e: number;
  /** Of each expert's own stack behind the trunk; 0: none, and experts are routed by token. */
  readonly stack_layers: number;
  readonly stack_d_ffn: number;
}

/** One projection. Row o has the multiplier row_m[o] and the shift row_s[o]. */
export interface Linear {
  readonly name: string;
  readonly n_out: number;
  readonly n_in: number;
  readonly exponent: number;
  readonly row_m: Uint16Array;
  readonly row_s: Uint16Array;
  /** Codes [n_out, n_in] as they lie in the file; read from it at each call. */
  codes(): Bytes;
}

export interface Norm {
  readonly gain: Int16Array;
  readonly eps: number;
  readonly exponent: number;
}

export interface FeedForward {
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

export interface Layer {
  readonly attn_norm: Norm;
  readonly ffn_norm: Norm;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  /** n_experts of them where tokens are routed, else one. */
  readonly experts: readonly FeedForward[];
}

export interface ModelWeights {
  readonly shape: ModelShape;
  readonly embedding: Linear;
  readonly layers: readonly Layer[];
  /** The layers of each expert's stack, one stack behind the other. */
  readonly stacks: readonly Layer[];
  readonly final_norm: Norm;
  readonly head: Linear;
  /** [vocab_size], expert of each id. */
  readonly router: Uint8Array;
  /** [context, head_dim / 2, 2], cosine and sine. */
  readonly cos_sin: Int16Array;
}

const MAX_INPUTS = 133144;
const MAX_EXPONENT = 1024;
const MIN_ROW_SHIFT = 16;
const MAX_EPS = 2 ** 48;
const LIMITS = {
  d_model: 2 ** 16,
  n_layers: 2 ** 10,
  n_heads: 2 ** 10,
  n_kv_heads: 2 ** 10,
  head_dim: 2 ** 10,
  d_ffn: MAX_INPUTS,
  vocab_size: 2 ** 20,
  context: 2 ** 20,
  n_experts: 2 ** 7,
};
const STACK_LIMITS = { stack_layers: 2 ** 10, stack_d_ffn: MAX_INPUTS };
type Numbers<T> = { [K in keyof T]: number };

function fail(name: string, what: string): never {
  throw new ArtifactError("GraphError", what, name, "seal the model again with a compatible version");
}

class Loader {
  readonly #artifact: Artifact;
  readonly #graph: Json;
  readonly shape: ModelShape;
  readonly #eps: number;

  constructor(artifact: Artifact) {
    this.#artifact = artifact;
    this.#graph = artifact.json.get("graph") ?? fail("EDGE graph", "the file has no graph");
    this.#checkLaw();
    this.shape = this.#shape();
    this.#eps = this.#number(this.#graph, "norm_eps", 0, MAX_EPS);
  }

  #checkLaw(): void {
    const law = member(this.#graph, "arithmetic");
    const isOurs = isObject(law) && law.size === 2 && equalsInteger(law.get("version"), 1);
    if (!isOurs || law.get("tables") !== TABLES_DIGEST)
      fail(
        "EDGE graph",
        "its arithmetic is not version 1 of the law, the one that this page computes; run the file with s7",
      );
  }

  #number(owner: Json | undefined, key: string, least: number, most: number): number {
    const found = integerWithin(member(owner, key), least, most);
    return found ?? fail("EDGE graph", `${key} is no integer from ${least} to ${most}`);
  }

  #numbers<T extends Record<string, number>>(owner: Json | undefined, limits: T): Numbers<T> {
    const found = Object.entries(limits).map(([key, most]) => [key, this.#number(owner, key, 1, most)]);
    return Object.fromEntries(found) as Numbers<T>;
  }

  #shape(): ModelShape {
    const model = member(this.#graph, "model");
    const numbers = this.#numbers(model, LIMITS);
    const isStacked = Object.keys(STACK_LIMITS).some((key) => member(model, key) !== undefined);
    const stack = isStacked ? this.#numbers(model, STACK_LIMITS) : { stack_layers: 0, stack_d_ffn: 0 };
    if (isStacked && numbers.n_experts < 2) fail("EDGE graph", "it has an expert stack, but one expert");
    const { n_heads, n_kv_heads, head_dim } = numbers;
    if (n_heads % n_kv_heads !== 0 || head_dim % 2 !== 0 || n_heads * head_dim > MAX_INPUTS)
      fail("EDGE graph", "its heads do not divide evenly, or are too wide");
    const scale = member(this.#graph, "score_scale");
    return {
      ...numbers,
      ...stack,
      residual_exponent: this.#number(this.#graph, "residual_exponent", -MAX_EXPONENT, MAX_EXPONENT),
      score_m: this.#number(scale, "m", 2 ** 15, 2 ** 16 - 1),
      score_e: this.#number(scale, "e", -MAX_EXPONENT, MAX_EXPONENT),
    };
  }

  #record(name: string, dims: readonly number[]): TensorRecord {
    const found = this.#artifact.records.get(name) ?? fail(name, "the record is missing from FIELD");
    if (found.dims.length !== dims.length || found.dims.some((dim, i) => dim !== dims[i]))
      fail(name, `the record has the shape ${found.dims.join(" x ")}, the graph needs ${dims.join(" x ")}`);
    return found;
  }

  #bytes(name: string, dims: readonly number[]): Bytes {
    const record = this.#record(name, dims);
    return this.#artifact.source.read(record.offset, record.n_values);
  }

  // Big-endian pairs of bytes.
  #pairs(name: string, dims: readonly number[]): DataView {
    const raw = this.#bytes(name, dims);
    return new DataView(raw.buffer, raw.byteOffset, raw.length);
  }

  #exponent(name: string): number {
    return this.#number(member(this.#graph, "exponents"), name, -MAX_EXPONENT, MAX_EXPONENT);
  }

  #projection(name: string, n_out: number, n_in: number, exponent: number): Linear {
    const record = this.#record(name, [n_out, n_in]);
    const rows = this.#pairs(`${name}.rows`, [n_out, 4]);
    const source = this.#artifact.source;
    return {
      name,
      n_out,
      n_in,
      exponent,
      row_m: Uint16Array.from({ length: n_out }, (_, o) => rows.getUint16(4 * o)),
      row_s: Uint16Array.from({ length: n_out }, (_, o) => rows.getUint16(4 * o + 2)),
      codes: () => source.read(record.offset, record.n_values),
    };
  }

  linear(name: string, n_out: number, n_in: number): Linear {
    const made = this.#projection(name, n_out, n_in, this.#exponent(name));
    if (made.row_s.some((shift) => shift < MIN_ROW_SHIFT)) fail(name, "a row has a shift below 16");
    return made;
  }

  embedding(): Linear {
    return this.#projection("embedding.weight", this.shape.vocab_size, this.shape.d_model, 0);
  }

  norm(name: string): Norm {
    const n = this.shape.d_model;
    const gains = this.#pairs(`${name}.gain`, [n, 2]);
    return {
      gain: Int16Array.from({ length: n }, (_, d) => gains.getInt16(2 * d)),
      eps: this.#eps,
      exponent: this.#exponent(name),
    };
  }

  #feedForward(base: string, d_ffn: number): FeedForward {
    const d = this.shape.d_model;
    return {
      gate: this.linear(`${base}.gate_proj.weight`, d_ffn, d),
      up: this.linear(`${base}.up_proj.weight`, d_ffn, d),
      down: this.linear(`${base}.down_proj.weight`, d, d_ffn),
    };
  }

  layer(prefix: string, d_ffn: number): Layer {
    const shape = this.shape;
    const d = shape.d_model;
    const d_q = shape.n_heads * shape.head_dim;
    const d_kv = shape.n_kv_heads * shape.head_dim;
    const isRouted = shape.n_experts > 1 && shape.stack_layers === 0;
    const bases = isRouted
      ? Array.from({ length: shape.n_experts }, (_, e) => `${prefix}.ffn.experts.${e}`)
      : [`${prefix}.ffn`];
    return {
      attn_norm: this.norm(`${prefix}.attn_norm.weight`),
      ffn_norm: this.norm(`${prefix}.ffn_norm.weight`),
      q: this.linear(`${prefix}.attn.q_proj.weight`, d_q, d),
      k: this.linear(`${prefix}.attn.k_proj.weight`, d_kv, d),
      v: this.linear(`${prefix}.attn.v_proj.weight`, d_kv, d),
      o: this.linear(`${prefix}.attn.o_proj.weight`, d, d_q),
      experts: bases.map((base) => this.#feedForward(base, d_ffn)),
    };
  }

  router(): Uint8Array {
    const { n_experts, vocab_size } = this.shape;
    if (n_experts === 1) return new Uint8Array(vocab_size);
    const router = this.#bytes("router.experts", [vocab_size, 1]).slice();
    if (router.some((expert) => expert >= n_experts))
      fail("router.experts", "it names an expert that is not there");
    return router;
  }

  cosSin(): Int16Array {
    const { context, head_dim } = this.shape;
    const pairs = this.#pairs("rope.cos_sin", [context, head_dim / 2, 2, 2]);
    return Int16Array.from({ length: context * head_dim }, (_, i) => pairs.getInt16(2 * i));
  }

  get n_records(): number {
    return this.#artifact.records.size;
  }
}

/** Two digits, as names of layers have them. */
const numbered = (i: number): string => String(i).padStart(2, "0");

/** The weights of a file. Throws an `ArtifactError` that names the record or the key of the graph. */
export function loadWeights(artifact: Artifact): ModelWeights {
  const load = new Loader(artifact);
  const shape = load.shape;
  const n_stacks = shape.stack_layers > 0 ? shape.n_experts : 0;
  // Before memory is taken for them: a layer is several records.
  if (shape.n_layers + n_stacks * shape.stack_layers > load.n_records)
    fail("EDGE graph", "it has more layers than FIELD has records");
  const layers = Array.from({ length: shape.n_layers }, (_, i) =>
    load.layer(`layers.${numbered(i)}`, shape.d_ffn),
  );
  const stacks = Array.from({ length: n_stacks * shape.stack_layers }, (_, at) => {
    const [expert, i] = [Math.floor(at / shape.stack_layers), at % shape.stack_layers];
    return load.layer(`experts.${expert}.layers.${numbered(i)}`, shape.stack_d_ffn);
  });
  return {
    shape,
    embedding: load.embedding(),
    layers,
    stacks,
    final_norm: load.norm("final_norm.weight"),
    head: load.linear("lm_head.weight", shape.vocab_size, shape.d_model),
    router: load.router(),
    cos_sin: load.cosSin(),
  };
}
