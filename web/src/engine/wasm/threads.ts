/** Workers of the host that wait for the engine's work: each has an instance, a stack and the same memory. */

import { EngineError } from "../../core/errors.ts";
import type { WasmInstance } from "./module.ts";
import type { ThreadStart } from "./thread.ts";

const STACK_BYTES = 1 << 18;
const PATIENCE_MS = 10_000;

/** A worker of a page, of Deno or of Node.js. */
interface AnyWorker {
  postMessage(message: unknown): void;
  terminate(): unknown;
  /** Let the program end while the worker waits (Node.js). */
  unref?(): void;
}

// Node.js has workers in a module. Its name is a variable, so that no bundler looks for it.
async function startWorker(url: URL, onFailure: (why: string) => void): Promise<AnyWorker> {
  if (typeof Worker !== "undefined") {
    const worker = new Worker(url, { type: "module" });
    worker.onerror = (event) => onFailure(event.message || "the worker's script cannot be loaded");
    return worker;
  }
  const name = ["node", "worker_threads"].join(":");
  const { Worker: NodeWorker } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as {
    Worker: new (url: URL) => AnyWorker & { on(event: string, listener: (error: Error) => void): void };
  };
  const worker = new NodeWorker(url);
  worker.on("error", (error) => onFailure(error.message));
  return worker;
}

/** The workers of one engine. */
export class Threads {
  readonly #instance: WasmInstance;
  readonly #workers: AnyWorker[] = [];
  #failure = "";

  constructor(instance: WasmInstance) {
    this.#instance = instance;
  }

  /** Start `n` workers; throws an `EngineError` where they cannot be had. */
  async start(n: number, url: URL): Promise<void> {
    for (let index = 0; index < n; ++index) {
      const stack = this.#instance.take(STACK_BYTES);
      const worker = await startWorker(url, (why) => (this.#failure = why));
      this.#workers.push(worker);
      const { module, memory } = this.#instance;
      const start: ThreadStart = { index, stack: stack + STACK_BYTES, module, memory };
      worker.postMessage(start);
      worker.unref?.();
    }
    const until = Date.now() + PATIENCE_MS;
    while (this.#instance.exports.s7w_n_waiting() < n) {
      if (this.#failure !== "" || Date.now() > until)
        throw new EngineError(`no thread: ${this.#failure || "a worker does not answer"}`, "threads");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** End the workers. Their stacks go with the memory, in which they may still run for a moment. */
  close(): void {
    this.#instance.exports.s7w_send_away();
    for (const worker of this.#workers.splice(0)) worker.terminate();
  }
}
