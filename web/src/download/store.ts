/** Where a download is kept. A chunk is there exactly when its bytes hash right: no other state is kept. */

import { type ByteSource, MemorySource } from "../artifact/source.ts";
import type { Bytes } from "../core/bytes.ts";

/** A file of a fixed length that is written at places; zeros where nothing was written. */
export interface StoredFile extends ByteSource {
  write(offset: number, bytes: Bytes): void;
  /** Bytes written so far survive the program. */
  flush(): void;
}

export interface Store {
  /** The file of a name, made where it is not there. Throws a `StorageError` that names the bytes needed. */
  open(name: string, n_bytes: number): Promise<StoredFile>;
  /** The whole file for reading, by as many programs as want to. */
  source(name: string): Promise<ByteSource>;
  remove(name: string): Promise<void>;
  /** Run while no other tab or worker runs for the name. */
  lock<T>(name: string, run: () => Promise<T>): Promise<T>;
}

class MemoryFile extends MemorySource implements StoredFile {
  readonly #bytes: Bytes;

  constructor(bytes: Bytes) {
    super(bytes);
    this.#bytes = bytes;
  }

  write(offset: number, bytes: Bytes): void {
    this.#bytes.set(bytes, offset);
  }

  flush(): void {}
}

/** Keeps files in memory: for programs without OPFS, and for tests. */
export class MemoryStore implements Store {
  readonly #files = new Map<string, Bytes>();
  readonly #locks = new Map<string, Promise<unknown>>();

  async open(name: string, n_bytes: number): Promise<StoredFile> {
    const kept = this.#files.get(name);
    const bytes = kept?.length === n_bytes ? kept : new Uint8Array(n_bytes);
    this.#files.set(name, bytes);
    return new MemoryFile(bytes);
  }

  async source(name: string): Promise<ByteSource> {
    return new MemorySource(this.#files.get(name) ?? new Uint8Array(0));
  }

  async remove(name: string): Promise<void> {
    this.#files.delete(name);
  }

  async lock<T>(name: string, run: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve();
    const turn = before.then(run, run);
    this.#locks.set(
      name,
      turn.catch(() => {}),
    );
    return turn;
  }
}
