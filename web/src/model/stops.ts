/**
 * Text of an answer as it grows: whole characters, and stop strings that end it. What might still become
 * a stop string is held back, so the pieces of a stream put together are the text without a stream.
 */

import type { TextStream } from "../tokenizer/text.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Finds the first stop string in a text that comes in pieces. */
export class StopFinder {
  readonly #stops: readonly string[];
  #held = "";
  found: string | null = null;

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** The text that no stop string can take back any more. */
  feed(piece: string): string {
    if (this.#stops.length === 0) return piece;
    const text = this.#held + piece;
    this.#held = "";
    let at = Infinity;
    for (const stop of this.#stops) {
      const place = text.indexOf(stop);
      // The earliest one; of several at one place the longest.
      const isBetter = place < at || (place === at && stop.length > (this.found ?? "").length);
      if (place >= 0 && isBetter) [at, this.found] = [place, stop];
    }
    if (this.found !== null) return text.slice(0, at);
    const keep = Math.max(...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - keep);
    return text.slice(0, text.length - keep);
  }

  /** What was held back, when nothing follows. */
  close(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }
}

// The length of the longest end of `text` that begins `stop`.
function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; --n)
    if (stop.startsWith(text.slice(text.length - n))) return n;
  return 0;
}

/** The text of one sample: ids in, released text out. */
export class AnswerText {
  readonly #stream: TextStream;
  readonly #finder: StopFinder;
  text = "";

  constructor(tokenizer: Tokenizer, stops: readonly string[]) {
    this.#stream = tokenizer.stream();
    this.#finder = new StopFinder(stops);
  }

  /** The stop string that ended the text; null while there is none. */
  get stop(): string | null {
    return this.#finder.found;
  }

  /** The text that a token releases. */
  feed(token: number): string {
    return this.#release(this.#stream.feed(token));
  }

  /** The rest of the text: the end of an answer that no stop string ended. */
  close(): string {
    if (this.stop !== null) return "";
    const piece = this.#release(this.#stream.close());
    if (this.stop !== null) return piece;
    const rest = this.#finder.close();
    this.text += rest;
    return piece + rest;
  }

  #release(given: string): string {
    const piece = this.#finder.feed(given);
    this.text += piece;
    return piece;
  }
}
