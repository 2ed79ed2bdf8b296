/**
 * Downloading is verifying: header and seal come first, and every chunk is written only when it hashes to
 * what the seal lists. So a download that was cut anywhere goes on, a wrong chunk is fetched again alone,
 * and nothing that is kept can be wrong for ever.
 */

import type { ByteSource } from "../artifact/source.ts";
import { type Bytes, equalBytes } from "../core/bytes.ts";
import { ArtifactError, UsageError } from "../core/errors.ts";
import { sha256, type Sha256 } from "../core/sha256.ts";
import { HEAD_BYTES, makePlan, type Plan, planBytes } from "./plan.ts";
import type { Store, StoredFile } from "./store.ts";
import { type ByteStream, type Fetch, openStream } from "./stream.ts";

export interface Progress {
  readonly root: string;
  readonly n_bytes: number;
  /** Of chunks that are there and hash right. */
  readonly n_done: number;
  /** The chunk at hand: found in the store, fetched, or wrong. */
  readonly chunk: number;
  readonly n_chunks: number;
  readonly state: "kept" | "fetched" | "wrong";
}

export interface DownloadOptions {
  readonly store: Store;
  /** The name of the model: another file is refused. */
  readonly root?: string;
  /** Tried in turn, after `url`. */
  readonly mirrors?: readonly string[];
  readonly fetch?: Fetch;
  readonly sha256?: Sha256;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /** Failures in a row, without a chunk between them, that end it. */
  readonly retries?: number;
  /** Milliseconds before the first of them is tried again; doubled each time. */
  readonly pause?: number;
}

export interface Download {
  readonly root: string;
  readonly source: ByteSource;
  /** Bytes of chunks that came over the network. */
  readonly n_fetched: number;
}

const RETRIES = 5;
const PAUSE_MS = 300;
const MAX_PAUSE_MS = 10_000;
const WRONG_MOST = 3;
const FIRST_BYTES = 2 ** 18;

class Downloading {
  readonly #urls: readonly string[];
  readonly #options: DownloadOptions;
  readonly #fetch: Fetch;
  readonly #sha256: Sha256;
  #n_failures = 0;
  #n_fetched = 0;

  constructor(url: string, options: DownloadOptions) {
    this.#urls = [url, ...(options.mirrors ?? [])];
    this.#options = options;
    this.#fetch = options.fetch ?? ((address, init) => globalThis.fetch(address, init));
    this.#sha256 = options.sha256 ?? sha256;
  }

  async run(): Promise<Download> {
    const { root, store } = this.#options;
    if (root !== undefined)
      return store.lock(root, async () =>
        this.#done((await this.#keptPlan(root)) ?? (await this.#asked(root))),
      );
    const plan = await this.#again(() => this.#plan());
    return store.lock(plan.root, () => this.#done(plan));
  }

  async #done(plan: Plan): Promise<Download> {
    await this.#fill(plan);
    const source = await this.#options.store.source(plan.root);
    return { root: plan.root, source, n_fetched: this.#n_fetched };
  }

  async #asked(root: string): Promise<Plan> {
    const plan = await this.#again(() => this.#plan());
    if (plan.root === root) return plan;
    throw new ArtifactError("RootError", `the file is ${plan.root}, ${root} was asked for`, this.#urls[0]);
  }

  // Header and seal that are kept are as good as fetched ones: the root proves them. So a whole file needs
  // no network, and a page works offline.
  async #keptPlan(root: string): Promise<Plan | null> {
    const source = await this.#options.store.source(root).catch(() => null);
    if (!source) return null;
    try {
      if (source.n_bytes < HEAD_BYTES) return null;
      const n_bytes = planBytes(source.read(0, HEAD_BYTES));
      const plan = n_bytes <= source.n_bytes ? makePlan(source.read(0, n_bytes)) : null;
      return plan?.root === root && plan.n_bytes === source.n_bytes ? plan : null;
    } catch (error) {
      if (error instanceof ArtifactError) return null;
      throw error;
    } finally {
      source.close();
    }
  }

  #open(begin: number, end: number): Promise<ByteStream> {
    const url = this.#urls[this.#n_failures % this.#urls.length]!;
    return openStream(this.#fetch, url, begin, end, this.#options.signal);
  }

