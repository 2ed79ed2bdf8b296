/** Writes the answer of one request in OpenAI's shapes, whole or as chunks. */

import { toHex } from "../core/bytes.ts";
import { generate } from "../model/generate.ts";
import type { Model } from "../model/model.ts";
import type { Asked, Kind } from "./request.ts";

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

export interface Choice {
  readonly index: number;
  readonly finish_reason: string | null;
  readonly logprobs: null;
  readonly text?: string;
  readonly message?: { readonly role: "assistant"; readonly content: string; readonly refusal: null };
  readonly delta?: { readonly role?: "assistant"; readonly content?: string };
}

/** A completion, a chat completion, or a chunk of one. */
export interface Answer {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
  readonly choices: readonly Choice[];
  readonly usage?: Usage;
  readonly warnings?: readonly string[];
}

type Head = Pick<Answer, "id" | "created" | "model" | "system_fingerprint">;

const OBJECTS: Readonly<Record<Kind, readonly [whole: string, chunk: string]>> = {
  completion: ["text_completion", "text_completion"],
  chat: ["chat.completion", "chat.completion.chunk"],
};

function headOf(asked: Asked, model: Model, name: string): Head {
  const random = Uint8Array.from({ length: 12 }, () => Math.floor(Math.random() * 256));
  return {
    id: `${asked.kind === "chat" ? "chatcmpl" : "cmpl"}-${toHex(random)}`,
    created: Math.floor(Date.now() / 1000),
    model: name,
    system_fingerprint: `s7-${model.root.slice(0, 16)}`,
  };
}

function choiceOf(
  kind: Kind,
  index: number,
  text: string,
  finish_reason: string | null,
  isFirst: boolean,
): Choice {
  const common = { index, finish_reason, logprobs: null };
  if (kind === "completion") return { ...common, text };
  const role = isFirst ? { role: "assistant" as const } : {};
  return { ...common, delta: finish_reason !== null && text === "" ? role : { ...role, content: text } };
}

/** Yields the chunks of a stream. The last has the usage, where it was asked for. */
export async function* chunks(
  asked: Asked,
  model: Model,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Answer> {
  const head = headOf(asked, model, name);
  const object = OBJECTS[asked.kind][1];
  const n_prompt = asked.generations.reduce((sum, generation) => sum + generation.ids.length, 0);
  let n_tokens = 0;
  for (const [number, generation] of asked.generations.entries())
    for (let sample = 0; sample < asked.n; ++sample) {
      const place = number * asked.n + sample;
      const chunk = (text: string, reason: string | null, isFirst: boolean): Answer => ({
        ...head,
        object,
        choices: [choiceOf(asked.kind, place, text, reason, isFirst)],
      });
      yield chunk(asked.echoes[number] ?? "", null, true);
      const pieces = generate(model, generation, sample, signal);
      try {
        let piece = await pieces.next();
        for (; !piece.done; piece = await pieces.next()) yield chunk(piece.value, null, false);
        n_tokens += piece.value.tokens.length;
        yield chunk("", piece.value.finished?.reason ?? "stop", false);
      } finally {
        // Whoever asked may have gone away in the middle.
        await pieces.return(null as never);
      }
    }
  const warnings = asked.fields.warnings();
  const usage = { prompt_tokens: n_prompt, completion_tokens: n_tokens, total_tokens: n_prompt + n_tokens };
  if (asked.withUsage || warnings.length > 0)
    yield {
      ...head,
      object,
      choices: [],
      ...(asked.withUsage ? { usage } : {}),
      ...(warnings.length > 0 ? { warnings } : {}),
    };
}

/** The answer of a request without a stream. */
export async function whole(asked: Asked, model: Model, name: string, signal?: AbortSignal): Promise<Answer> {
  const texts: string[] = [];
  const reasons: string[] = [];
  let last: Answer | null = null;
  for await (const chunk of chunks({ ...asked, withUsage: true }, model, name, signal)) {
    last = chunk;
    for (const { index, text, delta, finish_reason } of chunk.choices) {
      texts[index] = (texts[index] ?? "") + (text ?? delta?.content ?? "");
      if (finish_reason !== null) reasons[index] = finish_reason;
    }
  }
  const choices = texts.map((text, index): Choice => {
    const common = { index, finish_reason: reasons[index] ?? "stop", logprobs: null };
    if (asked.kind === "completion") return { ...common, text };
    return { ...common, message: { role: "assistant", content: text, refusal: null } };
  });
  return { ...last!, object: OBJECTS[asked.kind][0], choices };
}
