/** The page's side of a worker that holds a model: the same interface as `Client`, and `fetch`. */

import type { Answer } from "../api/answer.ts";
import { createOf } from "../api/client.ts";
import { type Body, fetchOver, type RequestOptions, type Transport } from "../api/fetch.ts";
import { EngineError, GateError, SevenfoldError, StorageError, UsageError } from "../core/errors.ts";
import type { Progress } from "../download/download.ts";
import type { ReceiptVerdict } from "../receipt/verify.ts";
import type { FromWorker, Opened, ToWorker, WorkerError, WorkerOpen } from "./protocol.ts";

export interface WorkerOpenOptions extends WorkerOpen {
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

interface Call {
  readonly onPart: (message: FromWorker) => void;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

const CLASSES: Readonly<Record<string, new (what: string, where: string, remedy: string) => SevenfoldError>> =
  {
    EngineError,
    GateError,
    StorageError,
    UsageError,
  };

function revived(error: WorkerError): Error {
  const Class = CLASSES[error.name] ?? SevenfoldError;
  const made = new Class(error.what, error.where, error.remedy);
  made.name = error.name;
  return made;
}

// Where an address is, seen from the page: a worker would look beside its own script.
function ofPage(url: string): string {
  const base = (globalThis as { document?: { baseURI: string } }).document?.baseURI;
  return base === undefined ? url : new URL(url, base).href;
}

export class WorkerClient implements Transport {
  readonly #worker: Worker;
  readonly #calls = new Map<number, Call>();
  #next = 1;
  name = "model";
  root = "";

  /** `worker` runs the package's worker entry: `new Worker(new URL("sevenfold/worker", ...), { type: "module" })`. */
  constructor(worker: Worker) {
    this.#worker = worker;
    worker.onmessage = (event: MessageEvent<FromWorker>) => this.#took(event.data);
    worker.onerror = (event) => {
      const failure = new EngineError(
        `the worker ended: ${event.message}`,
        "worker",
        "load its script from this site",
      );
      for (const call of this.#calls.values()) call.reject(failure);
      this.#calls.clear();
    };
  }

  #took(message: FromWorker): void {
    const call = this.#calls.get(message.id);
    if (!call) return;
    if (message.kind === "progress" || message.kind === "chunk") return call.onPart(message);
    this.#calls.delete(message.id);
    if (message.kind === "error") call.reject(revived(message.error));
    else call.resolve(message.value);
  }

  #call(
    message: WithoutId<ToWorker>,
    signal?: AbortSignal,
    onPart: (part: FromWorker) => void = () => {},
  ): Promise<unknown> {
    const id = this.#next++;
    const stop = (): void => this.#worker.postMessage({ id, call: "abort" } satisfies ToWorker);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      signal?.addEventListener("abort", stop);
      this.#calls.set(id, { onPart, resolve, reject });
      this.#worker.postMessage({ ...message, id } as ToWorker);
    }).finally(() => signal?.removeEventListener("abort", stop));
  }

  /** Download, verify and load a model. */
  async open(options: WorkerOpenOptions): Promise<Opened> {
    const { onProgress, signal, ...asked } = options;
    const open: WorkerOpen = {
      ...asked,
      ...(asked.url ? { url: ofPage(asked.url) } : {}),
      ...(asked.mirrors ? { mirrors: asked.mirrors.map(ofPage) } : {}),
    };
    const found = (await this.#call({ call: "open", open }, signal, (part) => {
      if (part.kind === "progress") onProgress?.(part.progress);
    })) as Opened;
    this.name = found.info.recipe || found.info.root.slice(0, 16);
    this.root = found.info.root;
    return found;
  }

  info(): Promise<Opened> {
    return this.#call({ call: "info" }) as Promise<Opened>;
  }

  verifyReceipt(receipt: string, key?: string): Promise<ReceiptVerdict> {
    return this.#call({
      call: "verifyReceipt",
      receipt,
      ...(key === undefined ? {} : { key }),
    }) as Promise<ReceiptVerdict>;
  }

  async create(
    kind: "completion" | "chat",
    body: Body,
    { signal }: RequestOptions = {},
  ): Promise<Answer | AsyncGenerator<Answer>> {
    if (body["stream"] === true) return this.#stream(kind, body, signal);
    return (await this.#call({ call: "create", kind, body }, signal)) as Answer;
  }

  async *#stream(
    kind: "completion" | "chat",
    body: Body,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Answer> {
    const inner = new AbortController();
    const stop = (): void => inner.abort();
    signal?.addEventListener("abort", stop);
    const ready: Answer[] = [];
    let wake: () => void = () => {};
    let end: { error: Error | null } | null = null;
    const settle = (error: Error | null): void => {
      end = { error };
      wake();
    };
    this.#call({ call: "create", kind, body }, inner.signal, (part) => {
      if (part.kind === "chunk") ready.push(part.value as Answer);
      wake();
    }).then(() => settle(null), settle);
    try {
      for (;;) {
        const next = ready.shift();
        if (next) yield next;
        else if (end) {
          const { error } = end as { error: Error | null };
          if (error) throw error;
          return;
        } else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      inner.abort();
      signal?.removeEventListener("abort", stop);
    }
  }

  readonly completions = { create: createOf(this, "completion") };
  readonly chat = { completions: { create: createOf(this, "chat") } };

  card(): object {
    return { id: this.name, object: "model", created: 0, owned_by: "sevenfold", root: this.root };
  }

  /** Answers what a client of OpenAI sends to a server. */
  readonly fetch = fetchOver(this);

  /** End the worker at once, whatever it does. */
  end(): void {
    this.#worker.terminate();
    const failure = new EngineError("the worker was ended", "worker");
    for (const call of this.#calls.values()) call.reject(failure);
    this.#calls.clear();
  }

  async close(): Promise<void> {
    await this.#call({ call: "close" });
    this.#worker.terminate();
  }
}
