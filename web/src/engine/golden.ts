/** The self-test and the replay of rule V6: what an engine says here against what was sealed. */

import type { Golden } from "../artifact/golden.ts";
import { toHex } from "../core/bytes.ts";
import { ArtifactError, UsageError } from "../core/errors.ts";
import { type Hashing, type StartHash, startHash } from "../core/sha256.ts";
import type { Engine } from "./engine.ts";

/** The lowest id of the largest logit. */
export function argmax(logits: Int32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; ++i) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Add logits to a hash as big-endian words. */
export function hashLogits(hashing: Hashing, logits: Int32Array): void {
  const bytes = new Uint8Array(4 * logits.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < logits.length; ++i) view.setInt32(4 * i, logits[i]!);
  hashing.add(bytes);
}

export interface GreedyRun {
  readonly tokens: readonly number[];
  readonly logits_sha256: string;
}

/** Greedy steps from ids; the hash is over the logits of each step, in order. */
export async function greedyRun(
  engine: Engine,
  ids: readonly number[],
  n_steps: number,
  hash: StartHash = startHash,
): Promise<GreedyRun> {
  const session = await engine.session();
  const hashing = hash();
  const tokens: number[] = [];
  try {
    let pending: readonly number[] = ids;
    for (let step = 0; step < n_steps; ++step) {
      const logits = await session.forward(pending, 1);
      hashLogits(hashing, logits);
      tokens.push(argmax(logits));
      pending = tokens.slice(-1);
    }
  } finally {
    session.close();
  }
  return { tokens, logits_sha256: toHex(hashing.digest()) };
}

/** What of a golden prompt is not as sealed on this engine; "" when all is. */
export async function replayGolden(engine: Engine, golden: Golden): Promise<string> {
  try {
    const run = await greedyRun(engine, golden.ids, golden.n_steps);
    if (run.tokens.some((token, i) => token !== golden.tokens[i])) return "other tokens";
    return run.logits_sha256 === golden.logits_sha256 ? "" : "other logits";
  } catch (error) {
    // More ids than the model has positions, or none of its vocabulary.
    if (error instanceof UsageError) return error.message;
    throw error;
  }
}

/** Refuse an engine that does not give the sealed logits of a golden prompt on this machine. */
export async function selfTest(engine: Engine, golden: Golden): Promise<void> {
  const differs = await replayGolden(engine, golden);
  if (differs !== "")
    throw new ArtifactError(
      "SelfTestError",
      `${engine.detail} gives ${differs} than were sealed`,
      "golden prompt 0",
      "do not use this machine or browser with the model",
    );
}
