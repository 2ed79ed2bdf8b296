/** The check of a receipt on a model in this page (specs/receipt.md): one prefill, every token chosen again. */

import { integerWithin, type Json, type JsonObject, Num, parseText } from "../artifact/json.ts";
import { type Bytes, concat, fromHex, fromUtf8, toHex, utf8 } from "../core/bytes.ts";
import { ArtifactError, SevenfoldError } from "../core/errors.ts";
import { merkleRoot } from "../core/merkle.ts";
import { sha256 } from "../core/sha256.ts";
import type { Model } from "../model/model.ts";
import { BANNED, type Generation, type Rule, Sequence } from "../model/sequence.ts";
import { LAW_VERSION, type Ratio, SamplingLaw } from "../sampling/law.ts";
import { EnvelopeError, hasKeys, isSigned, type PublicKey, readEnvelope, subjectDigest } from "./dsse.ts";

export type Word = "ACCEPT" | "REJECT" | "UNVERIFIABLE" | "MALFORMED";

/** What a check found. `step` is the first that differs, -1 where no step is meant. */
export interface ReceiptVerdict {
  readonly word: Word;
  readonly why: string;
  readonly step: number;
  readonly isSigned: boolean;
}

const MAX_BYTES = 64 * 2 ** 20;
const PREDICATE_TYPE = "https://in-toto.io/attestation/sevenfold/answer/v1";
const ARITHMETIC_VERSION = 1;
const MAX_COUNT = 2 ** 31 - 1;
const REASONS: Readonly<Record<string, string>> = {
  end: "stop",
  word: "stop",
  grammar: "stop",
  limit: "length",
  time: "length",
  cancel: "cancelled",
};
const SECTIONS: Readonly<Record<string, readonly string[]>> = {
  model: ["root", "arithmetic", "sampling"],
  request: [
    "prompt_sha256",
    "is_salted",
    "n_prompt",
    "max_tokens",
    "stops",
    "biases",
    "ignore_end",
    "is_constrained",
  ],
  sampling: ["temperature", "top_k", "min_p", "top_p", "seed", "sample"],
  output: ["ids_sha256", "text_sha256", "n_tokens", "reason", "rule", "word"],
  trace: ["root", "n_steps"],
};

// A check that ends early, with its verdict.
class Stop extends Error {
  readonly word: Word;
  readonly step: number;

  constructor(word: Word, why: string, step = -1) {
    super(why);
    this.word = word;
    this.step = step;
  }
}

function need(holds: boolean, why: string, word: Word = "REJECT", step = -1): asserts holds {
  if (!holds) throw new Stop(word, why, step);
}

/** SHA-256 of a salt, the number of ids and the ids, each a big-endian u32. */
function idsDigest(ids: readonly number[], salt: Bytes = new Uint8Array(0)): string {
  const words = new Uint8Array(4 * (ids.length + 1));
  const view = new DataView(words.buffer);
  [ids.length, ...ids].forEach((word, i) => view.setUint32(4 * i, word));
  return toHex(sha256(concat(salt, words)));
}

interface Said {
  readonly receipt: JsonObject;
  readonly section: (name: string) => JsonObject;
}

function read(data: Bytes): Said {
  need(data.length <= MAX_BYTES, `more than ${MAX_BYTES} bytes`, "MALFORMED");
  const text = fromUtf8(data);
  let value: Json = null;
  try {
    value = text === null ? null : parseText(text, "receipt");
  } catch (error) {
    if (!(error instanceof ArtifactError)) throw error;
  }
  const names = ["envelope", "prompt_ids", "output_ids", "salt", "steps"];
  need(hasKeys(value, names), `a receipt is JSON and has ${names.join(", ")}`, "MALFORMED");
  const receipt: JsonObject = value;
  const statement = readEnvelope(receipt.get("envelope"));
  need(statement.get("predicateType") === PREDICATE_TYPE, "the statement is no receipt", "MALFORMED");
  const said = statement.get("predicate");
  need(hasKeys(said, ["format", ...Object.keys(SECTIONS)]), "another form of receipt", "MALFORMED");
  need(integerWithin(said.get("format"), 1, 1) !== null, "another form of receipt", "MALFORMED");
  for (const [name, keys] of Object.entries(SECTIONS))
    need(hasKeys(said.get(name), keys), `${name} has other fields`, "MALFORMED");
  const section = (name: string): JsonObject => said.get(name) as JsonObject;
  need(
    subjectDigest(statement) === section("output").get("ids_sha256"),
    "the subject is not the answer",
    "MALFORMED",
  );
  return { receipt, section };
}