  // Run until it ends without a failure of the network; progress resets the count.
  async #again<T>(run: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await run();
      } catch (error) {
        this.#options.signal?.throwIfAborted();
        // An address that is not there, or a file that is none, is so the next time, too.
        if (error instanceof UsageError) throw error;
        if (error instanceof ArtifactError && error.cause_ !== "ChunkError") throw error;
        if (++this.#n_failures > (this.#options.retries ?? RETRIES)) throw error;
        const pause = (this.#options.pause ?? PAUSE_MS) * 2 ** (this.#n_failures - 1);
        await new Promise((resolve) => setTimeout(resolve, Math.min(pause, MAX_PAUSE_MS)));
      }
    }
  }

  async #plan(): Promise<Plan> {
    let stream = await this.#open(0, FIRST_BYTES);
    try {
      const head = await stream.read(HEAD_BYTES);
      const n_bytes = planBytes(head);
      if (n_bytes > FIRST_BYTES) {
        await stream.close();
        stream = await this.#open(0, n_bytes);
        return makePlan(await stream.read(n_bytes));
      }
      const rest = await stream.read(n_bytes - HEAD_BYTES);
      const whole = new Uint8Array(n_bytes);
      whole.set(head);
      whole.set(rest, HEAD_BYTES);
      return makePlan(whole);
    } finally {
      await stream.close();
    }
  }

  async #fill(plan: Plan): Promise<void> {
    const file = await this.#options.store.open(plan.root, plan.n_bytes);
    try {
      for (const [offset, bytes] of plan.known) file.write(offset, bytes);
      const missing = new Missing(plan);
      for (const [i, chunk] of plan.chunks.entries())
        if (equalBytes(this.#sha256(file.read(chunk.offset, chunk.n_bytes)), chunk.sha256))
          this.#told(plan, missing, i, "kept");
      while (missing.n > 0) await this.#again(() => this.#some(plan, file, missing));
      file.flush();
    } finally {
      file.close();
    }
  }

  // One stream: what it gives of the missing chunks. A wrong one is left missing, and asked for alone later.
  async #some(plan: Plan, file: StoredFile, missing: Missing): Promise<void> {
    const first = missing.first();
    const last = plan.chunks[missing.runEnd(first) - 1]!;
    const stream = await this.#open(plan.chunks[first]!.offset, last.offset + last.n_bytes);
    let wrong = -1;
    try {
      for (let i = first; i < plan.chunks.length && missing.n > 0; ++i) {
        const chunk = plan.chunks[i]!;
        if (!missing.has(i)) continue;
        if (chunk.offset + chunk.n_bytes > stream.end) break;
        await stream.skipTo(chunk.offset);
        if (!this.#take(plan, file, missing, i, await stream.read(chunk.n_bytes))) wrong = i;
      }
    } finally {
      await stream.close();
    }
    if (wrong < 0) return;
    const offset = plan.chunks[wrong]!.offset;
    throw new ArtifactError("ChunkError", `the chunk at offset ${offset} does not hash right`, this.#urls[0]);
  }

  // Whether the chunk hashes right, and was written.
  #take(plan: Plan, file: StoredFile, missing: Missing, i: number, bytes: Bytes): boolean {
    this.#options.signal?.throwIfAborted();
    this.#n_fetched += bytes.length;
    const chunk = plan.chunks[i]!;
    if (equalBytes(this.#sha256(bytes), chunk.sha256)) {
      file.write(chunk.offset, bytes);
      this.#n_failures = 0;
      this.#told(plan, missing, i, "fetched");
      return true;
    }
    this.#told(plan, missing, i, "wrong");
    if (missing.wrong(i) >= WRONG_MOST)
      throw new UsageError(
        `the chunk at offset ${chunk.offset} was wrong ${WRONG_MOST} times`,
        this.#urls[0],
        "the file there is not the one that was sealed",
      );
    return false;
  }

  #told(plan: Plan, missing: Missing, chunk: number, state: Progress["state"]): void {
    if (state !== "wrong") missing.delete(chunk);
    this.#options.onProgress?.({
      root: plan.root,
      n_bytes: plan.n_bytes,
      n_done: plan.n_bytes - missing.n_bytes,
      chunk,
      n_chunks: plan.chunks.length,
      state,
    });
  }
}

// Which chunks are not there yet.
class Missing {
  readonly #plan: Plan;
  readonly #is: Uint8Array;
  readonly #wrong = new Map<number, number>();
  n: number;
  n_bytes: number;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.n = plan.chunks.length;
    this.n_bytes = plan.chunks.reduce((sum, chunk) => sum + chunk.n_bytes, 0);
    this.#is = new Uint8Array(this.n).fill(1);
  }

  has(i: number): boolean {
    return this.#is[i] === 1;
  }

  first(): number {
    return this.#is.indexOf(1);
  }

  /** The end of the run of missing chunks that begins at `i`. */
  runEnd(i: number): number {
    const end = this.#is.indexOf(0, i);
    return end < 0 ? this.#is.length : end;
  }

  delete(i: number): void {
    if (this.#is[i] !== 1) return;
    this.#is[i] = 0;
    this.n -= 1;
    this.n_bytes -= this.#plan.chunks[i]!.n_bytes;
  }

  /** How often a chunk was wrong, with this time. */
  wrong(i: number): number {
    const n = (this.#wrong.get(i) ?? 0) + 1;
    this.#wrong.set(i, n);
    return n;
  }
}

/** Download a file into a store, or find it there. Its chunks are proved: open it with `isProved`. */
export function download(url: string, options: DownloadOptions): Promise<Download> {
  return new Downloading(url, options).run();
}
