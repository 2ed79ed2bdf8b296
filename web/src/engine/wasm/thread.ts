/** A thread of the engine: the entry of a worker that gives itself to the module until it is sent away. */

import type { Exports } from "./module.ts";

/** What a thread is told once. */
export interface ThreadStart {
  readonly index: number;
  /** The end of its stack in the shared memory. */
  readonly stack: number;
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
}

function run({ index, stack, module, memory }: ThreadStart): void {
  // Codes are lent and time is taken by the thread that calls the engine.
  const imports = { env: { memory }, host: { lend: () => 0, now: () => 0n } };
  const exports = new WebAssembly.Instance(module, imports).exports as unknown as Exports;
  exports.__stack_pointer.value = stack;
  exports.s7w_wait_for_work(index);
}

interface Port {
  on(event: "message", listener: (message: ThreadStart) => void): void;
}

const scope = globalThis as { onmessage?: unknown; WorkerGlobalScope?: unknown };
if (scope.WorkerGlobalScope !== undefined) {
  scope.onmessage = (event: MessageEvent<ThreadStart>) => run(event.data);
} else {
  const name = ["node", "worker_threads"].join(":");
  // No await outside of a function: bundlers that copy this file read it as a script.
  void import(/* @vite-ignore */ /* webpackIgnore: true */ name).then((threads) =>
    (threads as { parentPort: Port | null }).parentPort?.on("message", run),
  );
}
