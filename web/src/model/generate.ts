/** Runs one sample of a generation on a model, piece by piece. */

import { UsageError } from "../core/errors.ts";
import { tick } from "../core/tick.ts";
import type { Model } from "./model.ts";
import { type Generation, Sequence } from "./sequence.ts";

// Greedy tokens of one call of the engine: a cancelled answer ends within them.
const BLOCK_TOKENS = 8;
// Ids of a prompt that are read at once: a page answers events between them.
const READ_TOKENS = 256;

/**
 * Yields the text of an answer as it is released; the last piece is what was held back. The returned
 * sequence says what was said and why it ended. `signal` ends it within one step, by the rule `cancel`.
 */
export async function* generate(
  model: Model,
  generation: Generation,
  index = 0,
  signal?: AbortSignal,
): AsyncGenerator<string, Sequence> {
  const sequence = new Sequence(generation, index, model.tokenizer);
  if (generation.ids.length + generation.max_tokens > model.context)
    throw new UsageError(
      `${generation.ids.length} ids and ${generation.max_tokens} tokens; the context has ${model.context}`,
      "max_tokens",
      "shorten the prompt, or ask for fewer tokens",
    );
  let n_given = 0;
  const session = model.session();
  try {
    let pending: readonly number[] = generation.ids;
    if (generation.max_tokens === 0) sequence.end("length", "limit");
    while (!sequence.finished) {
      if (signal?.aborted) {
        sequence.end("cancelled", "cancel");
        break;
      }
      if (pending.length > READ_TOKENS) {
        await session.forward(pending.slice(0, READ_TOKENS), 0);
        pending = pending.slice(READ_TOKENS);
        await tick();
        continue;
      }
      let text: string;
      if (sequence.isPlain) {
        const n = Math.min(BLOCK_TOKENS, sequence.n_left);
        text = sequence.takeTokens(await session.generate(pending, n, sequence.ends));
      } else {
        text = sequence.takeLogits(await session.forward(pending, 1));
      }
      pending = sequence.tokens.slice(-1);
      n_given += text.length;
      if (text !== "") yield text;
      await tick();
    }
  } finally {
    session.close();
  }
  const rest = sequence.text.slice(n_given);
  if (rest !== "") yield rest;
  return sequence;
}
