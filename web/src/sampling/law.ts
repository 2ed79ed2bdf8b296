/**
 * The sampling law (specs/sampling.md): from integer logits to a token, in integers. A draw depends on
 * the logits of its row, the law, the seed, the position and the number of the sample, and on nothing else.
 */

import { UsageError } from "../core/errors.ts";
import { argmax } from "../engine/golden.ts";
import { between, samplingTables } from "./tables.ts";
import { wordsOfTokens } from "./philox.ts";

export const LAW_VERSION = 1;
const SCORE_BITS = 20;
const ONE = 2 ** SCORE_BITS;
const WEIGHT_ONE = 2 ** 24;
const MAX_DISTANCE = 2 ** 30;
const MAX_TERM = 65535;
const MAX_SEED = 2n ** 64n - 1n;

/** A fraction of two whole numbers. */
export type Ratio = readonly [number, number];

/** floor(a / 2^s + 1/2) for a product below 2^53. */
export function rshift(a: number, s: number): number {
  return Math.floor(a / 2 ** s + 0.5);
}

/** LOG2(n), 1 <= n < 2^33, with 20 fraction bits. */
export function log2(n: number): number {
  // Exact: a double holds n, and its exponent is the number of bits.
  const k = n >= 2 ** 32 ? 32 : 31 - Math.clz32(n);
  const f = Math.floor((n * 2 ** (33 - k) - 2 ** 33) / 2 ** 9);
  return k * ONE + between(samplingTables().log2, Math.floor(f / 2 ** 16), f % 2 ** 16, 16);
}

/** 2^(24 - distance) for a distance in score units. */
export function weight(distance: number): number {
  const f = distance % ONE;
  const value = between(samplingTables().exp2, Math.floor(f / 2 ** 12), f % 2 ** 12, 12);
  return rshift(value, Math.min(Math.floor(distance / ONE), 31));
}

/** A Gumbel variate of a random word, in score units. */
export function gumbel(word: number): number {
  if (word < 2 ** 31) return 20 * ONE - log2(33 * ONE - log2(2 * word + 1));
  const c = 2 ** 32 - 1 - word;
  const ratio = between(
    samplingTables().ratio,
    Math.floor(c / 2 ** 23),
    Math.floor(c / 2 ** 7) % 2 ** 16,
    16,
  );
  return 33 * ONE - log2(2 * c + 1) - ratio;
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}

/** A decimal text as a fraction in lowest terms: "0.8" is 4/5. */
export function parseRatio(text: string, what: string, most: number): Ratio {
  if (!/^[0-9]{1,5}(\.[0-9]{1,5})?$/.test(text))
    throw new UsageError(`${text.slice(0, 40)} is not a number`, what, "use a number such as 0.8");
  const places = text.split(".")[1]?.length ?? 0;
  const denominator = 10 ** places;
  const numerator = Math.round(Number(text) * denominator);
  const divisor = greatestDivisor(numerator, denominator);
  const ratio: Ratio = [numerator / divisor, denominator / divisor];
  if (ratio[0] > most * ratio[1] || Math.max(...ratio) > MAX_TERM)
    throw new UsageError(
      `${text} is outside 0 to ${most}, or no fraction of two numbers up to ${MAX_TERM}`,
      what,
      "use fewer decimal places",
    );
  return ratio;
}

export interface LawFields {
  readonly temperature?: Ratio;
  readonly top_k?: number;
  readonly min_p?: Ratio;
  readonly top_p?: Ratio;
  readonly seed?: bigint;
}

/** How a token is chosen. The default is greedy. */
export class SamplingLaw {
  readonly temperature: Ratio;
  readonly top_k: number;
  readonly min_p: Ratio;
  readonly top_p: Ratio;
  readonly seed: bigint;
  readonly #multiplier: readonly [number, number];

