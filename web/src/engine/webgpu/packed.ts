/** Whether `dot4I8Packed` is faster here than products of single codes: some drivers emulate it badly. */

import { compiled, GPU_USAGE, type Program } from "./pipeline.ts";
import { programText } from "./shaders.ts";

// A product of this many codes and outputs, again and again.
const SIDE = 1024;
const OUTPUTS_OF_A_GROUP = 8;
const ROUNDS = 3;
// A clock of a page is coarse, so a round takes this long at least; and a slow adapter makes few products.
const LEAST_MS = 4;
const MOST_PRODUCTS = 64;

type Run = (n_products: number) => Promise<void>;

/** Measure the product of decoding in both ways. `clock` gives milliseconds. */
export async function isPackedFaster(
  gpu: GPUDevice,
  clock: () => number = () => performance.now(),
): Promise<boolean> {
  const buffers: GPUBuffer[] = [];
  const made = async (isPacked: boolean): Promise<Run> =>
    runner(gpu, await compiled(gpu, "row", programText("row", isPacked)), buffers);
  const ways = await Promise.all([made(true), made(false)]);
  const timed = async (run: Run, n_products: number): Promise<number> => {
    const begin = clock();
    await run(n_products);
    return clock() - begin;
  };
  // The first product pays for what is made at first use.
  for (const run of ways) await run(1);
  const best = [Infinity, Infinity];
  for (let n = 1; ; n *= 4) {
    best.fill(Infinity);
    for (let round = 0; round < ROUNDS; ++round)
      for (const [i, run] of ways.entries()) best[i] = Math.min(best[i]!, await timed(run, n));
    if (n >= MOST_PRODUCTS || Math.min(...best) >= LEAST_MS) break;
  }
  for (const buffer of buffers) buffer.destroy();
  return best[0]! <= best[1]!;
}

// Buffers of zeros do: the time of a product does not depend on its values.
function runner(gpu: GPUDevice, { pipeline, layout }: Program, buffers: GPUBuffer[]): Run {
  const filled = (n_bytes: number): GPUBuffer => {
    const buffer = gpu.createBuffer({ size: n_bytes, usage: GPU_USAGE.STORAGE | GPU_USAGE.COPY_DST });
    buffers.push(buffer);
    return buffer;
  };
  const sizes = filled(256);
  gpu.queue.writeBuffer(sizes, 0, Int32Array.of(SIDE, SIDE));
  // The tables of the law, which a product does not read; then sizes, codes, weight, rows, results, experts.
  const held = [filled(16), sizes, ...[SIDE, SIDE * SIDE, 4 * SIDE, 4 * SIDE, 16].map(filled)];
  const entries = held.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const group = gpu.createBindGroup({ layout, entries });
  return async (n_products) => {
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group, [0]);
    for (let i = 0; i < n_products; ++i) pass.dispatchWorkgroups(SIDE / OUTPUTS_OF_A_GROUP);
    pass.end();
    gpu.queue.submit([encoder.finish()]);
    await gpu.queue.onSubmittedWorkDone();
  };
}
