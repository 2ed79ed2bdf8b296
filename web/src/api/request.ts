/** Reads what a body of /v1/completions or /v1/chat/completions asks for. */

import type { Model } from "../model/model.ts";
import { BANNED, type Generation } from "../model/sequence.ts";
import { GREEDY, parseRatio, SamplingLaw } from "../sampling/law.ts";
import { Fields, RequestError, shown } from "./fields.ts";
import { chatIds, infillIds, parsedIds, rawIds } from "./prompts.ts";

export type Kind = "completion" | "chat";

export interface Asked {
  readonly kind: Kind;
  readonly generations: readonly Generation[];
  /** Samples of each prompt. */
  readonly n: number;
  readonly isStream: boolean;
  readonly withUsage: boolean;
  readonly echoes: readonly string[];
  readonly fields: Fields;
}

/** Bounds of one request, as those of the server. */
const LIMITS = { prompts: 256, n: 32, stops: 64, stop_bytes: 1024, biases: 1024, messages: 1024 };
const DEFAULT_TOKENS = 16;
const LOGIT_ONE = 65536;
const NEUTRAL: Readonly<Record<string, number>> = {
  frequency_penalty: 0,
  presence_penalty: 0,
  repeat_penalty: 1,
  repetition_penalty: 1,
  typical_p: 1,
};

function lawOf(fields: Fields, model: Model): SamplingLaw {
  const temperature = fields.number("temperature", 0, 0, 10);
  const top_k = fields.integer("top_k", 0, -1, 2 ** 30);
  const top_p = fields.number("top_p", 1, 0, 1);
  const min_p = fields.number("min_p", 0, 0, 1);
  const asked = fields.get("seed");
  const seed = typeof asked === "bigint" ? asked : BigInt(fields.integer("seed", -1, -(2 ** 53), 2 ** 53));
  for (const [name, neutral] of Object.entries(NEUTRAL)) {
    const value = fields.get(name);
    if (value !== undefined && value !== neutral)
      fields.warn(`${name} ${shown(value)} is not part of the sampling law; it was not applied`);
  }
  if (temperature === 0) return GREEDY;
  if (model.isGreedyOnly) {
    fields.warn(`temperature ${temperature} was not applied: the law of this model's family is greedy`);
    return GREEDY;
  }
  return new SamplingLaw({
    temperature: parseRatio(temperature.toFixed(5), "temperature", 65535),
    top_k: Math.max(0, top_k),
    min_p: parseRatio(min_p.toFixed(5), "min-p", 1),
    top_p: parseRatio(Math.max(top_p, 2e-5).toFixed(5), "top-p", 1),
    seed: seed < 0n ? randomSeed() : seed,
  });
}

function randomSeed(): bigint {
  let seed = 0n;
  for (let i = 0; i < 4; ++i) seed = (seed << 16n) | BigInt(Math.floor(Math.random() * 65536));
  return seed;
}

function stopsOf(fields: Fields): string[] {
  const value = fields.get("stop") ?? [];
  const stops: unknown = typeof value === "string" ? [value] : value;
  if (!Array.isArray(stops) || stops.some((stop) => typeof stop !== "string"))
    throw new RequestError("it is neither a string nor a list of strings", "stop", "send strings");
  if (stops.length > LIMITS.stops)
    throw new RequestError(`${stops.length} stop strings`, "stop", `send ${LIMITS.stops} at most`);
  for (const stop of stops as string[])
    if (stop === "" || stop.length > LIMITS.stop_bytes)
      throw new RequestError(
        `a stop string of ${stop.length} characters`,
        "stop",
        `use 1 to ${LIMITS.stop_bytes}`,
      );
  return stops as string[];
}

function biasesOf(fields: Fields, model: Model): Map<number, number> {
  const value = fields.get("logit_bias") ?? {};
  const pairs: unknown[] = Array.isArray(value)
    ? value
    : typeof value === "object"
      ? Object.entries(value as object)
      : [null];
  if (pairs.length > LIMITS.biases)
    throw new RequestError(`${pairs.length} biases`, "logit_bias", `send ${LIMITS.biases} at most`);
  const biases = new Map<number, number>();
  for (const pair of pairs) {
    const [token, bias] = (Array.isArray(pair) ? pair : []) as unknown[];
    const isBan = bias === false || bias === -100;
    if (!isBan && !(typeof bias === "number" && bias >= -100 && bias <= 100))
      throw new RequestError(`the bias ${shown(bias)}`, "logit_bias", "use -100 to 100, or false");
    for (const id of biasedIds(token, model)) biases.set(id, isBan ? BANNED : Math.round(bias * LOGIT_ONE));
  }
  return biases;
}

