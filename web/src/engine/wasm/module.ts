/** The engine's module: compiled, its memory, and SHA-256. */

// The modules in base64 (build.mjs).
import plain from "wasm:s7.wasm";
import threaded from "wasm:s7-threads.wasm";
import type { Bytes } from "../../core/bytes.ts";
import { EngineError } from "../../core/errors.ts";
import type { Hashing, StartHash } from "../../core/sha256.ts";

/** Functions of native/engine/s7.h and native/web/web.cpp; pointers are numbers. */
export interface Exports {
  readonly memory?: WebAssembly.Memory;
  readonly __stack_pointer: WebAssembly.Global;
  s7_abi(): number;
  s7_status_text(status: number): number;
  s7_model_create(shape: number, tables: number, weights: number, isa: number, model: number): number;
  s7_model_free(model: number): void;
  s7_model_bytes(model: number): bigint;
  s7_team_create(model: number, n_threads: number, team: number): number;
  s7_team_free(team: number): void;
  s7_session_create(model: number, session: number): number;
  s7_session_free(session: number): void;
  s7_session_fork(from: number, length: number, session: number): number;
  s7_session_truncate(session: number, length: number): number;
  s7_session_length(session: number): number;
  s7_session_kv(
    session: number,
    layer: number,
    values: number,
    codes: number,
    n_codes: bigint,
    m: number,
    e: number,
    n_scales: bigint,
  ): number;
  s7_forward(team: number, runs: number, n_runs: number): number;
  s7_generate(
    team: number,
    run: number,
    stops: number,
    n_stops: number,
    tokens: number,
    n_tokens: number,
    n_made: number,
  ): number;
  s7_isa_widest(): number;
  s7_take(n_bytes: number): number;
  s7_give(at: number): void;
  s7w_sha256_bytes(): number;
  s7w_sha256_begin(state: number): void;
  s7w_sha256_add(state: number, data: number, n_bytes: number): void;
  s7w_sha256_end(state: number, digest: number): void;
  s7w_wait_for_work(index: number): void;
  s7w_n_waiting(): number;
  s7w_send_away(): void;
}

/** Copies the codes that `name` stands for into the module's memory; returns where, 0 for none. */
export type Lend = (name: number, n: number) => number;

const PAGE_BYTES = 65536;
// As the linker was told (native/web/build.sh).
const MAX_PAGES = 16384;
const FIRST_PAGES = 32;
const compiled = new Map<boolean, Promise<WebAssembly.Module>>();

function fromBase64(text: string): Bytes {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; ++i) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// The engine's clock: by it, it chooses whether a step is taken by all threads or by one.
function nanoseconds(): bigint {
  return BigInt(Math.round(performance.now() * 1e6));
}

/** The module, compiled once. */
export function compile(hasThreads: boolean): Promise<WebAssembly.Module> {
  let found = compiled.get(hasThreads);
  if (!found) {
    const bytes = fromBase64(hasThreads ? threaded : plain) as Uint8Array<ArrayBuffer>;
    found = WebAssembly.compile(bytes).catch((error: unknown) => {
      throw new EngineError(
        `WebAssembly: ${String(error)}`,
        "engine",
        "SIMD is needed; take a newer browser",
      );
    });
    compiled.set(hasThreads, found);
  }
  return found;
}

/** Whether memory can be shared with workers here. */
export function canShareMemory(): boolean {
  if (typeof SharedArrayBuffer === "undefined") return false;
  return (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false;
}

/** One instance, and the memory that it and its threads use. */
export class WasmInstance {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly exports: Exports;
  /** Answers `s7_lend` while a model is made. */
  lend: Lend = () => 0;

  private constructor(module: WebAssembly.Module, shared: WebAssembly.Memory | null) {
    this.module = module;
    const host = { lend: (name: number, n: number) => this.lend(name, n), now: nanoseconds };
    const imports: WebAssembly.Imports = shared ? { host, env: { memory: shared } } : { host };
    this.exports = new WebAssembly.Instance(module, imports).exports as unknown as Exports;
    const memory = shared ?? this.exports.memory;
    if (!memory) throw new EngineError("the module has no memory", "engine");
    this.memory = memory;
  }

  static async make(hasThreads: boolean): Promise<WasmInstance> {
    const module = await compile(hasThreads);
    try {
      const shared = hasThreads
        ? new WebAssembly.Memory({ initial: FIRST_PAGES, maximum: MAX_PAGES, shared: true })
        : null;
      return new WasmInstance(module, shared);
    } catch (error) {
      throw new EngineError(`no memory for the engine: ${String(error)}`, "engine", "close other pages");
    }
  }

  get n_bytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** Zeroed memory on a boundary of 64 bytes. */
  take(n_bytes: number): number {
    const at = n_bytes < 2 ** 31 ? this.exports.s7_take(Math.max(n_bytes, 1)) : 0;
    if (at === 0)
      throw new EngineError(
        `no memory for ${n_bytes} bytes more; ${this.n_bytes} are held`,
        "engine",
        "close other models and pages",
      );
    return at >>> 0;
  }

  give(at: number): void {
    this.exports.s7_give(at);
  }

  // Views are made anew at each use: the buffer is another one after it grew.
  bytes(at: number, n: number): Bytes {
    return new Uint8Array(this.memory.buffer, at, n);
  }

  words(at: number, n: number): Int32Array {
    return new Int32Array(this.memory.buffer, at, n);
  }

  view(): DataView {
    return new DataView(this.memory.buffer);
  }

  /** The text of a status of s7.h. */
  statusText(status: number): string {
    const at = this.exports.s7_status_text(status) >>> 0;
    const bytes = this.bytes(at, Math.min(200, this.n_bytes - at));
    return String.fromCharCode(...bytes.slice(0, Math.max(0, bytes.indexOf(0))));
  }
}

const WINDOW_BYTES = 4 * PAGE_BYTES;

/** SHA-256 by the module: about four times as fast as the plain one. */
export function wasmHash(instance: WasmInstance): StartHash {
  const { exports } = instance;
  const window = instance.take(WINDOW_BYTES);
  return () => new WasmHashing(instance, window, instance.take(exports.s7w_sha256_bytes()));
}

class WasmHashing implements Hashing {
  readonly #instance: WasmInstance;
  readonly #window: number;
  readonly #state: number;

  constructor(instance: WasmInstance, window: number, state: number) {
    this.#instance = instance;
    this.#window = window;
    this.#state = state;
    instance.exports.s7w_sha256_begin(state);
  }

  add(bytes: Bytes): void {
    for (let at = 0; at < bytes.length; at += WINDOW_BYTES) {
      const piece = bytes.subarray(at, at + WINDOW_BYTES);
      this.#instance.bytes(this.#window, piece.length).set(piece);
      this.#instance.exports.s7w_sha256_add(this.#state, this.#window, piece.length);
    }
  }

  digest(): Bytes {
    const { exports } = this.#instance;
    exports.s7w_sha256_end(this.#state, this.#window);
    exports.s7_give(this.#state);
    return this.#instance.bytes(this.#window, 32).slice();
  }
}
