/** Keeps downloads in the page's own file system (OPFS). Only a worker may write there. */

import { type ByteSource, HandleSource, MemorySource } from "../artifact/source.ts";
import { type Bytes, equalBytes } from "../core/bytes.ts";
import { StorageError } from "../core/errors.ts";
import type { Store, StoredFile } from "./store.ts";

const FOLDER = "sevenfold";

/** `FileSystemSyncAccessHandle`, which types of pages do not have. */
interface SyncHandle {
  read(to: Bytes, options: { at: number }): number;
  write(from: Bytes, options: { at: number }): number;
  truncate(n_bytes: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

type FileHandle = FileSystemFileHandle & {
  createSyncAccessHandle?(options?: { mode: string }): Promise<SyncHandle>;
};

// What the browser still grants; null where it does not say.
async function bytesLeft(): Promise<number | null> {
  const { quota, usage } = (await navigator.storage.estimate?.()) ?? {};
  return quota === undefined || usage === undefined ? null : quota - usage;
}

function quotaError(wanted: number, left: number | null): StorageError {
  const has = left === null || left >= wanted ? "" : `, the browser grants ${left}`;
  return new StorageError(`no room for ${wanted} bytes${has}`, "storage", "free space on this device");
}

class OpfsFile extends HandleSource implements StoredFile {
  readonly #handle: SyncHandle;

  constructor(handle: SyncHandle, n_bytes: number) {
    super(
      n_bytes,
      (to, at) => handle.read(to, { at }),
      () => handle.close(),
    );
    this.#handle = handle;
  }

  write(offset: number, bytes: Bytes): void {
    let done = 0;
    try {
      done = this.#handle.write(bytes, { at: offset });
    } catch (error) {
      throw (error as Error).name === "QuotaExceededError" ? quotaError(bytes.length, null) : error;
    }
    if (done !== bytes.length) throw quotaError(bytes.length - done, null);
  }

  flush(): void {
    this.#handle.flush();
  }
}

// A file that another tab reads: it is whole, so nothing has to be written.
class ReadOnlyFile extends OpfsFile {
  override write(offset: number, bytes: Bytes): void {
    if (!equalBytes(this.read(offset, bytes.length), bytes))
      throw new StorageError(
        "another tab reads the file",
        "storage",
        "close it there, and open it here again",
      );
  }

  override flush(): void {}
}

/** A file that this site keeps. Parts of it may be missing: opening it fetches them. */
export interface KeptModel {
  readonly root: string;
  readonly n_bytes: number;
}

/** What this site keeps on this device. A page may ask, not only a worker. */
export async function keptModels(): Promise<KeptModel[]> {
  const top = await navigator.storage?.getDirectory?.();
  if (!top) return [];
  const folder = await top.getDirectoryHandle(FOLDER, { create: true });
  const found: KeptModel[] = [];
  for await (const [root, handle] of folder.entries())
    if (handle.kind === "file")
      found.push({ root, n_bytes: (await (handle as FileSystemFileHandle).getFile()).size });
  return found.sort((a, b) => (a.root < b.root ? -1 : 1));
}

export class OpfsStore implements Store {
  async #handle(name: string, create: boolean): Promise<FileHandle> {
    const top = await navigator.storage.getDirectory();
    const folder = await top.getDirectoryHandle(FOLDER, { create: true });
    return folder.getFileHandle(name, { create });
  }

  async open(name: string, n_bytes: number): Promise<StoredFile> {
    const file = await this.#handle(name, true);
    if (!file.createSyncAccessHandle)
      throw new StorageError(
        "only a worker writes to the file system of a page",
        "storage",
        "use the worker",
      );
    const handle = await file.createSyncAccessHandle().catch(() => null);
    if (!handle) return this.#shared(file, n_bytes);
    const missing = n_bytes - handle.getSize();
    const left = await bytesLeft();
    if (left !== null && missing > left) {
      handle.close();
      throw quotaError(missing, left);
    }
    try {
      if (missing !== 0) handle.truncate(n_bytes);
    } catch (error) {
      // The browser said that there was room, and gives none.
      handle.close();
      throw (error as Error).name === "QuotaExceededError" ? quotaError(n_bytes, left) : error;
    }
    return new OpfsFile(handle, n_bytes);
  }

  // Under the lock nobody writes, so whoever holds the file reads it.
  async #shared(file: FileHandle, n_bytes: number): Promise<StoredFile> {
    const handle = await file.createSyncAccessHandle?.({ mode: "read-only" }).catch(() => null);
    if (handle?.getSize() === n_bytes) return new ReadOnlyFile(handle, n_bytes);
    handle?.close();
    throw new StorageError("another tab holds the file for itself", "storage", "close it there");
  }

  async source(name: string): Promise<ByteSource> {
    const file = await this.#handle(name, false);
    try {
      // Several readers at once; where the mode is not known, the file is read whole.
      const handle = await file.createSyncAccessHandle?.({ mode: "read-only" });
      if (handle) return new OpfsFile(handle, handle.getSize());
    } catch {
      // Another tab holds it for itself alone.
    }
    return new MemorySource(await (await file.getFile()).arrayBuffer());
  }

  async remove(name: string): Promise<void> {
    const top = await navigator.storage.getDirectory();
    const folder = await top.getDirectoryHandle(FOLDER, { create: true });
    await folder.removeEntry(name).catch(() => {});
  }

  async lock<T>(name: string, run: () => Promise<T>): Promise<T> {
    return (await navigator.locks.request(`${FOLDER}/${name}`, run)) as T;
  }
}
