/** Calls of programs: their arguments, and a list of commands that is submitted at once. */

import { type Device } from "./device.ts";
import type { Operation } from "./shaders.ts";

// What an offset of a binding is a multiple of, on every adapter.
const ALIGNMENT = 256;

/**
 * The sizes that calls are given: those that never change, then those of the next submission. One buffer,
 * bound once; a call says where its own begin.
 */
export class Sizes {
  readonly #device: Device;
  readonly #words: Int32Array<ArrayBuffer>;
  readonly slot_bytes: number;
  readonly buffer: GPUBuffer;
  #n_fixed = 0;
  #n_used = 0;

  constructor(device: Device, n_slots: number, n_words: number) {
    this.#device = device;
    this.slot_bytes = ALIGNMENT * Math.ceil((4 * n_words) / ALIGNMENT);
    this.#words = new Int32Array((n_slots * this.slot_bytes) / 4);
    this.buffer = device.buffer(this.#words.byteLength);
  }

  #put(values: readonly number[]): number {
    const at = this.#n_used++ * this.slot_bytes;
    if (at + this.slot_bytes > this.#words.byteLength) throw new RangeError("too few slots for sizes");
    this.#words.set(values, at / 4);
    return at;
  }

  /** Sizes for good; returns their place. */
  fixed(values: readonly number[]): number {
    const at = this.#put(values);
    this.#n_fixed = this.#n_used;
    return at;
  }

  /** Sizes for the next submission alone. */
  moving(values: readonly number[]): number {
    return this.#put(values);
  }

  /** Give the sizes that do not change to the device. */
  writeFixed(): void {
    this.#device.write(this.buffer, 0, this.#words.subarray(0, (this.#n_fixed * this.slot_bytes) / 4));
  }

  /** Give the others to the device, and begin again. */
  writeMoving(): void {
    const [begin, end] = [this.#n_fixed, this.#n_used].map((n) => (n * this.slot_bytes) / 4) as [
      number,
      number,
    ];
    if (end > begin) this.#device.write(this.buffer, 4 * begin, this.#words.subarray(begin, end));
    this.#n_used = this.#n_fixed;
  }
}

/** A program with its buffers. */
export interface Bound {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

/** Bind buffers to a program, after the tables and the sizes. */
export function bind(device: Device, sizes: Sizes, operation: Operation, buffers: GPUBuffer[]): Bound {
  const { pipeline, layout } = device.programs[operation];
  const group = device.gpu.createBindGroup({
    layout,
    entries: [
      { binding: 0, resource: { buffer: device.tables } },
      { binding: 1, resource: { buffer: sizes.buffer, offset: 0, size: sizes.slot_bytes } },
      ...buffers.map((buffer, i) => ({ binding: i + 2, resource: { buffer } })),
    ],
  });
  return { pipeline, group };
}

/** Commands of one submission. */
export class Commands {
  readonly #device: Device;
  readonly #sizes: Sizes;
  readonly #encoder: GPUCommandEncoder;
  #pass: GPUComputePassEncoder | null = null;

  constructor(device: Device, sizes: Sizes) {
    device.check();
    this.#device = device;
    this.#sizes = sizes;
    this.#encoder = device.gpu.createCommandEncoder();
  }

  run({ pipeline, group }: Bound, sizesAt: number, x: number, y = 1, z = 1): void {
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group, [sizesAt]);
    this.#pass.dispatchWorkgroups(x, y, z);
    this.#device.counts.n_dispatches += 1;
  }

  copy(from: GPUBuffer, fromAt: number, to: GPUBuffer, toAt: number, n_bytes: number): void {
    this.#pass?.end();
    this.#pass = null;
    this.#encoder.copyBufferToBuffer(from, fromAt, to, toAt, n_bytes);
  }

  submit(): void {
    this.#pass?.end();
    this.#sizes.writeMoving();
    this.#device.gpu.queue.submit([this.#encoder.finish()]);
    this.#device.counts.n_submissions += 1;
  }
}
