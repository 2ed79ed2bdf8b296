/** The engine in WebAssembly SIMD128: native/engine, with one thread or several. */

import { ArtifactError, EngineError, UsageError } from "../../core/errors.ts";
import type { Engine, EngineSession, KeyValues } from "../engine.ts";
import type { ModelShape, ModelWeights } from "../weights.ts";
import { canShareMemory, WasmInstance } from "./module.ts";
import { ModelArguments } from "./structures.ts";
import { Threads } from "./threads.ts";

// Numbers of s7_status.
const OK = 0;
const NO_MEMORY = 4;
const IDS = 6;
const CONTEXT = 7;
const RUN_BYTES = 20;
const MAX_THREADS = 64;

export interface WasmOptions {
  /** Threads of a call. More than one take memory that can be shared; without it there is one. */
  readonly n_threads?: number;
  /** Where the entry of a thread's worker is; the default is thread.js beside this file. */
  readonly threadUrl?: URL;
}

function check(instance: WasmInstance, status: number): void {
  if (status === OK) return;
  const text = instance.statusText(status);
  if (status === IDS || status === CONTEXT) throw new UsageError(text, "ids");
  const remedy = status === NO_MEMORY ? "close other models and pages" : "";
  throw new EngineError(text, "engine", remedy);
}

class WasmSession implements EngineSession {
  readonly #engine: WasmEngine;
  #handle: number;

  constructor(engine: WasmEngine, handle: number) {
    this.#engine = engine;
    this.#handle = handle;
  }

  get length(): number {
    return this.#engine.instance.exports.s7_session_length(this.#open());
  }

  #open(): number {
    if (this.#handle === 0) throw new UsageError("the session is closed", "session");
    return this.#handle;
  }

