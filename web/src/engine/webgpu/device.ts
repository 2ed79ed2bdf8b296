/**
 * A device for computing, and what can go wrong with it: no adapter, limits that are too small, no memory,
 * a device that is lost. Each is an `EngineError`, so that the session goes on with another engine.
 */

import { EngineError } from "../../core/errors.ts";
import { lawTables } from "../tables.ts";
import { isPackedFaster } from "./packed.ts";
import { compiled, GPU_USAGE, type Program } from "./pipeline.ts";
import { type Operation, programText, PROGRAMS } from "./shaders.ts";

export interface DeviceOptions {
  /** The default is `navigator.gpu`. */
  readonly gpu?: GPU;
  /** Whether `dot4I8Packed` is used; the default is where it is found faster. */
  readonly isPacked?: boolean;
  /** Changes the text of a program: for tests, which spoil one. */
  readonly edit?: (operation: Operation, text: string) => string;
}

const MAP_READ_MODE = 1;
const REMEDY = "the engine in WebAssembly gives the same answers";

export function gpuError(what: string): EngineError {
  return new EngineError(what, "WebGPU", REMEDY);
}

/** The limits that a model needs. A browser promises less than an adapter has, so they are asked for. */
export interface Needs {
  readonly n_buffer_bytes: number;
  readonly n_groups: number;
}

async function requested(gpu: GPU | undefined, needs: Needs): Promise<[GPUAdapter, GPUDevice]> {
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) throw gpuError("this browser gives no GPU adapter");
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } = adapter.limits;
  const most = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  if (needs.n_buffer_bytes > most)
    throw gpuError(`a buffer of ${needs.n_buffer_bytes} bytes is needed; the adapter has ${most}`);
  if (needs.n_groups > maxComputeWorkgroupsPerDimension)
    throw gpuError(
      `${needs.n_groups} workgroups are needed; the adapter has ${maxComputeWorkgroupsPerDimension}`,
    );
  try {
    const device = await adapter.requestDevice({
      requiredLimits: {
        maxBufferSize: Math.min(maxBufferSize, Math.max(needs.n_buffer_bytes, 2 ** 28)),
        maxStorageBufferBindingSize: Math.min(
          maxStorageBufferBindingSize,
          Math.max(needs.n_buffer_bytes, 2 ** 27),
        ),
      },
    });
    return [adapter, device];
  } catch (error) {
    throw gpuError(`the adapter gives no device: ${String(error)}`);
  }
}

/** What the device was asked for since it was made: what a step costs beside arithmetic. */
export interface Counts {
  n_dispatches: number;
  n_submissions: number;
  /** Bytes that went to the device, and those that were read from it. */
  n_bytes_written: number;
  n_bytes_read: number;
}

export class Device {
  readonly gpu: GPUDevice;
  readonly counts: Counts = { n_dispatches: 0, n_submissions: 0, n_bytes_written: 0, n_bytes_read: 0 };
  readonly isPacked: boolean;
  readonly description: string;
  readonly tables: GPUBuffer;
  readonly programs: Readonly<Record<Operation, Program>>;
  n_bytes = 0;
  #failure = "";

  private constructor(gpu: GPUDevice, adapter: GPUAdapter, isPacked: boolean, programs: Device["programs"]) {
    this.gpu = gpu;
    this.isPacked = isPacked;
    this.programs = programs;
    const { vendor, architecture, description } = adapter.info;
    this.description = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
    void gpu.lost.then(({ message }) => (this.#failure ||= `the device was lost: ${message}`));
    gpu.addEventListener("uncapturederror", (event) => {
      this.#failure ||= (event as GPUUncapturedErrorEvent).error.message;
    });
    const { exp2, sigmoid, rsqrt } = lawTables();
    this.tables = this.filled(new Uint32Array([...exp2, ...sigmoid, ...rsqrt]));
  }

  static async make(needs: Needs, options: DeviceOptions): Promise<Device> {
    const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
    const [adapter, device] = await requested(gpu, needs);
    const has = gpu!.wgslLanguageFeatures?.has("packed_4x8_integer_dot_product") ?? false;
    try {
      const isPacked = options.isPacked ?? (has && (await isPackedFaster(device)));
      const made = await Promise.all(
        (Object.keys(PROGRAMS) as Operation[]).map(async (operation) => {
          const text = programText(operation, isPacked);
          return [operation, await compiled(device, operation, options.edit?.(operation, text) ?? text)];
        }),
      );
      return new Device(device, adapter, isPacked, Object.fromEntries(made) as Device["programs"]);
    } catch (error) {
      device.destroy();
      throw gpuError(`a program does not compile: ${String(error)}`);
    }
  }

  /** Throws an `EngineError` when the device is gone, or refused something. */
  check(): void {
    if (this.#failure) throw gpuError(this.#failure);
  }

  buffer(n_bytes: number, usage: number = GPU_USAGE.STORAGE): GPUBuffer {
    this.check();
    const size = Math.max(16, Math.ceil(n_bytes / 4) * 4);
    this.n_bytes += size;
    const { STORAGE, COPY_SRC, COPY_DST } = GPU_USAGE;
    const whole = usage === STORAGE ? STORAGE | COPY_SRC | COPY_DST : usage;
    return this.gpu.createBuffer({ size, usage: whole });
  }

  /** A buffer with values in it. */
  filled(values: Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.buffer(values.byteLength);
    this.write(buffer, 0, values);
    return buffer;
  }

  /** Give values to a buffer, from a byte of it on. */
  write(buffer: GPUBuffer, at: number, values: Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer>): void {
    this.gpu.queue.writeBuffer(buffer, at, values);
    this.counts.n_bytes_written += values.byteLength;
  }

  give(buffer: GPUBuffer): void {
    this.n_bytes -= buffer.size;
    buffer.destroy();
  }

  /** Run what makes buffers; memory that is not there is an `EngineError`. */
  async allocated<T>(run: () => T): Promise<T> {
    this.gpu.pushErrorScope("out-of-memory");
    const made = run();
    const error = await this.gpu.popErrorScope().catch(() => null);
    this.check();
    if (error) throw gpuError(`no memory on the GPU: ${error.message}`);
    return made;
  }

  /** The first bytes of a buffer that can be mapped, after all that was submitted. */
  async read(staging: GPUBuffer, n_bytes: number): Promise<ArrayBuffer> {
    this.check();
    try {
      await staging.mapAsync(MAP_READ_MODE, 0, n_bytes);
    } catch (error) {
      this.check();
      throw gpuError(`the device was lost: ${String(error)}`);
    }
    this.counts.n_bytes_read += n_bytes;
    const found = staging.getMappedRange(0, n_bytes).slice(0);
    staging.unmap();
    // A refused command may have left old values there.
    this.check();
    return found;
  }
}
