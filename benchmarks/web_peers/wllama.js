// wllama: llama.cpp in WebAssembly, Q8_0. Times are those that llama.cpp says itself, in its favour.
import { LoggerWithoutDebug, Wllama } from "/peers/@wllama/wllama/esm/index.js";

let wllama;

async function load(shape, n_threads) {
  wllama = new Wllama({ default: "/peers/@wllama/wllama/esm/wasm/wllama.wasm" }, { logger: LoggerWithoutDebug });
  await wllama.loadModelFromUrl(new URL(`/models/${shape}.q8_0.gguf`, location.href).href, {
    n_threads, n_ctx: 1024, n_batch: 512, n_gpu_layers: 0, useCache: true,
  });
}

export async function open(shape, n_threads) {
  await load(shape, n_threads);
  return `${Wllama.getLibllamaVersion()}, ${wllama.isMultithread() ? wllama.getNumThreads() : 1} threads`;
}

// It takes texts alone; its tokenizer has to make the ids that the others are given.
async function run({ text, ids, banned }, n) {
  const body = { prompt: text, max_tokens: n, temperature: 0, ignore_eos: true, cache_prompt: false };
  body.logit_bias = Object.fromEntries(banned.map((id) => [id, -100]));
  const { timings, usage } = await wllama.createCompletion(body);
  if (usage.completion_tokens !== n) throw new Error(`${usage.completion_tokens} tokens instead of ${n}`);
  if (timings.prompt_n !== ids.length) throw new Error(`${timings.prompt_n} ids were read of ${ids.length}`);
  return timings;
}

export const prefill = async (prompt) => (await run(prompt, 1)).prompt_ms;
// The first token comes with the prompt.
export const decode = async (prompt, n) => ((await run(prompt, n + 1)).predicted_ms / (n + 1)) * n;

export async function first(shape, n_threads) {
  await load(shape, n_threads);
  await wllama.createCompletion({ prompt: "def f(", max_tokens: 1, temperature: 0, ignore_eos: true });
}
