/** Reads the DICT lane without trust: what decides ids or text is obeyed, or the file is refused. */

import { integerWithin, isObject, type Json, type JsonObject, Num, parseText } from "../artifact/json.ts";
import { reprDouble } from "../artifact/json_write.ts";
import { type Bytes, fromUtf8, utf8 } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";
import * as form from "./form.ts";
import { refuse } from "./form.ts";
import { Bpe, type Encoder, Unigram } from "./merge.ts";
import { codePiece, llama3Piece, type Rule, Symbols } from "./pieces.ts";
import { readSymbols } from "./symbols.ts";

/** What a tokenizer file says. */
export interface TokenizerFile {
  readonly rule: Rule;
  readonly symbols: Symbols;
  readonly encoder: Encoder;
  /** Ids of the special tokens by their names, in the order of the ids. */
  readonly specials: ReadonlyMap<string, number>;
  /** The bytes that each id stands for. */
  readonly vocabulary: readonly Bytes[];
}

// Letters of the vocabulary: a visible byte of Latin-1 is itself, others follow from U+0100 on.
function letters(): Map<string, number> {
  const found = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; ++byte) {
    const isVisible = (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte < 0xad) || byte >= 0xae;
    found.set(String.fromCharCode(isVisible ? byte : next++), byte);
  }
  return found;
}

const LETTERS = letters();

/** The bytes that a name spells; null where a letter is none. */
function spelled(name: string): Bytes | null {
  const bytes = new Uint8Array(name.length);
  for (let i = 0; i < name.length; ++i) {
    const byte = LETTERS.get(name[i]!);
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}

// The largest whole number of 64 bits: where the library's reader stops taking digits.
const MAX_DIGITS = 2n ** 64n - 1n;
const MAX_ID = 2 ** 31 - 1;

/**
 * A score as the library's JSON reader takes it (`as_read` of sevenfold.tokenizer.native): digits over
 * a power of ten, rounded twice.
 */
export function asRead(score: number): number {
  const [mantissa, exponent] = reprDouble(Math.abs(score)).split("e") as [string, string?];
  const [whole, fraction = ""] = mantissa.split(".") as [string, string?];
  let digits = 0n;
  let power = Number(exponent ?? 0);
  for (const [place, digit] of [...(whole + fraction)].entries()) {
    const more = digits * 10n + BigInt(digit);
    if (more > MAX_DIGITS) {
      power += Math.max(0, whole.length - place);
      break;
    }
    digits = more;
    if (place >= whole.length) --power;
  }
  let read = Number(digits);
  for (; power < -308 && read !== 0; power += 308) read /= 1e308;
  const scale = Number(`1e${Math.abs(power)}`);
  const found = power >= 0 ? read * scale : read / scale;
  return score < 0 || Object.is(score, -0) ? -found : found;
}

interface Cutting {
  readonly rule: Rule;
  readonly symbols: Symbols;
  readonly hasProtected: boolean;
}

function readCutting(value: Json | undefined): Cutting {
  const sequence = form.checkFields(value, form.SEQUENCE, "pre_tokenizer");
  const steps = sequence.get("pretokenizers") as Json[];
  if (steps.length !== 2 && steps.length !== 3) refuse("pre_tokenizer has not two or three steps");
  const rules = steps.slice(0, -1).map((step) => {
    const split = form.checkFields(step, form.SPLIT, "Split");
    const pattern = form.checkFields(split.get("pattern"), form.PATTERN, "pattern");
    return pattern.get("Regex") as string;
  });
  form.checkFields(steps[steps.length - 1], form.BYTE_LEVEL, "ByteLevel");
  const place = form.PIECE_RULES.indexOf(rules[rules.length - 1]!);
  if (place < 0) refuse("it cuts text by a rule that this version has not written out");
  const hasProtected = steps.length === 3;
  return {
    rule: place === 0 ? codePiece : llama3Piece,
    symbols: new Symbols(hasProtected ? readSymbols(rules[0]!) : []),
    hasProtected,
  };
}

// Ids by names, in the order of the ids; the vocabulary is compared later.
function readSpecials(added: readonly Json[]): Map<string, number> {
  const tokens = added.map((token): [string, number] => {
    const fields = form.checkFields(token, form.ADDED_TOKEN, "added_tokens");
    const id = integerWithin(fields.get("id"), 0, MAX_ID) ?? refuse("its ids are not 0 to n-1");
    return [fields.get("content") as string, id];
  });
  const specials = new Map(tokens.sort((a, b) => a[1] - b[1]));
  if (specials.size !== tokens.length) refuse("a special token stands twice");
  if (!form.BEGINNINGS.some((name) => specials.has(name))) refuse("none of its special tokens begins a text");
  return specials;
}

function bpeNames(model: JsonObject, specials: ReadonlyMap<string, number>): string[] {
  const vocab = model.get("vocab") as JsonObject;
  // Llama 3 lists its special tokens beside the vocabulary, and not in it.
  const beside = [...specials].filter(([name]) => !vocab.has(name));
  const n = vocab.size + beside.length;
  const names: (string | undefined)[] = Array.from({ length: n });
  const put = (name: string, id: number | null): void => {
    if (id === null || id >= n || names[id] !== undefined) refuse("its ids are not 0 to n-1");
    names[id] = name;
  };
  for (const [name, value] of vocab) put(name, integerWithin(value, 0, n - 1));
  for (const [name, id] of beside) put(name, id);
  return names as string[];
}

function unigramNames(model: JsonObject): { names: string[]; scores: number[] } {
  const names: string[] = [];
  const scores: number[] = [];
  for (const entry of model.get("vocab") as Json[]) {
    const [name, score] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof name !== "string" || !(score instanceof Num) || score.isInteger)
      refuse("an entry is no name with a score");
    if (!Number.isFinite(score.value)) refuse("a score is no finite number");
    names.push(name);
    scores.push(asRead(score.value));
  }
  return { names, scores };
}

