/** Text from bytes of tokens: a character appears when its last byte has come. */

import type { Bytes } from "../core/bytes.ts";

export class TextStream {
  readonly #bytesOf: (id: number) => Bytes;
  // As Python's incremental decoder with "replace": what is no UTF-8 becomes U+FFFD.
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(bytesOf: (id: number) => Bytes) {
    this.#bytesOf = bytesOf;
  }

  /** The characters that a token completes. */
  feed(id: number): string {
    return this.feedBytes(this.#bytesOf(id));
  }

  feedBytes(bytes: Bytes): string {
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** What is left: U+FFFD when the last character was not complete, else nothing. */
  close(): string {
    return this.#decoder.decode();
  }
}
