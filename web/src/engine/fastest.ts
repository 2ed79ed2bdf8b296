/** Chooses an engine by what a step costs here: small models are often faster without a GPU. */

import { EngineError } from "../core/errors.ts";
import type { Engine } from "./engine.ts";
import type { ModelWeights } from "./weights.ts";

export interface Measured {
  readonly name: Engine["name"];
  /** Greedy tokens in a second behind a short prompt; 0 where the engine could not be had. */
  readonly n_tokens_per_second: number;
  /** Why it could not be had. */
  readonly why: string;
}

const PROMPT_TOKENS = 16;
const STEPS = 8;

async function speedOf(engine: Engine): Promise<number> {
  const n_prompt = Math.max(1, Math.min(PROMPT_TOKENS, engine.shape.context - STEPS));
  const ids = Array.from({ length: n_prompt }, (_, i) => i % engine.shape.vocab_size);
  let best = Infinity;
  // The first round pays for what is made at first use.
  for (let round = 0; round < 2; ++round) {
    const session = await engine.session();
    const begin = performance.now();
    const tokens = await session.generate(ids, Math.min(STEPS, engine.shape.context - n_prompt), []);
    best = Math.min(best, (performance.now() - begin) / tokens.length);
    session.close();
  }
  // A coarse clock may say that no time went by.
  return 1000 / Math.max(best, 1e-3);
}

/**
 * The fastest of the engines that can be had; the others are closed. It is not proved yet: whoever takes
 * it replays the golden prompt. Throws the last `EngineError` where there is none.
 */
export async function fastest(
  weights: ModelWeights,
  factories: readonly (readonly [Engine["name"], (weights: ModelWeights) => Promise<Engine>])[],
  onMeasured: (measured: Measured) => void = () => {},
): Promise<Engine> {
  let best: Engine | null = null;
  let best_speed = 0;
  let failure: Error = new EngineError("no engine was asked for", "engine");
  for (const [name, factory] of factories) {
    let engine: Engine | null = null;
    try {
      engine = await factory(weights);
      const speed = await speedOf(engine);
      onMeasured({ name, n_tokens_per_second: speed, why: "" });
      if (speed > best_speed) {
        best?.close();
        best = engine;
        best_speed = speed;
      } else engine.close();
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      engine?.close();
      failure = error;
      onMeasured({ name, n_tokens_per_second: 0, why: error.message });
    }
  }
  if (!best) throw failure;
  return best;
}
