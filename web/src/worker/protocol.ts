/** What a page and its worker say to each other. */

import type { Body } from "../api/fetch.ts";
import type { Row } from "../artifact/rules.ts";
import type { Progress } from "../download/download.ts";
import type { Measured } from "../engine/fastest.ts";
import type { ModelInfo } from "../model/model.ts";
import type { Provenance } from "../model/provenance.ts";

/** Which model, and how. */
export interface WorkerOpen {
  /** Where the file is; empty where `file` is given or the file is kept already. */
  readonly url?: string;
  /** A file that a person chose, instead of an address. */
  readonly file?: Blob;
  /** The name of the model: another file is refused, and a kept one needs no network. */
  readonly root?: string;
  readonly mirrors?: readonly string[];
  readonly n_threads?: number;
  /** Which engine runs; `auto`, the default, is the one that a measurement here finds faster. */
  readonly engine?: "auto" | "wasm" | "webgpu";
  /** Keep the file in memory alone: where the page has no OPFS. */
  readonly inMemory?: boolean;
}

/** What a worker tells of the model that is open. */
export interface Opened {
  readonly info: ModelInfo;
  /** V0 to V7 as they were when the file was opened. */
  readonly rows: readonly Row[];
  readonly provenance: Provenance;
  /** What the engines did here when one was chosen. */
  readonly measured: readonly Measured[];
}

export type ToWorker =
  | { readonly id: number; readonly call: "open"; readonly open: WorkerOpen }
  | {
      readonly id: number;
      readonly call: "create";
      readonly kind: "completion" | "chat";
      readonly body: Body;
    }
  | { readonly id: number; readonly call: "verifyReceipt"; readonly receipt: string; readonly key?: string }
  | { readonly id: number; readonly call: "info" }
  | { readonly id: number; readonly call: "close" }
  /** End the call of this id. */
  | { readonly id: number; readonly call: "abort" };

export type FromWorker =
  | { readonly id: number; readonly kind: "progress"; readonly progress: Progress }
  | { readonly id: number; readonly kind: "chunk"; readonly value: unknown }
  | { readonly id: number; readonly kind: "done"; readonly value: unknown }
  | { readonly id: number; readonly kind: "error"; readonly error: WorkerError };

/** An error on its way between programs. */
export interface WorkerError {
  readonly name: string;
  readonly message: string;
  readonly what: string;
  readonly where: string;
  readonly remedy: string;
}
