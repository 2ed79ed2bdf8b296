/**
 * Downloads over a server that fails in every way, checked here: an assertion ends the program.
 *
 * Input: the path of a model, and a seed.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  ArtifactError,
  download,
  type DownloadOptions,
  MemorySource,
  MemoryStore,
  readArtifact,
  StorageError,
} from "../../src/index.ts";
import { makePlan, planBytes, HEAD_BYTES } from "../../src/download/plan.ts";

const file = new Uint8Array(readFileSync(process.argv[2]!));
let state = Number(process.argv[3] ?? 1);
/** A number below `n`, the same for the same seed. */
function random(n: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
}
const plan = makePlan(file.subarray(0, planBytes(file.subarray(0, HEAD_BYTES))));
const { root } = readArtifact(new MemorySource(file));
assert.equal(plan.root, root);
assert.equal(plan.n_bytes, file.length);
assert.ok(plan.chunks.length > 20, "enough chunks to be cut between");

interface Fault {
  /** Bytes after which the connection ends. */
  readonly cutAfter?: () => number;
  readonly hasRanges?: boolean;
  /** Changes what is sent. */
  readonly damage?: (offset: number, bytes: Uint8Array) => Uint8Array;
}

const asked: string[] = [];

function server({ cutAfter, hasRanges = true, damage }: Fault) {
  return async (_: string, init: RequestInit): Promise<Response> => {
    const range = new Headers(init.headers).get("range") ?? "";
    asked.push(range);
    const [begin, end] = (/bytes=(\d+)-(\d+)/.exec(range) ?? []).slice(1).map(Number) as [number, number];
    const [from, to] = hasRanges ? [begin, Math.min(end + 1, file.length)] : [0, file.length];
    const sent = damage ? damage(from, file.slice(from, to)) : file.slice(from, to);
    const most = cutAfter ? cutAfter() : sent.length;
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        init.signal?.throwIfAborted();
        if (at >= Math.min(most, sent.length)) {
          if (most < sent.length) return controller.error(new TypeError("the connection was reset"));
          return controller.close();
        }
        const n = Math.min(1 + random(9000), most - at, sent.length - at);
        controller.enqueue(sent.slice(at, at + n));
        at += n;
      },
    });
    const headers = { "content-range": `bytes ${from}-${to - 1}/${file.length}` };
    return new Response(body, hasRanges ? { status: 206, headers } : { status: 200 });
  };
}

async function get(fault: Fault, options: Partial<DownloadOptions> = {}) {
  const store = options.store ?? new MemoryStore();
  const done = await download("model", { store, fetch: server(fault), pause: 0, root, ...options });
  assert.deepEqual(done.source.read(0, file.length), file);
  return done;
}

// All of it, with ranges and without.
const n_chunk_bytes = plan.chunks.reduce((sum, chunk) => sum + chunk.n_bytes, 0);
assert.equal((await get({})).n_fetched, n_chunk_bytes);
assert.equal((await get({ hasRanges: false })).n_fetched, n_chunk_bytes);

// Cut at random points: what came stays, so in all little more than the file is fetched.
for (let round = 0; round < 20; ++round)
  for (const hasRanges of [true, false]) {
    // A head that is cut gives nothing to keep, so the first answer is whole.
    let n_answers = 0;
    const cutAfter = (): number => (++n_answers === 1 ? Infinity : planBytes(file) + 1 + random(file.length));
    await get({ cutAfter, hasRanges }, { retries: 50 });
  }

// A program that ends in the middle, and one that begins again.
const kept = new MemoryStore();
const controller = new AbortController();
let n_seen = 0;
const stopped = get(
  {},
  {
    store: kept,
    signal: controller.signal,
    onProgress: () => void (++n_seen === 10 && controller.abort(new Error("closed"))),
  },
);
await assert.rejects(stopped, /closed/);
const again = await get({}, { store: kept });
assert.ok(again.n_fetched < n_chunk_bytes && again.n_fetched > 0, "what was there is not fetched again");
assert.equal((await get({}, { store: kept })).n_fetched, 0);

// A byte that rots in the store is fetched again, and its chunk alone.
const rotten = await kept.open(root, file.length);
const victim = plan.chunks[7]!;
rotten.write(victim.offset, Uint8Array.of(file[victim.offset]! ^ 1));
asked.length = 0;
assert.equal((await get({}, { store: kept })).n_fetched, victim.n_bytes);
assert.equal(asked[asked.length - 1], `bytes=${victim.offset}-${victim.offset + victim.n_bytes - 1}`);

// A chunk that comes wrong once is fetched again alone; one that is always wrong comes from a mirror.
function wrong(n_times: number) {
  let n = 0;
  let n_answers = 0;
  return (offset: number, bytes: Uint8Array): Uint8Array => {
    const at = victim.offset - offset;
    // The first answer is for header and seal.
    if (++n_answers === 1 || at < 0 || at >= bytes.length || n >= n_times) return bytes;
    ++n;
    bytes[at]! ^= 1;
    return bytes;
  };
}
for (const hasRanges of [true, false]) {
  const states: string[] = [];
  await get({ damage: wrong(1), hasRanges }, { onProgress: (p) => states.push(p.state) });
  assert.ok(states.filter((s) => s === "wrong").length >= 1, "the wrong chunk was told");
}
await assert.rejects(get({ damage: wrong(1000) }), (error: Error) => /was wrong 3 times/.test(error.message));
const both = (url: string, init: RequestInit) =>
  server(url === "model" ? { damage: wrong(1000) } : {})(url, init);
await get({}, { fetch: both, mirrors: ["mirror"] });

// Two at once share one download.
const shared = new MemoryStore();
const two = await Promise.all([get({}, { store: shared }), get({}, { store: shared })]);
assert.equal(two[0].n_fetched + two[1].n_fetched, n_chunk_bytes);

// What is refused, and how it is named.
await assert.rejects(
  get({}, { root: "00" }),
  (error: Error) => error instanceof ArtifactError && error.name === "RootError",
);
const missing = async (): Promise<Response> => new Response("", { status: 404 });
await assert.rejects(get({}, { fetch: missing, retries: 1 }), (error: Error) =>
  /answered 404/.test(error.message),
);
const badSeal = (offset: number, bytes: Uint8Array): Uint8Array => {
  if (offset === 0) bytes[60]! ^= 1;
  return bytes;
};
await assert.rejects(get({ damage: badSeal }), ArtifactError);
const full = new MemoryStore();
full.open = async (_, n) => {
  throw new StorageError(`no room for ${n} bytes`, "storage", "free space on this device");
};
await assert.rejects(get({}, { store: full, retries: 0 }), (error: Error) =>
  error.message.includes(`${file.length} bytes`),
);
console.log("downloaded");