  constructor(fields: LawFields = {}) {
    this.temperature = fields.temperature ?? [0, 1];
    this.top_k = fields.top_k ?? 0;
    this.min_p = fields.min_p ?? [0, 1];
    this.top_p = fields.top_p ?? [1, 1];
    this.seed = fields.seed ?? 0n;
    const isTerm = (term: number, least: number): boolean =>
      Number.isInteger(term) && term >= least && term <= MAX_TERM;
    for (const [name, [a, b]] of Object.entries({
      temperature: this.temperature,
      "min-p": this.min_p,
      "top-p": this.top_p,
    }))
      if (!isTerm(a, 0) || !isTerm(b, 1) || (name !== "temperature" && a > b))
        throw new UsageError(`${a}/${b}`, name, "use a fraction of the law (specs/sampling.md)");
    if (this.top_p[0] === 0 || !Number.isInteger(this.top_k) || this.top_k < 0)
      throw new UsageError(
        `top-p ${this.top_p.join("/")}, top-k ${this.top_k}`,
        "sampling",
        "top-p is above 0, top-k 0 or more",
      );
    if (this.seed < 0n || this.seed > MAX_SEED)
      throw new UsageError(`seed ${this.seed}`, "seed", "use 0 to 2^64 - 1");
    this.#multiplier = this.isGreedy ? [0, 0] : multiplierOf(this.temperature);
  }

  get isGreedy(): boolean {
    return this.temperature[0] === 0;
  }

  /**
   * The next token. `position` is the number of ids before it, those of the prompt included; `sample`
   * its number, when one prompt has several.
   */
  choose(logits: Int32Array, position: number, sample = 0): number {
    if (this.isGreedy) return argmax(logits);
    const { ids, distances } = this.#kept(logits);
    const words = wordsOfTokens(ids, position, sample, this.seed);
    let best = 0;
    let most = -Infinity;
    for (let i = 0; i < ids.length; ++i) {
      const score = gumbel(words[i]!) - distances[ids[i]!]!;
      // Ids ascend, so of equals the lowest stays.
      if (score > most) [most, best] = [score, ids[i]!];
    }
    return best;
  }

  // The ids that may be drawn, ascending, and the distance of every token from the most likely one.
  #kept(logits: Int32Array): { ids: number[]; distances: Float64Array } {
    const [m, s] = this.#multiplier;
    const largest = logits.reduce((most, logit) => Math.max(most, logit), -Infinity);
    const gaps = Float64Array.from(logits, (logit) => Math.min(largest - logit, 2 ** 31 - 1));
    const distances = gaps.map((gap) => Math.min(rshift(gap * m, s), MAX_DISTANCE));
    let ids = Array.from(logits, (_, id) => id);
    const [a, b] = this.top_p;
    // Most likely first, the lower id before its equals: sorting is stable.
    if (this.top_k > 0 || a < b) ids.sort((left, right) => gaps[left]! - gaps[right]!);
    if (this.top_k > 0) ids = ids.slice(0, this.top_k);
    const [least, whole] = this.min_p;
    if (least > 0) ids = ids.filter((id) => weight(distances[id]!) * whole >= least * WEIGHT_ONE);
    if (a < b) {
      const sum = ids.reduce((total, id) => total + weight(distances[id]!), 0);
      let soFar = 0;
      // Products pass 2^53.
      const wanted = BigInt(sum) * BigInt(a);
      const reached = ids.findIndex((id) => {
        soFar += weight(distances[id]!);
        return BigInt(soFar) * BigInt(b) >= wanted;
      });
      ids = ids.slice(0, reached + 1);
    }
    return { ids: ids.sort((left, right) => left - right), distances };
  }
}

export const GREEDY = new SamplingLaw();

// 2^4 * log2(e), with 200 fraction bits: enough that no fraction of the law lies in doubt of a half.
const FRACTION = 200n;
const LOG2_E_16 = log2OfE(FRACTION) << 4n;

// log2(e) = 1 / ln 2, and ln 2 = sum of 1 / (n 2^n), in whole numbers.
function log2OfE(bits: bigint): bigint {
  const guard = 40n;
  let sum = 0n;
  for (let n = 1n; n < bits + guard; ++n) sum += (1n << (bits + guard - n)) / n;
  return (1n << (2n * bits + guard)) / sum;
}

/** (m, s), 2^15 <= m < 2^16: m / 2^s score units for each unit of a logit, over the temperature. */
export function multiplierOf([n, d]: Ratio): readonly [number, number] {
  const exact = (LOG2_E_16 * BigInt(d)) / BigInt(n);
  // The value is exact / 2^200; m = value * 2^s, rounded half up.
  const s = 16 - (exact.toString(2).length - Number(FRACTION));
  const shift = FRACTION - BigInt(s) - 1n;
  const m = Number(((exact >> shift) + 1n) >> 1n);
  return m === 2 ** 16 ? [2 ** 15, s - 1] : [m, s];
}
