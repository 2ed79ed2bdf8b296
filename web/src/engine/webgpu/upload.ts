/** Puts what an engine reads of a file into buffers of a device. */

import type { Bytes } from "../../core/bytes.ts";
import { ArtifactError } from "../../core/errors.ts";
import type { Linear, ModelWeights, Norm } from "../weights.ts";
import type { Device, Needs } from "./device.ts";

/** One projection, or those of all experts, one behind the other. */
export interface GpuLinear {
  readonly n_in: number;
  readonly n_out: number;
  /** Four codes to a word, rows padded to whole words. */
  readonly codes: GPUBuffer;
  /** Row multiplier << 16 | shift. */
  readonly rows: GPUBuffer;
  readonly exponents: readonly number[];
}

const NOT_A_CODE = 0x80;
export const wordsOf = (n_codes: number): number => Math.ceil(n_codes / 4);

function checkedCodes(linear: Linear): Bytes {
  const codes = linear.codes();
  if (codes.includes(NOT_A_CODE))
    throw new ArtifactError("GraphError", "-128 is no code", linear.name, "seal the model again");
  return codes;
}

// Rows that fill whole words.
function padded(codes: Bytes, n_out: number, n_in: number): Bytes {
  if (n_in % 4 === 0) return codes;
  const width = 4 * wordsOf(n_in);
  const found = new Uint8Array(n_out * width);
  for (let o = 0; o < n_out; ++o) found.set(codes.subarray(o * n_in, (o + 1) * n_in), o * width);
  return found;
}

/** Upload projections of one shape; each is read from the file, written, and forgotten. */
export function uploadLinear(device: Device, experts: readonly Linear[]): GpuLinear {
  const { n_in, n_out } = experts[0]!;
  const n_bytes = 4 * wordsOf(n_in) * n_out;
  const codes = device.buffer(n_bytes * experts.length);
  const rows = new Uint32Array(n_out * experts.length);
  for (const [e, expert] of experts.entries()) {
    device.gpu.queue.writeBuffer(codes, e * n_bytes, padded(checkedCodes(expert), n_out, n_in));
    for (let o = 0; o < n_out; ++o) rows[e * n_out + o] = (expert.row_m[o]! << 16) | expert.row_s[o]!;
  }
  const exponents = experts.map((expert) => expert.exponent);
  return { n_in, n_out, codes, rows: device.filled(rows), exponents };
}

export function uploadGain(device: Device, norm: Norm): GPUBuffer {
  return device.filled(Int32Array.from(norm.gain));
}

/** The sizes of RMS_NORM: width, exponent, and norm_eps in two words. */
export function normSizes(norm: Norm): number[] {
  return [norm.gain.length, norm.exponent, Math.floor(norm.eps / 2 ** 32), (norm.eps % 2 ** 32) | 0];
}

/** Cosine << 16 | sine, for each position and pair. */
export function uploadTurns(device: Device, cos_sin: Int16Array): GPUBuffer {
  const turns = Uint32Array.from(
    { length: cos_sin.length / 2 },
    (_, i) => (cos_sin[2 * i]! << 16) | (cos_sin[2 * i + 1]! & 0xffff),
  );
  return device.filled(turns);
}

/** What a model asks of an adapter: its largest buffer, and its widest dispatch. */
export function needsOf(weights: ModelWeights, n_scratch_bytes: number): Needs {
  const { layers, stacks, embedding, head, cos_sin } = weights;
  const linears = [embedding, head];
  let n_buffer_bytes = Math.max(n_scratch_bytes, 2 * cos_sin.length);
  for (const layer of [...layers, ...stacks]) {
    linears.push(layer.q, layer.k, layer.v, layer.o);
    for (const part of ["gate", "up", "down"] as const) {
      const own = layer.experts.map((expert) => expert[part]);
      const n_bytes = own.reduce((sum, linear) => sum + 4 * wordsOf(linear.n_in) * linear.n_out, 0);
      n_buffer_bytes = Math.max(n_buffer_bytes, n_bytes);
      linears.push(own[0]!);
    }
  }
  for (const { n_in, n_out } of linears)
    n_buffer_bytes = Math.max(n_buffer_bytes, 4 * wordsOf(n_in) * n_out, 4 * n_out);
  return { n_buffer_bytes, n_groups: Math.max(...linears.map(({ n_out }) => Math.ceil(n_out / 8))) };
}
