import { AutoModelForCausalLM, env, Tensor } from "/peers/@huggingface/transformers/dist/transformers.min.js";
import { serve } from "./remote.js";

let model;

async function run(ids, n) {
  const shape = [1, ids.length];
  const times = [];
  const streamer = { put: () => void times.push(performance.now()), end: () => {} };
  await model.generate({
    input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), shape),
    attention_mask: new Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
    max_new_tokens: n,
    do_sample: false,
    streamer,
  });
  // The prompt comes first.
  if (times.length !== n + 1) throw new Error(`${times.length - 1} tokens instead of ${n}`);
  return times;
}

serve({
  async open(shape, n_threads) {
    env.allowRemoteModels = false;
    env.allowLocalModels = true;
    env.localModelPath = "/models/";
    env.backends.onnx.wasm.wasmPaths = "/peers/onnxruntime-web/dist/";
    env.backends.onnx.wasm.numThreads = n_threads;
    model = await AutoModelForCausalLM.from_pretrained(`${shape}-onnx`, { dtype: "q8", device: "wasm" });
    return `transformers.js ${env.version}, ${n_threads} threads asked for`;
  },
  async prefill(ids) {
    const [begin, end] = await run(ids, 1);
    return end - begin;
  },
  async decode(ids, n) {
    const times = await run(ids, n + 1);
    return times.at(-1) - times[1];
  },
});
