import { loadWeights, MemorySource, readArtifact, WasmEngine } from "/sevenfold/index.js";
import { serve } from "./remote.js";
import { Bench } from "./sevenfold_engine.js";

let bench;
serve({
  async open(shape, n_threads) {
    const bytes = await (await fetch(`/models/${shape}.s7l`)).arrayBuffer();
    bench = new Bench(await WasmEngine.make(loadWeights(readArtifact(new MemorySource(bytes))), { n_threads }));
    return bench.engine.detail;
  },
  prefill: (ids) => bench.prefill(ids),
  decode: (ids, n) => bench.decode(ids, n),
});
