/**
 * Ids of one piece: BPE joins learnt pairs, the first learnt first and of those the leftmost;
 * Unigram takes the likeliest cut. Both do what the `tokenizers` library does, to the tie.
 */

import type { Bytes } from "../core/bytes.ts";

export interface Encoder {
  /** Ids of one piece of UTF-8. */
  encode(piece: Bytes): number[];
}

const EMPTY = -1;

/** What two numbers give: a table of open addresses, at most half full. */
export class Pairs {
  #left = new Int32Array(16).fill(EMPTY);
  #right = new Int32Array(16);
  #rank = new Int32Array(16);
  #into = new Int32Array(16);
  #n = 0;

  #place(left: number, right: number): number {
    const mask = this.#left.length - 1;
    let at = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca77)) >>> 0;
    at = (at ^ (at >>> 15)) & mask;
    while (this.#left[at] !== EMPTY && (this.#left[at] !== left || this.#right[at] !== right))
      at = (at + 1) & mask;
    return at;
  }

  /** A pair given twice has its last value. */
  add(left: number, right: number, rank: number, into: number): void {
    if (2 * (this.#n + 1) > this.#left.length) this.#grow();
    const at = this.#place(left, right);
    if (this.#left[at] === EMPTY) ++this.#n;
    this.#left[at] = left;
    this.#right[at] = right;
    this.#rank[at] = rank;
    this.#into[at] = into;
  }

  #grow(): void {
    const [left, right, rank, into] = [this.#left, this.#right, this.#rank, this.#into];
    const size = 2 * left.length;
    this.#left = new Int32Array(size).fill(EMPTY);
    this.#right = new Int32Array(size);
    this.#rank = new Int32Array(size);
    this.#into = new Int32Array(size);
    this.#n = 0;
    for (let i = 0; i < left.length; ++i)
      if (left[i] !== EMPTY) this.add(left[i]!, right[i]!, rank[i]!, into[i]!);
  }

  /** The place of a pair, for `rank` and `into`; -1 when there is none. */
  find(left: number, right: number): number {
    const at = this.#place(left, right);
    return this.#left[at] === EMPTY ? -1 : at;
  }

  rank(place: number): number {
    return this.#rank[place]!;
  }

  into(place: number): number {
    return this.#into[place]!;
  }
}

// Parts up to which looking at all of them beats a heap.
const SHORT = 48;
const latin1 = new TextDecoder("latin1");
/** A piece of bytes as a text of as many characters, which a Map can hold. */
const keyOf = (bytes: Bytes): string => latin1.decode(bytes);

export class Bpe implements Encoder {
  readonly #merges = new Pairs();
  readonly #byteIds = new Int32Array(256).fill(EMPTY);
  // Only where pieces are taken whole.
  readonly #entries: Map<string, number> | null;

  constructor(isWhole: boolean) {
    this.#entries = isWhole ? new Map() : null;
  }

  addEntry(bytes: Bytes, id: number): void {
    if (bytes.length === 1) this.#byteIds[bytes[0]!] = id;
    this.#entries?.set(keyOf(bytes), id);
  }

  addMerge(left: number, right: number, rank: number, into: number): void {
    this.#merges.add(left, right, rank, into);
  }

  encode(piece: Bytes): number[] {
    const whole = this.#entries?.get(keyOf(piece));
    if (whole !== undefined) return [whole];
    const ids = Array.from(piece, (byte) => this.#byteIds[byte]!);
    return ids.length <= SHORT ? this.#mergeShort(ids) : this.#mergeLong(ids);
  }

  #mergeShort(ids: number[]): number[] {
    const merges = this.#merges;
    const places: number[] = [];
    for (let i = 0; i + 1 < ids.length; ++i) places.push(merges.find(ids[i]!, ids[i + 1]!));
    for (;;) {
      let best = -1;
      for (let i = 0; i < places.length; ++i) {
        const place = places[i]!;
        // Of equals the leftmost.
        if (place >= 0 && (best < 0 || merges.rank(place) < merges.rank(places[best]!))) best = i;
      }
      if (best < 0) return ids;
      ids.splice(best, 2, merges.into(places[best]!));
      places.splice(best, 1);
      if (best > 0) places[best - 1] = merges.find(ids[best - 1]!, ids[best]!);
      if (best < places.length) places[best] = merges.find(ids[best]!, ids[best + 1]!);
    }
  }

  #mergeLong(ids: number[]): number[] {
    const n = ids.length;
    const merges = this.#merges;
    const after = Int32Array.from(ids, (_, i) => (i + 1 < n ? i + 1 : -1));
    const before = Int32Array.from(ids, (_, i) => i - 1);
    const heap = new Heap();
    const ask = (at: number): void => {
      const next = after[at]!;
      if (next < 0) return;
      const place = merges.find(ids[at]!, ids[next]!);
      if (place >= 0) heap.push(merges.rank(place), at, ids[at]!, ids[next]!);
    };
    for (let i = 0; i < n; ++i) ask(i);
    for (let first = heap.pop(); first; first = heap.pop()) {
      const [, at, left, right] = first;
      const next = after[at]!;
      // What has merged since is another part; one that was taken into its neighbour has id -1.
      if (ids[at] !== left || next < 0 || ids[next] !== right) continue;
      ids[at] = merges.into(merges.find(left, right));
      after[at] = after[next]!;
      ids[next] = -1;
      if (after[at]! >= 0) before[after[at]!] = at;
      if (before[at]! >= 0) ask(before[at]!);
      ask(at);
    }
    return ids.filter((id) => id >= 0);
  }
}

type Candidate = [rank: number, at: number, left: number, right: number];

// The least rank first, of equals the leftmost.
class Heap {
  readonly #items: Candidate[] = [];

  static #isLess(a: Candidate, b: Candidate): boolean {
    return a[0] !== b[0] ? a[0] < b[0] : a[1] < b[1];
  }

  push(...item: Candidate): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!Heap.#isLess(item, items[above]!)) break;
      items[at] = items[above]!;
      at = above;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const items = this.#items;
    const first = items[0];
    const last = items.pop();
    if (last === undefined || items.length === 0) return first;
    let at = 0;
    for (let next = 1; next < items.length; next = 2 * at + 1) {
      if (next + 1 < items.length && Heap.#isLess(items[next + 1]!, items[next]!)) ++next;
      if (!Heap.#isLess(items[next]!, last)) break;
      items[at] = items[next]!;
      at = next;
    }
    items[at] = last;
    return first;
  }
}

export class Unigram implements Encoder {
  // Nodes of a tree over bytes: the id that ends there, or -1, and its score.
  readonly #edges = new Pairs();
  readonly #ids: number[] = [-1];
  readonly #scores: number[] = [0];

  addEntry(bytes: Bytes, id: number, score: number): void {
    let node = 0;
    for (const byte of bytes) {
      const place = this.#edges.find(node, byte);
      if (place >= 0) {
        node = this.#edges.into(place);
        continue;
      }
      this.#edges.add(node, byte, 0, this.#ids.length);
      node = this.#ids.push(-1) - 1;
      this.#scores.push(0);
    }
    this.#ids[node] = id;
    this.#scores[node] = score;
  }

  encode(piece: Bytes): number[] {
    const n = piece.length;
    const score = new Float64Array(n + 1);
    const begins = new Int32Array(n + 1);
    const id = new Int32Array(n + 1).fill(-1);
    for (let from = 0; from < n; ++from) {
      let node = 0;
      for (let at = from; at < n; ++at) {
        const place = this.#edges.find(node, piece[at]!);
        if (place < 0) break;
        node = this.#edges.into(place);
        if (this.#ids[node]! < 0) continue;
        const sum = this.#scores[node]! + score[from]!;
        if (id[at + 1]! >= 0 && sum <= score[at + 1]!) continue;
        score[at + 1] = sum;
        begins[at + 1] = from;
        id[at + 1] = this.#ids[node]!;
      }
    }
    const ids: number[] = [];
    for (let at = n; at > 0; at = begins[at]!) ids.push(id[at]!);
    return ids.reverse();
  }
}
