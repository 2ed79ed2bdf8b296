/**
 * A model behind OpenAI's interface: `client.chat.completions.create(...)`, streams as async iterators,
 * and `client.fetch`, which answers what a client of OpenAI sends to a server.
 */

import type { Model } from "../model/model.ts";
import { type Answer, chunks, whole } from "./answer.ts";
import { type Body, fetchOver, type RequestOptions, type Transport } from "./fetch.ts";
import { type Kind, readRequest } from "./request.ts";

/** Gives a stream where `stream` is true, else the whole answer. */
export interface Create {
  (body: Body & { readonly stream: true }, options?: RequestOptions): Promise<AsyncGenerator<Answer>>;
  (body: Body, options?: RequestOptions): Promise<Answer>;
}

export function createOf(transport: Transport, kind: Kind): Create {
  return ((body: Body, options?: RequestOptions) => transport.create(kind, body, options)) as Create;
}

export class Client implements Transport {
  readonly model: Model;
  readonly name: string;
  readonly completions = { create: createOf(this, "completion") };
  readonly chat = { completions: { create: createOf(this, "chat") } };
  /** Give it to a client of OpenAI as its `fetch`. */
  readonly fetch = fetchOver(this);

  constructor(model: Model, name?: string) {
    this.model = model;
    this.name = name ?? (model.info().recipe || model.root.slice(0, 16));
  }

  get root(): string {
    return this.model.root;
  }

  async create(
    kind: Kind,
    body: Body,
    options: RequestOptions = {},
  ): Promise<Answer | AsyncGenerator<Answer>> {
    const asked = readRequest(body, kind, this.model);
    const run = asked.isStream ? chunks : whole;
    return run(asked, this.model, this.name, options.signal);
  }

  card(): object {
    const { n_weight_bytes, vocab_size, context } = this.model.info();
    return {
      id: this.name,
      object: "model",
      created: 0,
      owned_by: "sevenfold",
      root: this.root,
      max_model_len: context,
      meta: { n_vocab: vocab_size, n_ctx_train: context, size: n_weight_bytes },
    };
  }
}
