/**
 * Where the bytes of a file are: in memory, behind a handle of OPFS in a worker, or in a file of
 * Node.js. Reading is synchronous; whoever has bytes that come later stores them first (download/).
 */

import type { Bytes } from "../core/bytes.ts";
import { StorageError } from "../core/errors.ts";
import type { Hashing } from "../core/sha256.ts";

export interface ByteSource {
  readonly n_bytes: number;
  /** Exactly `n` bytes at `offset`, which lie within the file. They are read before the next call. */
  read(offset: number, n: number): Bytes;
  close(): void;
}

export class MemorySource implements ByteSource {
  readonly n_bytes: number;
  readonly #bytes: Bytes;

  constructor(bytes: Bytes | ArrayBuffer) {
    this.#bytes = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
    this.n_bytes = this.#bytes.length;
  }

  read(offset: number, n: number): Bytes {
    return this.#bytes.subarray(offset, offset + n);
  }

  close(): void {}
}

/** A handle that reads into a buffer, as `FileSystemSyncAccessHandle` and `fs.readSync` do. */
export type ReadInto = (to: Bytes, offset: number) => number;

export class HandleSource implements ByteSource {
  readonly n_bytes: number;
  readonly #readInto: ReadInto;
  readonly #onClose: () => void;

  constructor(n_bytes: number, readInto: ReadInto, onClose: () => void = () => {}) {
    this.n_bytes = n_bytes;
    this.#readInto = readInto;
    this.#onClose = onClose;
  }

  read(offset: number, n: number): Bytes {
    const to = new Uint8Array(n);
    for (let done = 0; done < n;) {
      const got = this.#readInto(to.subarray(done), offset + done);
      if (got <= 0)
        throw new StorageError(`the file ends before byte ${offset + n}`, "", "it was cut while it was open");
      done += got;
    }
    return to;
  }

  close(): void {
    this.#onClose();
  }
}

const PIECE_BYTES = 2 ** 20;

/** Add a range of a source to a hash, a piece at a time. */
export function hashRange(source: ByteSource, offset: number, n: number, hashing: Hashing): void {
  for (let done = 0; done < n; done += PIECE_BYTES)
    hashing.add(source.read(offset + done, Math.min(PIECE_BYTES, n - done)));
}
