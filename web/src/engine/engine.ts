/**
 * What every engine is: `wasm/` and `webgpu/` implement it, and equal each other bit for bit.
 *
 * A call may give its result at once or later, so callers await it. A call that the engine cannot do
 * any more (a device was lost, memory is exhausted) throws an `EngineError`; whoever holds the session
 * goes on with another engine (model/session.ts). A call with wrong arguments throws a `UsageError`.
 */

import type { ModelShape } from "./weights.ts";

export type Awaitable<T> = T | Promise<T>;

/** The cache of one layer: codes [length, n_kv_heads, head_dim], m and e [length, n_kv_heads]. */
export interface KeyValues {
  readonly codes: Int8Array;
  readonly m: Int32Array;
  readonly e: Int32Array;
}

/** The KV cache of one sequence. */
export interface EngineSession {
  /** Positions held. */
  readonly length: number;
  /**
   * Append ids; returns the logits of the last `n_logits` of them, [n_logits, vocab_size] in a row.
   * The array is the caller's.
   */
  forward(ids: readonly number[], n_logits: number): Awaitable<Int32Array>;
  /**
   * Append ids, then take up to `n_tokens` greedy steps, ties to the lowest id, up to and with the first
   * of `stops`. The last token is not appended. Several steps in one call are what makes it fast.
   */
  generate(ids: readonly number[], n_tokens: number, stops: readonly number[]): Awaitable<number[]>;
  /** Keep the first `length` positions. */
  truncate(length: number): void;
  /** A second sequence with the first `length` positions. */
  fork(length: number): Awaitable<EngineSession>;
  /** The cache of one layer, keys or values; those of an expert's stack follow the trunk. For tests. */
  keyValues(layer: number, what: "keys" | "values"): Awaitable<KeyValues>;
  close(): void;
}

export interface Engine {
  readonly name: "wasm" | "webgpu";
  /** What runs, for people: instruction set, threads, device. */
  readonly detail: string;
  readonly n_threads: number;
  readonly shape: ModelShape;
  /** Bytes that the engine holds for the model, without sessions. */
  readonly n_bytes: number;
  session(): Awaitable<EngineSession>;
  close(): void;
}
