/**
 * A sealed model, opened: verified, self-tested, and run only behind the CM-1 gate.
 *
 * Engines are tried in order; each must give the sealed logits of the first golden prompt on this machine.
 * When an engine is lost later, sessions go on with the next one at the next token, with the same bits.
 */

import { type Golden, readGolden } from "../artifact/golden.ts";
import { isObject, type JsonObject } from "../artifact/json.ts";
import { type Artifact, readArtifact, type ReadOptions } from "../artifact/reader.ts";
import { type Row, verify } from "../artifact/rules.ts";
import type { ByteSource } from "../artifact/source.ts";
import { ArtifactError, EngineError, UsageError } from "../core/errors.ts";
import type { Engine } from "../engine/engine.ts";
import { replayGolden, selfTest } from "../engine/golden.ts";
import { WasmEngine, type WasmOptions } from "../engine/wasm/engine.ts";
import { loadWeights, type ModelWeights } from "../engine/weights.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { ModelSession } from "./session.ts";

/** Makes an engine, or throws an `EngineError` where it cannot be had. */
export type EngineFactory = (weights: ModelWeights) => Promise<Engine>;

export interface OpenOptions extends WasmOptions, ReadOptions {
  /** Tried in order; the default is WebAssembly alone. */
  readonly engines?: readonly EngineFactory[];
  /** Told when a session goes on with another engine, and why. */
  readonly onFailOver?: (from: string, to: string, why: string) => void;
}

export interface ModelInfo {
  readonly root: string;
  readonly engine: string;
  readonly detail: string;
  readonly n_threads: number;
  readonly vocab_size: number;
  readonly context: number;
  /** Whether the vocabulary has the tokens of fill-in-middle. */
  readonly can_infill: boolean;
  readonly n_weight_bytes: number;
  readonly recipe: string;
  /** Engines that could not be had or were lost, and why. */
  readonly notes: readonly string[];
}

// Refuse a file that must not run: no lanes, the published contract, no provenance, a rule that fails.
function refuseUnverified(artifact: Artifact, rows: readonly Row[]): void {
  if (artifact.lanes.length === 0)
    throw new ArtifactError("HeaderOnlyError", "a header without lanes holds no model", "header");
  if (artifact.header.isPublished)
    throw new ArtifactError("PublishedError", "a file of the published contract: no seal binds it", "header");
  if (!artifact.json.get("provenance")?.size)
    throw new ArtifactError("AnonymousError", "the file does not say where it comes from (rule D6)", "EDGE");
  const failed = rows.find((row) => row.status === "fail");
  if (failed)
    throw new ArtifactError(
      "UnverifiedError",
      failed.detail,
      failed.id,
      "get the file again from its source",
    );
}

function goldenOf(artifact: Artifact): Golden[] {
  const rows = artifact.json.get("provenance")?.get("golden");
  return Array.isArray(rows) ? rows.filter((row): row is JsonObject => isObject(row)).map(readGolden) : [];
}