  forward(ids: readonly number[], n_logits: number): Int32Array {
    const { instance, shape } = this.#engine;
    if (n_logits < 0 || n_logits > ids.length) throw new UsageError(`${n_logits} rows of logits`, "n_logits");
    const n_words = n_logits * shape.vocab_size;
    const scratch = new Scratch(instance);
    try {
      const logits = scratch.take(4 * n_words);
      const run = scratch.run(this.#open(), ids, n_logits, logits);
      check(instance, instance.exports.s7_forward(this.#engine.team, run, 1));
      return instance.words(logits, n_words).slice();
    } finally {
      scratch.free();
    }
  }

  generate(ids: readonly number[], n_tokens: number, stops: readonly number[]): number[] {
    const { instance } = this.#engine;
    const scratch = new Scratch(instance);
    try {
      const tokens = scratch.take(4 * n_tokens);
      const n_made = scratch.take(4);
      const ends = scratch.words(stops);
      const run = scratch.run(this.#open(), ids, 0, 0);
      const { exports } = instance;
      check(
        instance,
        exports.s7_generate(this.#engine.team, run, ends, stops.length, tokens, n_tokens, n_made),
      );
      return [...instance.words(tokens, instance.words(n_made, 1)[0]!)];
    } finally {
      scratch.free();
    }
  }

  truncate(length: number): void {
    const { instance } = this.#engine;
    check(instance, instance.exports.s7_session_truncate(this.#open(), length));
  }

  fork(length: number): EngineSession {
    return this.#engine.makeSession((to) =>
      this.#engine.instance.exports.s7_session_fork(this.#open(), length, to),
    );
  }

  keyValues(layer: number, what: "keys" | "values"): KeyValues {
    const { instance, shape } = this.#engine;
    const n_scales = this.length * shape.n_kv_heads;
    const n_codes = n_scales * shape.head_dim;
    const scratch = new Scratch(instance);
    try {
      const [codes, m, e] = [scratch.take(n_codes), scratch.take(4 * n_scales), scratch.take(4 * n_scales)];
      const values = what === "values" ? 1 : 0;
      const { exports } = instance;
      check(
        instance,
        exports.s7_session_kv(this.#open(), layer, values, codes, BigInt(n_codes), m, e, BigInt(n_scales)),
      );
      return {
        codes: new Int8Array(instance.bytes(codes, n_codes).slice().buffer),
        m: instance.words(m, n_scales).slice(),
        e: instance.words(e, n_scales).slice(),
      };
    } finally {
      scratch.free();
    }
  }

  close(): void {
    if (this.#handle !== 0) this.#engine.instance.exports.s7_session_free(this.#handle);
    this.#handle = 0;
  }
}

// Memory of one call.
class Scratch {
  readonly #instance: WasmInstance;
  readonly #taken: number[] = [];

  constructor(instance: WasmInstance) {
    this.#instance = instance;
  }

  take(n_bytes: number): number {
    const at = this.#instance.take(n_bytes);
    this.#taken.push(at);
    return at;
  }

  words(values: readonly number[]): number {
    const at = this.take(4 * values.length);
    this.#instance.words(at, values.length).set(values);
    return at;
  }

  /** An s7_run. */
  run(session: number, ids: readonly number[], n_logits: number, logits: number): number {
    // An id that is no whole number would become another one.
    if (!ids.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 31))
      throw new UsageError("an id is no token", "ids");
    const at = this.words(ids);
    const run = this.take(RUN_BYTES);
    this.#instance.words(run, 5).set([session, at, ids.length, n_logits, logits]);
    return run;
  }

  free(): void {
    for (const at of this.#taken) this.#instance.give(at);
  }
}

export class WasmEngine implements Engine {
  readonly name = "wasm";
  readonly shape: ModelShape;
  readonly detail: string;
  readonly n_threads: number;
  readonly n_bytes: number;
  readonly instance: WasmInstance;
  readonly team: number;
  readonly #model: number;
  readonly #threads: Threads | null;

  private constructor(instance: WasmInstance, shape: ModelShape, made: Made, note: string) {
    this.instance = instance;
    this.shape = shape;
    this.#model = made.model;
    this.team = made.team;
    this.#threads = made.threads;
    this.n_threads = made.n_threads;
    this.n_bytes = Number(instance.exports.s7_model_bytes(made.model));
    this.detail = `WebAssembly SIMD128, ${made.n_threads === 1 ? "one thread" : `${made.n_threads} threads`}${note}`;
  }

  /** An engine that holds the weights, packed; nothing of the file is needed afterwards. */
  static async make(weights: ModelWeights, options: WasmOptions = {}): Promise<WasmEngine> {
    const wanted = Math.min(Math.max(1, Math.floor(options.n_threads ?? 1)), MAX_THREADS);
    if (wanted === 1) return WasmEngine.#make(weights, 1, options, "");
    if (!canShareMemory())
      return WasmEngine.#make(weights, 1, options, " (the page is not cross-origin isolated)");
    try {
      return await WasmEngine.#make(weights, wanted, options, "");
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return WasmEngine.#make(weights, 1, options, ` (${error.message})`);
    }
  }

  static async #make(
    weights: ModelWeights,
    n_threads: number,
    options: WasmOptions,
    note: string,
  ): Promise<WasmEngine> {
    const instance = await WasmInstance.make(n_threads > 1);
    const threads = n_threads > 1 ? new Threads(instance) : null;
    try {
      await threads?.start(n_threads - 1, options.threadUrl ?? new URL("./thread.js", import.meta.url));
      const model = makeModel(instance, weights);
      const team = called(instance, (to) => instance.exports.s7_team_create(model, n_threads, to));
      return new WasmEngine(instance, weights.shape, { model, team, threads, n_threads }, note);
    } catch (error) {
      threads?.close();
      throw error;
    }
  }

  session(): EngineSession {
    return this.makeSession((to) => this.instance.exports.s7_session_create(this.#model, to));
  }

  makeSession(call: (to: number) => number): EngineSession {
    return new WasmSession(this, called(this.instance, call));
  }

  close(): void {
    this.instance.exports.s7_team_free(this.team);
    this.instance.exports.s7_model_free(this.#model);
    this.#threads?.close();
  }
}

interface Made {
  readonly model: number;
  readonly team: number;
  readonly threads: Threads | null;
  readonly n_threads: number;
}

// The handle that a call writes where it is told.
function called(instance: WasmInstance, call: (to: number) => number): number {
  const to = instance.take(4);
  try {
    check(instance, call(to));
    return instance.words(to, 1)[0]! >>> 0;
  } finally {
    instance.give(to);
  }
}

function makeModel(instance: WasmInstance, weights: ModelWeights): number {
  const given = new ModelArguments(instance, weights);
  const staged = instance.take(given.largest);
  instance.lend = (name, n) => {
    const codes = given.projection(name)?.codes();
    if (codes?.length !== n) return 0;
    instance.bytes(staged, n).set(codes);
    return staged;
  };
  try {
    const { exports } = instance;
    const status = exports.s7_model_create(
      given.shape,
      given.tables,
      given.weights,
      exports.s7_isa_widest(),
      given.result,
    );
    if (status !== OK && status !== NO_MEMORY)
      throw new ArtifactError(
        "GraphError",
        `the engine refuses the records: ${instance.statusText(status)}`,
        "FIELD",
        "seal the model again with a compatible version",
      );
    check(instance, status);
    return instance.words(given.result, 1)[0]! >>> 0;
  } finally {
    instance.lend = () => 0;
    instance.give(staged);
    given.free();
  }
}
