/** What an engine gives for runs of ids: a digest over the logits of every id, and one over the cache. */

import { toHex } from "../../src/core/bytes.ts";
import { startHash } from "../../src/core/sha256.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { hashLogits } from "../../src/engine/golden.ts";

export interface Run {
  readonly ids: number[];
  /** Where the prompt is cut into calls. */
  readonly cuts: number[];
  readonly n_layers: number;
}

/** The digests of one run: logits, then codes, m and e of keys and values of each layer. */
export async function digestsOf(engine: Engine, run: Run): Promise<[string, string]> {
  const session = await engine.session();
  const logits = startHash();
  let begin = 0;
  for (const end of [...run.cuts, run.ids.length]) {
    hashLogits(logits, await session.forward(run.ids.slice(begin, end), end - begin));
    begin = end;
  }
  const cache = startHash();
  for (let layer = 0; layer < run.n_layers; ++layer)
    for (const what of ["keys", "values"] as const) {
      const { codes, m, e } = await session.keyValues(layer, what);
      cache.add(new Uint8Array(codes.buffer as ArrayBuffer));
      hashLogits(cache, m);
      hashLogits(cache, e);
    }
  session.close();
  return [toHex(logits.digest()), toHex(cache.digest())];
}
