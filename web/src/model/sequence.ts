/** One sample while it runs: what it said, and when it ends. The rules are the server's. */

import { type Bytes } from "../core/bytes.ts";
import { startHash } from "../core/sha256.ts";
import { argmax, hashLogits } from "../engine/golden.ts";
import type { SamplingLaw } from "../sampling/law.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { AnswerText } from "./stops.ts";

/** The bias that takes a token out. */
export const BANNED = -Infinity;
const [INT32_MIN, INT32_MAX] = [-(2 ** 31), 2 ** 31 - 1];

/** One prompt, and how it goes on. */
export interface Generation {
  readonly ids: readonly number[];
  readonly max_tokens: number;
  readonly law: SamplingLaw;
  readonly stops: readonly string[];
  /** Added to logits, in their units (16 fraction bits). */
  readonly biases: ReadonlyMap<number, number>;
  readonly ignore_end: boolean;
  /** Keep the hash of the logits of each step. */
  readonly with_hashes: boolean;
}

/** What ended an answer: a token, a stop string, `max_tokens`, or the client. */
export type Rule = "end" | "word" | "limit" | "time" | "cancel";

export interface Finished {
  readonly reason: "stop" | "length" | "cancelled";
  readonly rule: Rule;
  readonly word: string;
}

export class Sequence {
  readonly generation: Generation;
  readonly tokens: number[] = [];
  /** SHA-256 of the logits of each step. */
  readonly leaves: Bytes[] = [];
  readonly ends: readonly number[];
  readonly #index: number;
  readonly #answer: AnswerText;
  finished: Finished | null = null;

  constructor(generation: Generation, index: number, tokenizer: Tokenizer) {
    this.generation = generation;
    this.#index = index;
    this.ends = generation.ignore_end ? [] : tokenizer.roles.ends;
    this.#answer = new AnswerText(tokenizer, generation.stops);
  }

  get text(): string {
    return this.#answer.text;
  }

  get n_left(): number {
    return this.generation.max_tokens - this.tokens.length;
  }

  /** Whether greedy blocks of the engine give the answer. */
  get isPlain(): boolean {
    const { law, biases, with_hashes } = this.generation;
    return law.isGreedy && biases.size === 0 && !with_hashes;
  }

  /** Choose the next token from the logits after what was read; returns the text that it releases. */
  takeLogits(logits: Int32Array): string {
    const { law, ids, biases, with_hashes } = this.generation;
    if (with_hashes) {
      const hashing = startHash();
      hashLogits(hashing, logits);
      this.leaves.push(hashing.digest());
    }
    let row = logits;
    if (biases.size > 0) {
      row = logits.slice();
      for (const [token, bias] of biases)
        row[token] =
          bias === BANNED ? INT32_MIN : Math.max(INT32_MIN, Math.min(INT32_MAX, row[token]! + bias));
    }
    const position = ids.length + this.tokens.length;
    return this.takeTokens([law.isGreedy ? argmax(row) : law.choose(row, position, this.#index)]);
  }

  /** Take tokens that the engine gave, up to the first that ends the answer; returns their text. */
  takeTokens(tokens: readonly number[]): string {
    let text = "";
    for (const token of tokens) {
      this.tokens.push(token);
      if (this.ends.includes(token)) {
        this.end("stop", "end");
        break;
      }
      text += this.#answer.feed(token);
      if (this.#answer.stop !== null) this.end("stop", "word", this.#answer.stop);
      else if (this.n_left <= 0) this.end("length", "limit");
      if (this.finished) break;
    }
    return text;
  }

  /** End the answer. The last bytes of its text may complete a stop string. */
  end(reason: Finished["reason"], rule: Rule, word = ""): void {
    if (this.finished) return;
    this.#answer.close();
    const stop = this.#answer.stop;
    this.finished =
      stop !== null && rule !== "word"
        ? { reason: "stop", rule: "word", word: stop }
        : { reason, rule, word };
  }
}
