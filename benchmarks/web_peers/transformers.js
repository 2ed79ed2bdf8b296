// transformers.js: ONNX Runtime in WebAssembly, dynamic INT8 ("q8"), in a worker as its documentation has it.
import { started } from "./remote.js";

let call;

export async function open(shape, n_threads) {
  call = await started(new URL("./transformers_worker.js", import.meta.url));
  return call("open", shape, n_threads);
}

export const prefill = ({ ids }) => call("prefill", ids);
export const decode = ({ ids }, n) => call("decode", ids, n);

export async function first(shape, n_threads) {
  await open(shape, n_threads);
  // Its tokenizer is not in this time.
  await call("decode", [1, 2, 3], 0);
}
