/** FIELD records: names, shapes and places of the tensors. Their data is passed over. */

import { type Bytes, bigEndian } from "../core/bytes.ts";
import { ArtifactError, type Cause, printable } from "../core/errors.ts";
import { type Lane, payloadOffset, whereOf } from "./frames.ts";
import * as layout from "./layout.ts";
import type { ByteSource } from "./source.ts";

export interface TensorRecord {
  readonly name: string;
  readonly dims: readonly number[];
  readonly scale: number;
  /** Offsets in the file: of the record, and of its data. */
  readonly start: number;
  readonly offset: number;
  readonly n_values: number;
}

const PAD_TO = 32;
// A head is at most this long: name, rank, dims and scale.
const MAX_HEAD_BYTES = 2 + layout.MAX_NAME_BYTES + 1 + 4 * layout.MAX_RANK + 4;

// A position in one FIELD lane that can never leave it.
class Cursor {
  readonly #source: ByteSource;
  readonly #lane: Lane;
  readonly #end: number;
  #at: number;
  #start = 0;
  #window: Bytes = new Uint8Array(0);
  #window_at = 0;

  constructor(source: ByteSource, lane: Lane) {
    this.#source = source;
    this.#lane = lane;
    this.#at = payloadOffset(lane);
    this.#end = this.#at + lane.n_bytes;
  }

  get isDone(): boolean {
    return this.#at === this.#end;
  }

  refuse(cause: Cause, what: string): never {
    throw new ArtifactError(cause, what, `${whereOf(this.#lane)}, record at offset ${this.#start}`);
  }

  // Pass over `n` bytes; returns where they began.
  #skip(n: number, what: string): number {
    if (n > this.#end - this.#at) this.refuse("TruncatedRecordError", `${what} passes the end of the lane`);
    const begin = this.#at;
    this.#at += n;
    return begin;
  }

  #take(n: number, what: string): Bytes {
    const begin = this.#skip(n, what);
    if (begin < this.#window_at || begin + n > this.#window_at + this.#window.length) {
      const size = Math.min(Math.max(n, MAX_HEAD_BYTES), this.#end - begin);
      this.#window = this.#source.read(begin, size);
      this.#window_at = begin;
    }
    return this.#window.subarray(begin - this.#window_at, begin - this.#window_at + n);
  }

  next(isPadded: boolean): TensorRecord {
    this.#start = this.#at;
    const start = this.#at;
    const name = this.#name();
    const dims = this.#dims();
    const raw = this.#take(4, "its scale");
    const scale = new DataView(raw.buffer, raw.byteOffset, 4).getFloat32(0);
    // A product past 2^53 is rounded, and far past any lane.
    const n_values = dims.reduce((product, dim) => product * dim, 1);
    const offset = this.#skip(n_values, "its data");
    const n_padding = isPadded ? (PAD_TO - (n_values % PAD_TO)) % PAD_TO : 0;
    if (this.#take(n_padding, "its padding").some((byte) => byte !== 0))
      this.refuse("PaddingError", "its padding is not all zero");
    return { name, dims, scale, start, offset, n_values };
  }

  #name(): string {
    const length = bigEndian(this.#take(2, "the length of its name"), 0, 2);
    if (length < 1 || length > layout.MAX_NAME_BYTES)
      this.refuse("TensorNameError", `a name of ${length} bytes, allowed are 1 to ${layout.MAX_NAME_BYTES}`);
    let name = "";
    for (const byte of this.#take(length, "its name")) {
      if (byte < 0x21 || byte > 0x7e || byte === 0x2f || byte === 0x5c)
        this.refuse("TensorNameError", "a name holds a character that is not printable ASCII, or a slash");
      name += String.fromCharCode(byte);
    }
    if (name === "." || name === "..") this.refuse("TensorNameError", "a name is . or ..");
    return name;
  }

  #dims(): number[] {
    const rank = this.#take(1, "its rank")[0]!;
    if (rank < 1 || rank > layout.MAX_RANK) this.refuse("RankError", `rank ${rank}, allowed are 1 to 8`);
    const raw = this.#take(4 * rank, "its shape");
    const dims = Array.from({ length: rank }, (_, i) => bigEndian(raw, 4 * i, 4));
    if (dims.includes(0)) this.refuse("DimensionError", "a dimension is zero");
    return dims;
  }
}

/** All records, in file order. */
export function readRecords(
  source: ByteSource,
  lanes: readonly Lane[],
  isPadded: boolean,
): Map<string, TensorRecord> {
  const records = new Map<string, TensorRecord>();
  const limit = layout.maxTensors(source.n_bytes);
  const fields = lanes.filter((lane) => lane.id === layout.FIELD);
  for (const lane of fields) {
    const cursor = new Cursor(source, lane);
    while (!cursor.isDone) {
      const record = cursor.next(isPadded);
      if (records.has(record.name))
        cursor.refuse("DuplicateTensorError", `tensor '${printable(record.name)}' is there twice`);
      if (records.size >= limit)
        cursor.refuse("LimitError", `more than the ${limit} tensors that a file of this size may hold`);
      records.set(record.name, record);
    }
  }
  const missing = layout.REQUIRED_TENSORS.find((name) => !records.has(name));
  const last = fields[fields.length - 1];
  if (last && missing) throw new ArtifactError("MissingTensorError", `no tensor '${missing}'`, whereOf(last));
  return records;
}
