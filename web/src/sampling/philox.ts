/** Philox4x32-10 (specs/sampling.md, section 2): a random word for each token, from a counter and a key. */

const N_ROUNDS = 10;

// High and low 32 bits of a product of two unsigned words, in halves of 16 bits.
function product(a: number, b: number): [number, number] {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const low = a0 * b0;
  const middle = a1 * b0 + (low >>> 16);
  const cross = a0 * b1 + (middle % 0x10000);
  const high = a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000);
  return [high >>> 0, Math.imul(a, b) >>> 0];
}

export type Words = [number, number, number, number];

export function philox(counter: Words, key: readonly [number, number]): Words {
  let [a, b, c, d] = counter;
  let [k, m] = key;
  for (let round = 0; round < N_ROUNDS; ++round) {
    const [high0, low0] = product(a, 0xd2511f53);
    const [high1, low1] = product(c, 0xcd9e8d57);
    [a, b, c, d] = [(high1 ^ b ^ k) >>> 0, low1, (high0 ^ d ^ m) >>> 0, low0];
    k = (k + 0x9e3779b9) >>> 0;
    m = (m + 0xbb67ae85) >>> 0;
  }
  return [a, b, c, d];
}

/** The words of ascending token ids at one position of one sample: four neighbours share a counter. */
export function wordsOfTokens(
  ids: readonly number[],
  position: number,
  sample: number,
  seed: bigint,
): number[] {
  const key = [Number(seed & 0xffffffffn), Number(seed >> 32n)] as const;
  let block = -1;
  let words: Words = [0, 0, 0, 0];
  return ids.map((id) => {
    if (id >>> 2 !== block) {
      block = id >>> 2;
      words = philox([block, position >>> 0, sample >>> 0, 0], key);
    }
    return words[id & 3]!;
  });
}
