/** The buffers that calls pass values in. One set serves all sessions, since calls never overlap. */

import type { ModelShape, ModelWeights } from "../weights.ts";
import type { Device } from "./device.ts";
import { uploadTurns, wordsOf } from "./upload.ts";

/** Greedy steps of one submission. */
export const STEPS = 8;
const MOST_TOKENS = 64;
const SCORE_BYTES = 2 ** 25;
const HEAD_BYTES = 2 ** 23;

/** How many tokens one submission reads, so that their scores fit. */
export function blockTokens(shape: ModelShape): number {
  return Math.max(1, Math.min(MOST_TOKENS, Math.floor(SCORE_BYTES / (4 * shape.n_heads * shape.context))));
}

/** How many rows of logits are held. */
export function headRows(shape: ModelShape): number {
  return Math.max(1, Math.min(MOST_TOKENS, Math.floor(HEAD_BYTES / (4 * shape.vocab_size))));
}

/** Bytes of the largest of these buffers. */
export function scratchBytes(shape: ModelShape): number {
  const d_ffn = Math.max(shape.d_ffn, shape.stack_d_ffn);
  return (
    4 *
    Math.max(
      blockTokens(shape) * shape.n_heads * shape.context,
      headRows(shape) * shape.vocab_size,
      MOST_TOKENS * Math.max(d_ffn, shape.d_model, shape.n_heads * shape.head_dim),
    )
  );
}

export class Scratch {
  readonly n_rows = MOST_TOKENS;
  readonly ids: GPUBuffer;
  readonly chosen: GPUBuffer;
  readonly history: GPUBuffer;
  readonly experts: GPUBuffer;
  /** The expert of each token where there is one. */
  readonly none: GPUBuffer;
  readonly turns: GPUBuffer;
  readonly x: GPUBuffer;
  readonly codes: GPUBuffer;
  readonly scales: GPUBuffer;
  readonly q: GPUBuffer;
  readonly k: GPUBuffer;
  readonly v: GPUBuffer;
  readonly qCodes: GPUBuffer;
  readonly qScales: GPUBuffer;
  readonly scores: GPUBuffer;
  readonly totals: GPUBuffer;
  readonly lowest: GPUBuffer;
  readonly o: GPUBuffer;
  readonly joined: GPUBuffer;
  readonly joinedScales: GPUBuffer;
  readonly back: GPUBuffer;
  readonly gate: GPUBuffer;
  readonly up: GPUBuffer;
  readonly hidden: GPUBuffer;
  readonly hiddenScales: GPUBuffer;
  readonly headCodes: GPUBuffer;
  readonly headScales: GPUBuffer;
  readonly headSums: GPUBuffer;
  readonly logits: GPUBuffer;

  constructor(device: Device, weights: ModelWeights) {
    const { shape } = weights;
    const n = MOST_TOKENS;
    const words = (n_words: number): GPUBuffer => device.buffer(4 * n_words);
    const { d_model, n_heads, n_kv_heads, head_dim, vocab_size } = shape;
    const d_ffn = Math.max(shape.d_ffn, shape.stack_d_ffn);
    [this.ids, this.experts, this.none] = [words(n), words(n), words(n)];
    [this.chosen, this.history] = [words(n), words(STEPS)];
    this.turns = uploadTurns(device, weights.cos_sin);
    [this.x, this.back] = [words(n * d_model), words(n * d_model)];
    [this.codes, this.headCodes] = [words(n * wordsOf(d_model)), words(n * wordsOf(d_model))];
    [this.scales, this.headScales] = [words(2 * n), words(2 * n)];
    [this.q, this.o] = [words(n * n_heads * head_dim), words(n * n_heads * head_dim)];
    [this.k, this.v] = [words(n * n_kv_heads * head_dim), words(n * n_kv_heads * head_dim)];
    [this.qCodes, this.qScales] = [words(n * n_heads * wordsOf(head_dim)), words(2 * n * n_heads)];
    this.scores = words(blockTokens(shape) * n_heads * shape.context);
    [this.totals, this.lowest] = [words(n * n_heads), words(n * n_heads)];
    [this.joined, this.joinedScales] = [words(n * wordsOf(n_heads * head_dim)), words(2 * n)];
    [this.gate, this.up] = [words(n * d_ffn), words(n * d_ffn)];
    [this.hidden, this.hiddenScales] = [words(n * wordsOf(d_ffn)), words(2 * n)];
    const n_logits = headRows(shape) * vocab_size;
    [this.headSums, this.logits] = [words(n_logits), words(n_logits)];
  }
}