// The bytes of every id as a text may hold them. A special token is an entry, too, where it is spelled
// and stands in the vocabulary.
function entriesOf(
  names: readonly string[],
  specials: ReadonlyMap<string, number>,
  isListed: (name: string) => boolean,
): (Bytes | null)[] {
  const seen = new Set<string>();
  const single = new Set<number>();
  const entries = names.map((name) => {
    const bytes = spelled(name);
    if (seen.has(name)) refuse("an entry stands twice");
    seen.add(name);
    if (specials.has(name)) return isListed(name) ? bytes : null;
    if (!bytes) refuse("an entry holds a letter that stands for no byte");
    if (bytes.length === 1) single.add(bytes[0]!);
    return bytes;
  });
  if (single.size < 256) refuse("its vocabulary lacks a byte");
  return entries;
}

function mergePair(merge: Json): [string, string] {
  if (typeof merge === "string") {
    const parts = merge.split(" ");
    if (parts.length === 2) return [parts[0]!, parts[1]!];
  } else if (Array.isArray(merge) && merge.length === 2) {
    const [left, right] = merge;
    if (typeof left === "string" && typeof right === "string") return [left, right];
  }
  return refuse("a merge is not two names");
}

function makeBpe(
  model: JsonObject,
  entries: readonly (Bytes | null)[],
  specials: ReadonlyMap<string, number>,
): Bpe {
  const bpe = new Bpe(model.get("ignore_merges") === true);
  for (const [id, entry] of entries.entries()) if (entry && entry.length > 0) bpe.addEntry(entry, id);
  const vocab = model.get("vocab") as JsonObject;
  const idOf = (name: string): number => {
    const value = vocab.get(name);
    return value instanceof Num ? value.value : refuse("a merge is not one of entries");
  };
  for (const [rank, merge] of (model.get("merges") as Json[]).entries()) {
    const [left, right] = mergePair(merge);
    if (specials.has(left + right)) refuse("a merge makes a special token");
    bpe.addMerge(idOf(left), idOf(right), rank, idOf(left + right));
  }
  return bpe;
}

function parse(dictionary: Bytes): Json {
  const text = fromUtf8(dictionary);
  if (text === null) refuse("the payload is not UTF-8");
  try {
    return parseText(text, "DICT");
  } catch (error) {
    if (error instanceof ArtifactError) refuse(`${error.what} (${error.name})`);
    throw error;
  }
}

/** What a DICT payload says. Throws an `ArtifactError` that names the part which is not obeyed. */
export function readTokenizer(dictionary: Bytes): TokenizerFile {
  const top = form.checkFields(parse(dictionary), form.TOP, "tokenizer");
  form.checkFields(top.get("decoder"), form.DECODER, "decoder");
  const untyped = top.get("model");
  const isBpe = isObject(untyped) && untyped.get("type") === "BPE";
  const model = form.checkFields(untyped, isBpe ? form.BPE : form.UNIGRAM, "model");
  const { rule, symbols, hasProtected } = readCutting(top.get("pre_tokenizer"));
  const specials = readSpecials(top.get("added_tokens") as Json[]);
  if (isBpe && hasProtected && model.get("ignore_merges") !== true)
    refuse("model.ignore_merges is false with protected symbols");
  const { names, scores } = isBpe ? { names: bpeNames(model, specials), scores: [] } : unigramNames(model);
  for (const [name, id] of specials)
    if (names[id] !== name) refuse("a special token has the id of another entry");
  const vocab = model.get("vocab");
  const entries = entriesOf(names, specials, (name) => !isObject(vocab) || vocab.has(name));
  let encoder: Encoder;
  if (isBpe) encoder = makeBpe(model, entries, specials);
  else {
    const unigram = new Unigram();
    for (const [id, entry] of entries.entries())
      if (entry && entry.length > 0) unigram.addEntry(entry, id, scores[id]!);
    encoder = unigram;
  }
  const vocabulary = names.map((name, id) => {
    if (!specials.has(name)) return entries[id]!;
    return form.MARKERS.includes(name) ? utf8(name) : new Uint8Array(0);
  });
  return { rule, symbols, encoder, specials, vocabulary };
}
