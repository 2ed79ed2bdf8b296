/**
 * SHA-256 (FIPS 180-4) without a wait: the reader is synchronous.
 *
 * The engine's module has a faster one (engine/wasm/module.ts). Both are a `Sha256`.
 */

import { type Bytes, utf8 } from "./bytes.ts";

/** Returns the 32 bytes of the digest. */
export type Sha256 = (bytes: Bytes) => Bytes;

// The first 32 bits of the fractions of cube and square roots of primes.
function fractions(n: number, root: number): Uint32Array {
  const found = new Uint32Array(n);
  for (let candidate = 2, i = 0; i < n; ++candidate) {
    let prime = true;
    for (let d = 2; d * d <= candidate; ++d) prime &&= candidate % d !== 0;
    if (prime) found[i++] = exactFraction(candidate, root);
  }
  return found;
}

// floor(frac(p^(1/root)) * 2^32) in whole numbers, because the last bit of a float may be wrong.
function exactFraction(p: number, root: number): number {
  const wanted = BigInt(p) << BigInt(32 * root);
  let low = 0n;
  let high = BigInt(p) << 32n;
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** BigInt(root) <= wanted) low = middle;
    else high = middle;
  }
  return Number(low & 0xffffffffn);
}

const START = fractions(8, 2);
const ROUND = fractions(64, 3);

function block(state: Uint32Array, data: Bytes, at: number, w: Uint32Array): void {
  for (let t = 0; t < 16; ++t, at += 4)
    w[t] = (data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!;
  for (let t = 16; t < 64; ++t) {
    const x = w[t - 15]!;
    const y = w[t - 2]!;
    const low = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const high = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[t] = (w[t - 16]! + low + w[t - 7]! + high) | 0;
  }
  // Not taken apart by `[a, ...] = state`, which asks an iterator.
  let a = state[0]!;
  let b = state[1]!;
  let c = state[2]!;
  let d = state[3]!;
  let e = state[4]!;
  let f = state[5]!;
  let g = state[6]!;
  let h = state[7]!;
  for (let t = 0; t < 64; ++t) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[t]! + w[t]!) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  state[0]! += a;
  state[1]! += b;
  state[2]! += c;
  state[3]! += d;
  state[4]! += e;
  state[5]! += f;
  state[6]! += g;
  state[7]! += h;
}

/** A digest of data that comes in pieces. */
export interface Hashing {
  add(bytes: Bytes): void;
  digest(): Bytes;
}

/** Starts a `Hashing`. */
export type StartHash = () => Hashing;

class PlainHashing implements Hashing {
  #state = START.slice();
  #words = new Uint32Array(64);
  #held = new Uint8Array(64);
  #n = 0;

  add(bytes: Bytes): void {
    const n_held = this.#n % 64;
    this.#n += bytes.length;
    let at = 0;
    if (n_held > 0) {
      at = Math.min(64 - n_held, bytes.length);
      this.#held.set(bytes.subarray(0, at), n_held);
      if (n_held + at < 64) return;
      block(this.#state, this.#held, 0, this.#words);
    }
    for (; at + 64 <= bytes.length; at += 64) block(this.#state, bytes, at, this.#words);
    this.#held.set(bytes.subarray(at));
  }

  digest(): Bytes {
    const n_bytes = this.#n;
    const tail = new Uint8Array(n_bytes % 64 < 56 ? 64 - (n_bytes % 64) : 128 - (n_bytes % 64));
    tail[0] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(tail.length - 8, Math.floor(n_bytes / 0x20000000));
    view.setUint32(tail.length - 4, (n_bytes << 3) >>> 0);
    this.add(tail);
    const found = new Uint8Array(32);
    const out = new DataView(found.buffer);
    this.#state.forEach((word, i) => out.setUint32(4 * i, word));
    return found;
  }
}

export const startHash: StartHash = () => new PlainHashing();

export function sha256(bytes: Bytes): Bytes {
  const hashing = startHash();
  hashing.add(bytes);
  return hashing.digest();
}

/** D(tag, parts...) of specs/verification.md: each part behind its length as u64. */
export function taggedDigest(tag: string, ...parts: readonly (string | Bytes)[]): Bytes {
  const hashing = startHash();
  for (const part of [tag, ...parts]) {
    const bytes = typeof part === "string" ? utf8(part) : part;
    const length = new Uint8Array(8);
    new DataView(length.buffer).setUint32(4, bytes.length);
    hashing.add(length);
    hashing.add(bytes);
  }
  return hashing.digest();
}
