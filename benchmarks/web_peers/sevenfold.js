// Sevenfold: the engine in a worker, and the whole package for the first token.
import { started } from "./remote.js";
import { WorkerClient } from "/sevenfold/index.js";

let call;

export async function open(shape, n_threads) {
  call = await started(new URL("./sevenfold_worker.js", import.meta.url));
  return call("open", shape, n_threads);
}

export const prefill = ({ ids }) => call("prefill", ids);
export const decode = ({ ids }, n) => call("decode", ids, n);

export async function first(shape, n_threads) {
  const client = new WorkerClient(new Worker("/sevenfold/worker.js", { type: "module" }));
  const { root } = await (await fetch(`/models/${shape}.json`)).json();
  await client.open({ url: `/models/${shape}.s7l`, root, n_threads, engine: "wasm" });
  const body = { prompt: "def f(", max_tokens: 1, ignore_eos: true };
  const { usage } = await client.completions.create(body);
  if (usage.completion_tokens !== 1) throw new Error("another number of tokens");
  globalThis.held = client;
}
