/**
 * The form of `tokenizer.json` that is read: every field, and the values that it may have. A field
 * that decides ids or text is obeyed, or the file is refused.
 */

import { isObject, type Json, type JsonObject, Num } from "../artifact/json.ts";
import { ArtifactError } from "../core/errors.ts";

type Form = (value: Json) => boolean;

const isNull: Form = (value) => value === null;
const isText: Form = (value) => typeof value === "string";
const isBool: Form = (value) => typeof value === "boolean";
const isInteger: Form = (value) => value instanceof Num && value.isInteger;
const isList: Form = (value) => Array.isArray(value);
const is =
  (...allowed: readonly Json[]): Form =>
  (value) =>
    allowed.includes(value);

/** A field's form, and whether it must be there. */
type Table = Readonly<Record<string, readonly [Form, "required" | "optional"]>>;

export const TOP: Table = {
  version: [is("1.0"), "optional"],
  truncation: [isNull, "optional"],
  padding: [isNull, "optional"],
  added_tokens: [isList, "required"],
  normalizer: [isNull, "optional"],
  pre_tokenizer: [isObject, "required"],
  post_processor: [isNull, "optional"],
  decoder: [isObject, "required"],
  model: [isObject, "required"],
};
export const ADDED_TOKEN: Table = {
  id: [isInteger, "required"],
  content: [isText, "required"],
  single_word: [is(false), "optional"],
  lstrip: [is(false), "optional"],
  rstrip: [is(false), "optional"],
  normalized: [isBool, "optional"],
  special: [is(true), "required"],
};
export const SEQUENCE: Table = { type: [is("Sequence"), "required"], pretokenizers: [isList, "required"] };
export const SPLIT: Table = {
  type: [is("Split"), "required"],
  pattern: [isObject, "required"],
  behavior: [is("Isolated"), "required"],
  invert: [is(false), "optional"],
};
export const PATTERN: Table = { Regex: [isText, "required"] };
// Absent, `use_regex` is true to the tokenizers library, which is refused.
export const BYTE_LEVEL: Table = {
  type: [is("ByteLevel"), "required"],
  add_prefix_space: [is(false), "required"],
  trim_offsets: [isBool, "optional"],
  use_regex: [is(false), "required"],
};
export const DECODER: Table = {
  type: [is("ByteLevel"), "required"],
  add_prefix_space: [isBool, "optional"],
  trim_offsets: [isBool, "optional"],
  use_regex: [isBool, "optional"],
};
export const BPE: Table = {
  type: [is("BPE"), "required"],
  dropout: [isNull, "optional"],
  unk_token: [(value) => value === null || typeof value === "string", "optional"],
  fuse_unk: [isBool, "optional"],
  byte_fallback: [isBool, "optional"],
  continuing_subword_prefix: [is(null, ""), "optional"],
  end_of_word_suffix: [is(null, ""), "optional"],
  ignore_merges: [isBool, "optional"],
  vocab: [isObject, "required"],
  merges: [isList, "required"],
};
export const UNIGRAM: Table = {
  type: [is("Unigram"), "required"],
  unk_id: [isNull, "optional"],
  byte_fallback: [is(false), "optional"],
  vocab: [isList, "required"],
};

/** The rules of `sevenfold.tokenizer.pieces`: `code` and `llama3`. */
export const PIECE_RULES: readonly string[] = [
  "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+|[\\r\\n]+[ \\t]*|" + "[ \\t]+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" +
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
];
/** The first of these that is reserved precedes every document. */
export const BEGINNINGS: readonly string[] = ["<|endoftext|>", "<bos>", "<s>", "<|begin_of_text|>"];
export const PADDINGS: readonly string[] = ["<pad>", "<|pad|>"];
/** Special tokens that stand for their own names. */
export const MARKERS: readonly string[] = ["<REASON>", "<THINK>", "<FINAL>", "<scratchpad>", "</scratchpad>"];

export function refuse(what: string): never {
  throw new ArtifactError("TokenizerError", what, "DICT", "seal the model again with this version");
}

/** Refuse an object with a field that is missing, unknown, or not obeyed here. */
export function checkFields(value: Json | undefined, table: Table, name: string): JsonObject {
  if (!isObject(value)) refuse(`${name} is no object`);
  for (const [field, [form, how]] of Object.entries(table)) {
    const found = value.get(field);
    if (found === undefined && how === "optional") continue;
    if (found === undefined || !form(found))
      refuse(`the field ${name}.${field} is missing, or has a value that is not obeyed here`);
  }
  for (const field of value.keys())
    if (!Object.hasOwn(table, field)) refuse(`${name} has a field that this version does not know`);
  return value;
}
