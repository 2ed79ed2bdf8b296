/** The package `sevenfold`: open, verify and run a sealed model, bit for bit as everywhere. */

export { readArtifact, type Artifact, type ReadOptions } from "./artifact/reader.ts";
export { verify, type Row, type Verdict, type VerifyOptions } from "./artifact/rules.ts";
export { HandleSource, MemorySource, type ByteSource } from "./artifact/source.ts";
export {
  ArtifactError,
  type Cause,
  EngineError,
  GateError,
  SevenfoldError,
  StorageError,
  UsageError,
} from "./core/errors.ts";
export { sha256 } from "./core/sha256.ts";
export type { Awaitable, Engine, EngineSession, KeyValues } from "./engine/engine.ts";
export { WasmEngine, type WasmOptions } from "./engine/wasm/engine.ts";
export { fastest, type Measured } from "./engine/fastest.ts";
export { WebGpuEngine, type WebGpuOptions } from "./engine/webgpu/engine.ts";
export { loadWeights, type ModelShape, type ModelWeights } from "./engine/weights.ts";
export { SamplingLaw } from "./sampling/law.ts";
export { Tokenizer } from "./tokenizer/tokenizer.ts";
export type { Answer, Choice, Usage } from "./api/answer.ts";
export { Client } from "./api/client.ts";
export type { Body, FetchLike, RequestOptions, Transport } from "./api/fetch.ts";
export { RequestError } from "./api/fields.ts";
export { Gate } from "./control/gate.ts";
export { type Download, download, type DownloadOptions, type Progress } from "./download/download.ts";
export { keptModels, type KeptModel, OpfsStore } from "./download/opfs.ts";
export { MemoryStore, type Store, type StoredFile } from "./download/store.ts";
export { wasmHash, WasmInstance } from "./engine/wasm/module.ts";
export { generate } from "./model/generate.ts";
export { type EngineFactory, Model, type ModelInfo, type OpenOptions } from "./model/model.ts";
export type { Generation, Sequence } from "./model/sequence.ts";
export { type Provenance, provenanceOf, type SourceRow } from "./model/provenance.ts";
export type { ModelSession } from "./model/session.ts";
export { type PublicKey, readPublicKey } from "./receipt/dsse.ts";
export { type ReceiptVerdict, verifyReceipt } from "./receipt/verify.ts";
export { WorkerClient, type WorkerOpenOptions } from "./worker/client.ts";
export type { Opened, WorkerOpen } from "./worker/protocol.ts";