function checkTypes({ section }: Said): void {
  const [request, output] = [section("request"), section("output")];
  const counts = [
    request.get("n_prompt"),
    request.get("max_tokens"),
    output.get("n_tokens"),
    section("sampling").get("sample"),
    section("trace").get("n_steps"),
    section("model").get("arithmetic"),
    section("model").get("sampling"),
  ];
  need(
    counts.every((n) => integerWithin(n, 0, MAX_COUNT) !== null),
    "a count is no count",
    "MALFORMED",
  );
  const stops = request.get("stops");
  need(
    Array.isArray(stops) && stops.every((stop) => typeof stop === "string"),
    "stops are no texts",
    "MALFORMED",
  );
  for (const flag of ["is_salted", "ignore_end", "is_constrained"])
    need(typeof request.get(flag) === "boolean", "a flag is no flag", "MALFORMED");
  const rule = output.get("rule");
  need(typeof rule === "string" && Object.hasOwn(REASONS, rule), "no rule of that name", "MALFORMED");
  need(output.get("reason") === REASONS[rule], "the reason is not the rule's", "MALFORMED");
}

function readIds(value: Json | undefined, name: string, size: number): number[] {
  const ids = Array.isArray(value) ? value.map((id) => integerWithin(id, 0, size - 1)) : [null];
  need(!ids.includes(null), `${name} holds no ids of this model`, "MALFORMED");
  return ids as number[];
}

function readLaw(said: JsonObject): SamplingLaw {
  const ratio = (name: string): Ratio => {
    const pair = said.get(name);
    const terms =
      Array.isArray(pair) && pair.length === 2 ? pair.map((n) => integerWithin(n, 0, 65535)) : [null];
    need(!terms.includes(null), `sampling: ${name} is no fraction`, "MALFORMED");
    return terms as unknown as Ratio;
  };
  const top_k = integerWithin(said.get("top_k"), 0, Number.MAX_SAFE_INTEGER);
  const seed = said.get("seed");
  need(
    top_k !== null && typeof seed === "string" && /^[0-9]+$/.test(seed),
    "sampling: top_k or seed",
    "MALFORMED",
  );
  try {
    return new SamplingLaw({
      temperature: ratio("temperature"),
      min_p: ratio("min_p"),
      top_p: ratio("top_p"),
      top_k,
      seed: BigInt(seed),
    });
  } catch (error) {
    if (error instanceof SevenfoldError) throw new Stop("MALFORMED", `sampling: ${error.message}`);
    throw error;
  }
}

function readBiases(value: Json | undefined, size: number): Map<number, number> {
  const biases = new Map<number, number>();
  need(Array.isArray(value), "biases are no pairs", "MALFORMED");
  for (const pair of value) {
    const [token, bias] = Array.isArray(pair) && pair.length === 2 ? pair : [];
    const isNumber = bias instanceof Num && bias.isInteger;
    need(
      token instanceof Num && token.isInteger && (bias === null || isNumber),
      "biases are no pairs",
      "MALFORMED",
    );
    const id = integerWithin(token, 0, size - 1);
    need(id !== null, "a bias of no token", "MALFORMED");
    biases.set(id, isNumber ? bias.value : BANNED);
  }
  return biases;
}

function readGeneration(said: Said, model: Model): [Generation, number[]] {
  const { receipt, section } = said;
  const size = model.tokenizer.vocabSize;
  const prompt = readIds(receipt.get("prompt_ids"), "prompt_ids", size);
  const output = readIds(receipt.get("output_ids"), "output_ids", size);
  const hex = receipt.get("salt");
  const salt = typeof hex === "string" ? fromHex(hex, hex.length / 2) : null;
  need(salt !== null, "salt is not hex", "MALFORMED");
  const law = readLaw(section("sampling"));
  const [request, told, trace] = [section("request"), section("output"), section("trace")];
  const count = (owner: JsonObject, key: string): number => integerWithin(owner.get(key), 0, MAX_COUNT) ?? -1;
  need(salt.length > 0 === request.get("is_salted"), "the salt is missing, or one too many");
  need(prompt.length === count(request, "n_prompt") && prompt.length > 0, "the prompt has another length");
  need(idsDigest(prompt, salt) === request.get("prompt_sha256"), "the prompt is another");
  need(
    output.length === count(told, "n_tokens") && output.length === count(trace, "n_steps"),
    "the answer has another length",
  );
  need(idsDigest(output) === told.get("ids_sha256"), "the answer is another");
  need(output.length <= count(request, "max_tokens"), "the answer is longer than its limit");
  const generation: Generation = {
    ids: prompt,
    max_tokens: count(request, "max_tokens"),
    law,
    stops: request.get("stops") as string[],
    biases: readBiases(request.get("biases"), size),
    ignore_end: request.get("ignore_end") === true,
    with_hashes: true,
  };
  return [generation, output];
}

