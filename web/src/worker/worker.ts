/** The entry of a worker that holds a model: it downloads, verifies and answers. */

import { chunks, whole } from "../api/answer.ts";
import { Client } from "../api/client.ts";
import { readRequest } from "../api/request.ts";
import type { Row } from "../artifact/rules.ts";
import { SevenfoldError, UsageError } from "../core/errors.ts";
import { download } from "../download/download.ts";
import { OpfsStore } from "../download/opfs.ts";
import { MemoryStore } from "../download/store.ts";
import { blobFetch } from "../download/stream.ts";
import { fastest, type Measured } from "../engine/fastest.ts";
import { WasmEngine } from "../engine/wasm/engine.ts";
import { wasmHash, WasmInstance } from "../engine/wasm/module.ts";
import { WebGpuEngine } from "../engine/webgpu/engine.ts";
import { type EngineFactory, Model } from "../model/model.ts";
import { provenanceOf } from "../model/provenance.ts";
import { readPublicKey } from "../receipt/dsse.ts";
import { verifyReceipt } from "../receipt/verify.ts";
import type { FromWorker, Opened, ToWorker, WorkerError, WorkerOpen } from "./protocol.ts";

const scope = globalThis as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};

let client: Client | null = null;
// V0 to V7 of the model that is open, replayed once.
let rows: readonly Row[] = [];
let measured: Measured[] = [];
const running = new Map<number, AbortController>();

function errorOf(error: unknown): WorkerError {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const parts = error instanceof SevenfoldError ? error : { what: message, where: "", remedy: "" };
  return { name, message, what: parts.what, where: parts.where, remedy: parts.remedy };
}

function opened(): Client {
  if (!client) throw new UsageError("no model is open", "worker", "call open first");
  return client;
}

async function open(id: number, asked: WorkerOpen, signal: AbortSignal): Promise<Opened> {
  const startHash = wasmHash(await WasmInstance.make(false));
  const digest = (bytes: Uint8Array): Uint8Array => {
    const hashing = startHash();
    hashing.add(bytes);
    return hashing.digest();
  };
  const hasOpfs =
    !asked.inMemory && typeof navigator !== "undefined" && navigator.storage?.getDirectory !== undefined;
  const found = await download(asked.url ?? "", {
    store: hasOpfs ? new OpfsStore() : new MemoryStore(),
    sha256: digest,
    signal,
    onProgress: (progress) => scope.postMessage({ id, kind: "progress", progress }),
    ...(asked.file === undefined ? {} : { fetch: blobFetch(asked.file) }),
    ...(asked.root === undefined ? {} : { root: asked.root }),
    ...(asked.mirrors === undefined ? {} : { mirrors: asked.mirrors }),
  });
  client?.model.close();
  const options = {
    engines: enginesOf(asked),
    startHash,
    isProved: true,
  };
  client = new Client(await Model.open(found.source, options));
  rows = await client.model.provedRows();
  return told(client.model);
}

// The one that was asked for, and WebAssembly for when it is lost.
function enginesOf(asked: WorkerOpen): EngineFactory[] {
  const { n_threads } = asked;
  const wasm: EngineFactory = (weights) =>
    WasmEngine.make(weights, n_threads === undefined ? {} : { n_threads });
  const webgpu: EngineFactory = (weights) => WebGpuEngine.make(weights);
  measured = [];
  const hasGpu = typeof navigator !== "undefined" && navigator.gpu !== undefined;
  if (asked.engine === "wasm" || (asked.engine !== "webgpu" && !hasGpu)) return [wasm];
  if (asked.engine === "webgpu") return [webgpu, wasm];
  const both = [
    ["wasm", wasm],
    ["webgpu", webgpu],
  ] as const;
  return [(weights) => fastest(weights, both, (found) => measured.push(found)), wasm];
}

function told(model: Model): Opened {
  return { info: model.info(), rows, provenance: provenanceOf(model.artifact), measured };
}

async function answer(message: ToWorker, signal: AbortSignal): Promise<unknown> {
  switch (message.call) {
    case "open":
      return open(message.id, message.open, signal);
    case "create": {
      const { model, name } = opened();
      const asked = readRequest(message.body, message.kind, model);
      if (!asked.isStream) return whole(asked, model, name, signal);
      for await (const value of chunks(asked, model, name, signal))
        scope.postMessage({ id: message.id, kind: "chunk", value });
      return null;
    }
    case "verifyReceipt": {
      const key = message.key === undefined ? undefined : await readPublicKey(message.key);
      return verifyReceipt(message.receipt, opened().model, key);
    }
    case "info":
      return told(opened().model);
    case "close":
      client?.model.close();
      client = null;
      return null;
    case "abort":
      return null;
  }
}

async function take(message: ToWorker): Promise<void> {
  if (message.call === "abort") return running.get(message.id)?.abort();
  const controller = new AbortController();
  running.set(message.id, controller);
  try {
    const value = await answer(message, controller.signal);
    scope.postMessage({ id: message.id, kind: "done", value });
  } catch (error) {
    scope.postMessage({ id: message.id, kind: "error", error: errorOf(error) });
  } finally {
    running.delete(message.id);
  }
}

scope.onmessage = (event) => void take(event.data);
