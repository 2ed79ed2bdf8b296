/** One gate and one sequence. What was read is kept as ids, so that another engine can go on with it. */

import { EOT, ETX, type Gate, openGate } from "../control/gate.ts";
import { EngineError } from "../core/errors.ts";
import type { Awaitable, Engine, EngineSession } from "../engine/engine.ts";
import type { Model } from "./model.ts";

export class ModelSession {
  readonly #model: Model;
  readonly #gate: Gate;
  readonly #ids: number[] = [];
  #engine: Engine | null = null;
  #session: EngineSession | null = null;

  constructor(model: Model, prompt: string) {
    this.#model = model;
    this.#gate = openGate(prompt);
  }

  /** Ids that were read. */
  get length(): number {
    return this.#ids.length;
  }

  /** Append ids; the logits of the last `n_logits` of them. */
  forward(ids: readonly number[], n_logits: number): Promise<Int32Array> {
    return this.#call("a read", async (session) => {
      const logits = await session.forward(ids, n_logits);
      this.#ids.push(...ids);
      return logits;
    });
  }

  /** Append ids, then up to `n_tokens` greedy steps; the last token is not appended. */
  generate(ids: readonly number[], n_tokens: number, stops: readonly number[]): Promise<number[]> {
    return this.#call("a step", async (session) => {
      const tokens = await session.generate(ids, n_tokens, stops);
      this.#ids.push(...ids, ...tokens.slice(0, -1));
      return tokens;
    });
  }

  async #call<T>(what: string, run: (session: EngineSession) => Awaitable<T>): Promise<T> {
    return this.#model.exclusive(async () => {
      // Asked when its turn has come: the session may have ended meanwhile.
      this.#gate.requireOpen(what);
      for (;;) {
        const engine = this.#model.engine;
        try {
          return await run(await this.#opened(engine));
        } catch (error) {
          if (!(error instanceof EngineError)) throw error;
          // A call that failed left nothing in #ids, so the next engine does all of it.
          this.#drop();
          await this.#model.failOver(engine, error);
        }
      }
    });
  }

  async #opened(engine: Engine): Promise<EngineSession> {
    if (this.#session && this.#engine === engine) return this.#session;
    this.#drop();
    const session = await engine.session();
    if (this.#ids.length > 0) await session.forward(this.#ids, 0);
    this.#engine = engine;
    this.#session = session;
    return session;
  }

  #drop(): void {
    // A session of an engine that is gone has nothing to give back.
    if (this.#engine === this.#model.engineOrNull) this.#session?.close();
    this.#session = null;
  }

  /** ETX EOT: the gate shuts, and every later call is refused. */
  close(): void {
    if (!this.#gate.isOpen) return;
    this.#gate.feed(Uint8Array.of(ETX, EOT));
    this.#drop();
  }
}