// Choose every token again from the logits of one prefill, and end as the answer ended.
async function replay(
  model: Model,
  generation: Generation,
  index: number,
  output: number[],
): Promise<Sequence> {
  const ids = [...generation.ids, ...output];
  const read = ids.slice(0, Math.max(1, ids.length - 1));
  const sequence = new Sequence(generation, index, model.tokenizer);
  const session = model.session();
  try {
    const n_logits = read.length - generation.ids.length + 1;
    const logits = await session.forward(read, n_logits);
    const size = model.tokenizer.vocabSize;
    for (const [step, token] of output.entries()) {
      need(sequence.finished === null, `the answer ended before step ${step}`, "REJECT", step);
      sequence.takeLogits(logits.subarray(size * step, size * (step + 1)));
      const chosen = sequence.tokens[sequence.tokens.length - 1];
      need(chosen === token, `step ${step} gives token ${chosen}, the receipt says ${token}`, "REJECT", step);
    }
  } catch (error) {
    if (error instanceof SevenfoldError)
      throw new Stop("REJECT", `the model refuses these ids: ${error.message}`);
    throw error;
  } finally {
    session.close();
  }
  return sequence;
}

function checkEnd(sequence: Sequence, { section }: Said): void {
  const told = section("output");
  const rule = told.get("rule") as Rule;
  const last = sequence.tokens.length - 1;
  if (rule === "time" || rule === "cancel") {
    need(sequence.finished === null, "the answer ended by another rule", "REJECT", last);
    need(rule !== "time" || sequence.text.includes("\n"), "a time limit ends at a newline", "REJECT", last);
    sequence.end(rule === "time" ? "length" : "cancelled", rule);
  } else if (last < 0) {
    need(rule === "limit" && sequence.generation.max_tokens === 0, "nothing was said, and no rule says why");
    sequence.end("length", "limit");
  }
  const ended = sequence.finished;
  need(ended !== null, `the answer goes on behind step ${last}`, "REJECT", last);
  need(ended.rule === rule, `the answer ended by the rule ${ended.rule}, not ${rule}`, "REJECT", last);
  need(ended.word === told.get("word"), "it ended at another stop string", "REJECT", last);
  need(toHex(sha256(utf8(sequence.text))) === told.get("text_sha256"), "the text is another");
}

function checkTrace(sequence: Sequence, { receipt, section }: Said): void {
  const steps = receipt.get("steps");
  const listed: readonly Json[] = Array.isArray(steps) ? steps : [];
  const isWhole = Array.isArray(steps) && listed.length === sequence.tokens.length;
  for (const [step, ours] of sequence.leaves.entries())
    need(!isWhole || toHex(ours) === listed[step], `step ${step} has other logits`, "REJECT", step);
  need(isWhole, "the hashes of the steps are not as many as the steps", "MALFORMED");
  const leaves = sequence.leaves.map((hash, step) => {
    const head = new Uint8Array(8);
    const view = new DataView(head.buffer);
    view.setUint32(0, step);
    view.setUint32(4, sequence.tokens[step]!);
    return concat(head, hash);
  });
  const root = leaves.length > 0 ? merkleRoot(leaves) : sha256(new Uint8Array(0));
  need(toHex(root) === section("trace").get("root"), "the root of the steps is another");
}

async function check(data: Bytes, model: Model, key: PublicKey | undefined): Promise<boolean> {
  const said = read(data);
  checkTypes(said);
  const signed = key ? await isSigned(said.receipt.get("envelope") as JsonObject, key) : false;
  need(!key || signed, "no signature of this key");
  const named = said.section("model");
  need(named.get("root") === model.root, "the receipt names another model", "UNVERIFIABLE");
  const isLaw =
    integerWithin(named.get("arithmetic"), ARITHMETIC_VERSION, ARITHMETIC_VERSION) !== null &&
    integerWithin(named.get("sampling"), LAW_VERSION, LAW_VERSION) !== null;
  need(isLaw, "other versions of the laws", "UNVERIFIABLE");
  const [generation, output] = readGeneration(said, model);
  need(
    said.section("request").get("is_constrained") === false,
    "a grammar chose among the tokens",
    "UNVERIFIABLE",
  );
  const index = integerWithin(said.section("sampling").get("sample"), 0, MAX_COUNT) ?? 0;
  const sequence = await replay(model, generation, index, output);
  checkEnd(sequence, said);
  checkTrace(sequence, said);
  return signed;
}

/**
 * Check a receipt of a server's answer on a model that is open here. With a key given, a signature of that
 * key must be there and hold. Nothing is thrown for what is in the receipt.
 */
export async function verifyReceipt(
  receipt: string | Bytes | object,
  model: Model,
  key?: PublicKey,
): Promise<ReceiptVerdict> {
  const text =
    typeof receipt === "string" ? receipt : receipt instanceof Uint8Array ? null : JSON.stringify(receipt);
  try {
    const signed = await check(text === null ? (receipt as Bytes) : utf8(text), model, key);
    return { word: "ACCEPT", why: "every step, the same bits", step: -1, isSigned: signed };
  } catch (error) {
    if (error instanceof Stop)
      return { word: error.word, why: error.message, step: error.step, isSigned: false };
    if (error instanceof EnvelopeError) {
      const word = error.message.includes("does not hold") ? "REJECT" : "MALFORMED";
      return { word, why: error.message, step: -1, isSigned: false };
    }
    throw error;
  }
}