export class Model {
  readonly artifact: Artifact;
  readonly tokenizer: Tokenizer;
  readonly weights: ModelWeights;
  /** V0 to V7 as they were when the file was opened. */
  readonly rows: readonly Row[];
  readonly golden: readonly Golden[];
  readonly #factories: EngineFactory[];
  readonly #options: OpenOptions;
  readonly #notes: string[] = [];
  #engine: Engine | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(artifact: Artifact, rows: readonly Row[], options: OpenOptions) {
    this.artifact = artifact;
    this.rows = rows;
    this.weights = loadWeights(artifact);
    this.tokenizer = new Tokenizer(artifact.dictionary, artifact.json.get("graph"));
    const { vocab_size } = this.weights.shape;
    if (this.tokenizer.vocabSize !== vocab_size)
      throw new ArtifactError(
        "TokenizerError",
        `it has ${this.tokenizer.vocabSize} entries, the model ${vocab_size}`,
        "DICT",
        "seal the model again",
      );
    this.golden = goldenOf(artifact);
    this.#options = options;
    this.#factories = [...(options.engines ?? [(weights) => WasmEngine.make(weights, options)])];
  }

  /** Read, verify and load a file. Throws an `ArtifactError`, or an `EngineError` when no engine runs here. */
  static async open(source: ByteSource, options: OpenOptions = {}): Promise<Model> {
    const artifact = readArtifact(source, options);
    const rows = verify(artifact, options);
    refuseUnverified(artifact, rows);
    const model = new Model(artifact, rows, options);
    await model.#nextEngine();
    return model;
  }

  get root(): string {
    return this.artifact.root;
  }

  get context(): number {
    return this.weights.shape.context;
  }

  get engineOrNull(): Engine | null {
    return this.#engine;
  }

  /** The engine that runs. Throws an `EngineError` when none is left. */
  get engine(): Engine {
    if (!this.#engine) throw new EngineError("no engine is left", "engine", "open the model again");
    return this.#engine;
  }

  /** Whether the law of the model's family allows nothing but greedy decoding (A8). */
  get isGreedyOnly(): boolean {
    const identity = this.artifact.json.get("provenance")?.get("identity");
    const facts = isObject(identity) ? identity.get("facts") : undefined;
    return isObject(facts) && facts.get("family") === "s7";
  }

  // The first of the engines left that gives the sealed logits here.
  async #nextEngine(): Promise<void> {
    this.#engine = null;
    let failure: Error = new EngineError("no engine was asked for", "engine");
    for (let factory = this.#factories.shift(); factory; factory = this.#factories.shift()) {
      let engine: Engine | null = null;
      try {
        engine = await factory(this.weights);
        await selfTest(engine, this.golden[0]!);
        this.#engine = engine;
        return;
      } catch (error) {
        engine?.close();
        const isSelfTest = error instanceof ArtifactError && error.cause_ === "SelfTestError";
        if (!(error instanceof EngineError) && !isSelfTest) throw error;
        this.#notes.push(error.message);
        failure = error;
      }
    }
    throw failure;
  }

  /** Go on with the next engine; sessions of the one that was lost read their ids again. */
  async failOver(lost: Engine, why: EngineError): Promise<void> {
    // Another session may have been here before.
    if (this.#engine !== lost) return;
    this.#notes.push(`${lost.name} was lost: ${why.message}`);
    this.#engine = null;
    lost.close();
    await this.#nextEngine();
    this.#options.onFailOver?.(lost.name, this.engine.name, why.message);
  }

  /** One call of the engine at a time; others wait for their turn. */
  exclusive<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run, run);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** A session whose gate is open, with a prompt in its body. Its ids are read by the first call. */
  session(prompt = ""): ModelSession {
    return new ModelSession(this, prompt);
  }

  /** Ids of a prompt as the model saw text in training; `domain` chooses an expert stack. */
  promptIds(prompt: string, domain = ""): number[] {
    const lead = domain === "" ? [] : [this.tokenizer.specialId(`<|${domain}|>`)];
    if (lead.includes(null))
      throw new UsageError(`the tokenizer has no token for the domain ${domain}`, "domain");
    return [...(lead as number[]), ...this.tokenizer.begun(this.tokenizer.encode(prompt))];
  }

  /** Replay every golden prompt (rule V6); "" when all are as sealed, else the first that is not. */
  async replay(): Promise<string> {
    for (const [i, golden] of this.golden.entries()) {
      const ids = this.promptIds(golden.prompt, golden.domain);
      const isSame = ids.length === golden.ids.length && ids.every((id, k) => id === golden.ids[k]);
      const differs = isSame ? await replayGolden(this.engine, golden) : "other ids";
      if (differs !== "") return `golden prompt ${i}: ${differs}`;
    }
    return "";
  }

  /** V0 to V7, with V6 as the engine at hand has it: every golden prompt replayed. */
  async provedRows(): Promise<Row[]> {
    const differs = await this.replay();
    const detail = differs || `${this.golden.length} golden prompts give the sealed logits here, bit for bit`;
    const status = differs === "" ? "pass" : "fail";
    return this.rows.map((row) =>
      row.id === "V6" && row.status === "skipped" ? { ...row, status, detail } : row,
    );
  }

  info(): ModelInfo {
    const identity = this.artifact.json.get("provenance")?.get("identity");
    const recipe = isObject(identity) ? identity.get("recipe_name") : "";
    return {
      root: this.root,
      engine: this.engine.name,
      detail: this.engine.detail,
      n_threads: this.engine.n_threads,
      vocab_size: this.weights.shape.vocab_size,
      context: this.context,
      can_infill: this.tokenizer.specialId("<|fim_middle|>") !== null,
      n_weight_bytes: this.engine.n_bytes,
      recipe: typeof recipe === "string" ? recipe : "",
      notes: [...this.#notes],
    };
  }

  close(): void {
    this.#engine?.close();
    this.#engine = null;
    this.#factories.length = 0;
    this.artifact.source.close();
  }
}