function biasedIds(token: unknown, model: Model): number[] {
  if (typeof token === "string" && !/^-?[0-9]+$/.test(token))
    return parsedIds(model.tokenizer, token, "logit_bias");
  const id = typeof token === "string" || typeof token === "number" ? Number(token) : -1;
  if (!Number.isInteger(id) || id < 0 || id >= model.tokenizer.vocabSize)
    throw new RequestError(
      `${shown(token)} is no token`,
      "logit_bias",
      `use ids 0 to ${model.tokenizer.vocabSize - 1}`,
    );
  return [id];
}

function promptIds(item: unknown, fields: Fields, model: Model): number[] {
  const suffix = fields.get("suffix");
  if (suffix !== undefined) {
    if (typeof item !== "string" || typeof suffix !== "string")
      throw new RequestError("a suffix needs a prompt of text", "suffix", "send two strings");
    return infillIds(model.tokenizer, item, suffix);
  }
  if (typeof item === "string") return rawIds(model.tokenizer, item, fields.flag("parse_special", true));
  const size = model.tokenizer.vocabSize;
  const isId = (id: unknown): boolean =>
    typeof id === "number" && Number.isInteger(id) && id >= 0 && id < size;
  if (!Array.isArray(item) || !item.every(isId))
    throw new RequestError(
      "a prompt is neither text nor ids of this vocabulary",
      "prompt",
      `use ids 0 to ${size - 1}`,
    );
  return item.length > 0 ? (item as number[]) : model.tokenizer.begun([]);
}

function promptsOf(fields: Fields, model: Model): number[][] {
  const value = fields.get("prompt") ?? "";
  const isOne =
    typeof value === "string" || !Array.isArray(value) || value.length === 0 || typeof value[0] === "number";
  const prompts: unknown[] = isOne ? [value] : value;
  if (prompts.length > LIMITS.prompts)
    throw new RequestError(`${prompts.length} prompts`, "prompt", `send ${LIMITS.prompts} at most`);
  return prompts.map((item) => promptIds(item, fields, model));
}

function lengthOf(fields: Fields, model: Model, n_prompt: number, fallback: number | null): number {
  const room = model.context - n_prompt;
  if (room < 0)
    throw new RequestError(
      `the prompt has ${n_prompt} tokens; the context has ${model.context}`,
      "prompt",
      "shorten it",
    );
  const names = ["max_completion_tokens", "max_tokens", "n_predict"];
  const given = names.filter((name) => fields.get(name) !== undefined)[0];
  if (given === undefined) return fallback === null ? room : Math.min(fallback, room);
  const n = fields.integer(given, 0, -2, Number.MAX_SAFE_INTEGER);
  if (n > room)
    throw new RequestError(
      `${n} tokens are asked for; the context has room for ${room}`,
      given,
      `ask for ${room} at most`,
    );
  return n < 0 ? room : n;
}

/** What a body asks for. Throws a `RequestError`, `GateError` or `UsageError` that names the field. */
export function readRequest(body: unknown, kind: Kind, model: Model): Asked {
  const fields = new Fields(body);
  const isChat = kind === "chat";
  for (const name of ["logprobs", "top_logprobs", "tools", "response_format", "grammar", "json_schema"]) {
    const value = fields.get(name);
    const isAsked =
      value !== undefined &&
      value !== false &&
      value !== 0 &&
      (value as { type?: unknown }).type !== "text" &&
      !(Array.isArray(value) && value.length === 0);
    if (isAsked) throw new RequestError(`${name} is not offered in a page`, name, "ask `s7 serve`", 501);
  }
  let prompts: number[][];
  if (isChat) {
    const messages = fields.get("messages");
    if (!Array.isArray(messages) || messages.length < 1 || messages.length > LIMITS.messages)
      throw new RequestError("messages are missing", "messages", "send a list of messages");
    prompts = [chatIds(model.tokenizer, messages)];
  } else prompts = promptsOf(fields, model);
  const shared = {
    law: lawOf(fields, model),
    stops: stopsOf(fields),
    biases: biasesOf(fields, model),
    ignore_end: fields.flag("ignore_eos"),
    with_hashes: false,
  };
  const generations = prompts.map((ids) => ({
    ...shared,
    ids,
    max_tokens: lengthOf(fields, model, ids.length, isChat ? null : DEFAULT_TOKENS),
  }));
  const options = fields.get("stream_options");
  const isEcho = !isChat && fields.flag("echo");
  return {
    kind,
    generations,
    n: fields.integer("n", 1, 1, LIMITS.n),
    isStream: fields.flag("stream"),
    withUsage: (options as { include_usage?: unknown } | undefined)?.include_usage === true,
    echoes: prompts.map((ids) => (isEcho ? model.tokenizer.decode(ids) : "")),
    fields,
  };
}
