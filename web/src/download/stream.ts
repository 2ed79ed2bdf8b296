/** Bytes of a URL in order, from a place on; a server without ranges gives them from the start. */

import type { Bytes } from "../core/bytes.ts";
import { StorageError } from "../core/errors.ts";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export class ByteStream {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #held: Bytes[] = [];
  #n_held = 0;
  /** The place of the next byte. */
  offset: number;
  /** Where the stream ends; Infinity where that is the end of the file. */
  readonly end: number;

  constructor(body: ReadableStream<Uint8Array>, offset: number, end: number) {
    this.#reader = body.getReader();
    this.offset = offset;
    this.end = end;
  }

  /** Exactly `n` bytes. Throws a `StorageError` where the stream ends before. */
  async read(n: number): Promise<Bytes> {
    while (this.#n_held < n) {
      const { done, value } = await this.#reader.read();
      if (done)
        throw new StorageError(`the connection ended at byte ${this.offset + this.#n_held}`, "download");
      this.#held.push(value);
      this.#n_held += value.length;
    }
    const found = new Uint8Array(n);
    for (let at = 0; at < n;) {
      const first = this.#held[0]!;
      const taken = first.subarray(0, n - at);
      found.set(taken, at);
      at += taken.length;
      if (taken.length === first.length) this.#held.shift();
      else this.#held[0] = first.subarray(taken.length);
    }
    this.#n_held -= n;
    this.offset += n;
    return found;
  }

  /** Pass over bytes up to a place. */
  async skipTo(offset: number): Promise<void> {
    const STEP = 65536;
    while (this.offset < offset) await this.read(Math.min(STEP, offset - this.offset));
  }

  async close(): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}

/** A `Fetch` that answers from a file that a person chose: ranges of it, and nothing else. */
export function blobFetch(file: Blob): Fetch {
  return async (_, init) => {
    const [begin, end] = (/(\d+)-(\d+)/.exec(new Headers(init.headers).get("range") ?? "") ?? [])
      .slice(1)
      .map(Number) as [number, number];
    const part = file.slice(begin, end + 1);
    const headers = { "content-range": `bytes ${begin}-${begin + part.size - 1}/${file.size}` };
    return new Response(part.stream(), { status: 206, headers });
  };
}

/** Ask for bytes `begin` to `end`. Throws a `StorageError` that names the server's answer. */
export async function openStream(
  fetch: Fetch,
  url: string,
  begin: number,
  end: number,
  signal?: AbortSignal,
): Promise<ByteStream> {
  const headers = { Range: `bytes=${begin}-${end - 1}` };
  let response: Response;
  try {
    response = await fetch(url, { headers, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new StorageError(`it cannot be reached: ${String(error)}`, url, "try again");
  }
  if (response.status !== 200 && response.status !== 206)
    throw new StorageError(`the server answered ${response.status}`, url, "check the address");
  if (!response.body) throw new StorageError("the answer has no body", url);
  if (response.status === 200) return new ByteStream(response.body, 0, Infinity);
  const from = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
  // A cache may answer another range than was asked for; without the header (CORS hides it) hashes tell.
  const offset = from ? Number(from[1]) : begin;
  if (offset > begin) throw new StorageError("the server gave another range", url, "try again");
  return new ByteStream(response.body, offset, end);
}
