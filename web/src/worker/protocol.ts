/** What a page and its worker say to each other. */

import type { Body } from "../api/fetch.ts";
import type { Progress } from "../download/download.ts";

/** Which model, and how. */
export interface WorkerOpen {
  readonly url: string;
  readonly root?: string;
  readonly mirrors?: readonly string[];
  readonly n_threads?: number;
  /** Keep the file in memory alone: where the page has no OPFS. */
  readonly inMemory?: boolean;
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
