/**
 * JSON read without trust: one pass, no key twice, whole characters only, within the caps of
 * specs/artifact.md. It takes what Python's `json` takes, and refuses the rest by the same cause.
 *
 * Numbers stay text, because canonical bytes and whole numbers past 2^53 depend on it.
 */

import { type Bytes, fromUtf8 } from "../core/bytes.ts";
import { ArtifactError } from "../core/errors.ts";
import { MAX_JSON_DEPTH, maxJsonBytes, maxJsonValues, maxWideBytes } from "./layout.ts";

/** A number as it is written. */
export class Num {
  readonly text: string;
  readonly isInteger: boolean;

  constructor(text: string, isInteger: boolean) {
    this.text = text;
    this.isInteger = isInteger;
  }

  get value(): number {
    return Number(this.text);
  }
}

export type Json = null | boolean | string | Num | Json[] | JsonObject;
export type JsonObject = Map<string, Json>;

// Python refuses longer integers, to bound the time that they take.
const MAX_INTEGER_DIGITS = 4300;
// Deeper nesting ends Python's parser before it has seen the whole text.
const MAX_PARSED_DEPTH = 900;
const NUMBER = /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const BLANKS = /[ \t\n\r]*/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

class Parser {
  readonly #text: string;
  readonly #where: string;
  #at = 0;
  #deepest = 0;
  #has_half = false;

  constructor(text: string, where: string) {
    this.#text = text;
    this.#where = where;
  }

  run(): Json {
    const value = this.#value(0);
    this.#blanks();
    if (this.#at < this.#text.length) this.#fail();
    return value;
  }

  get deepest(): number {
    return this.#deepest;
  }

  get hasHalf(): boolean {
    return this.#has_half;
  }

  #fail(): never {
    throw new ArtifactError("JsonError", `the payload is not JSON: character ${this.#at}`, this.#where);
  }

  #blanks(): void {
    BLANKS.lastIndex = this.#at;
    BLANKS.exec(this.#text);
    this.#at = BLANKS.lastIndex;
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#fail();
    this.#at += word.length;
    return value;
  }

  #value(depth: number): Json {
    this.#blanks();
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(depth + 1);
      case "[":
        return this.#list(depth + 1);
      case '"':
        return this.#string();
      case "n":
        return this.#word("null", null);
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      default:
        return this.#number();
    }
  }

  #number(): Num {
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text);
    if (!found) this.#fail();
    const isInteger = found[2] === undefined && found[3] === undefined;
    if (isInteger && found[1]!.length > MAX_INTEGER_DIGITS) this.#fail();
    this.#at = NUMBER.lastIndex;
    return new Num(found[0], isInteger);
  }

  #unit(): number {
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.#fail();
    this.#at += 4;
    return parseInt(digits, 16);
  }

  #escape(): string {
    const letter = this.#text[this.#at++];
    if (letter !== "u") {
      const plain = letter === undefined ? undefined : ESCAPES[letter];
      return plain ?? this.#fail();
    }
    const unit = this.#unit();
    if (unit >= 0xdc00 && unit < 0xe000) this.#has_half = true;
    if (unit < 0xd800 || unit >= 0xdc00) return String.fromCharCode(unit);
    if (this.#text.startsWith("\\u", this.#at)) {
      const behind = this.#at;
      this.#at += 2;
      const second = this.#unit();
      if (second >= 0xdc00 && second < 0xe000) return String.fromCharCode(unit, second);
      this.#at = behind;
    }
    this.#has_half = true;
    return String.fromCharCode(unit);
  }

  #string(): string {
    ++this.#at;
    let found = "";
    for (;;) {
      PLAIN.lastIndex = this.#at;
      found += PLAIN.exec(this.#text)![0];
      this.#at = PLAIN.lastIndex;
      const mark = this.#text[this.#at];
      if (mark !== '"' && mark !== "\\") this.#fail();
      ++this.#at;
      if (mark === '"') return found;
      found += this.#escape();
    }
  }

  #open(depth: number): void {
    ++this.#at;
    this.#deepest = Math.max(this.#deepest, depth);
    if (depth > MAX_PARSED_DEPTH) throw tooDeep(this.#where);
    this.#blanks();
  }

  #object(depth: number): JsonObject {
    this.#open(depth);
    const found: JsonObject = new Map();
    let twice: string | null = null;
    if (this.#text[this.#at] === "}") return (++this.#at, found);
    for (;;) {
      this.#blanks();
      if (this.#text[this.#at] !== '"') this.#fail();
      const key = this.#string();
      this.#blanks();
      this.#word(":", null);
      const value = this.#value(depth);
      if (found.has(key)) twice ??= key;
      found.set(key, value);
      this.#blanks();
      if (this.#text[this.#at] === "}") break;
      this.#word(",", null);
    }
    ++this.#at;
    if (twice !== null) throw new ArtifactError("DuplicateKeyError", "a key is there twice", this.#where);
    return found;
  }

  #list(depth: number): Json[] {
    this.#open(depth);
    const found: Json[] = [];
    if (this.#text[this.#at] === "]") return (++this.#at, found);
    for (;;) {
      found.push(this.#value(depth));
      this.#blanks();
      if (this.#text[this.#at] === "]") return (++this.#at, found);
      this.#word(",", null);
    }
  }
}

function tooDeep(where: string): ArtifactError {
  return new ArtifactError("LimitError", `JSON nested deeper than ${MAX_JSON_DEPTH}`, where);
}

/** What the JSON payloads of one file may still hold together: it bounds the memory that they take. */
export class JsonBudget {
  #n_bytes: number;
  #n_wide_bytes: number;
  #n_values: number;

  constructor(n_bytes: number) {
    this.#n_bytes = maxJsonBytes(n_bytes);
    this.#n_wide_bytes = maxWideBytes(n_bytes);
    this.#n_values = maxJsonValues(n_bytes);
  }

  /** The text of a payload, taken from the budget. */
  decode(payload: Bytes, where: string): string {
    this.#n_bytes -= payload.length;
    this.#check(this.#n_bytes, where);
    let isAscii = true;
    let hasEscape = false;
    let n_values = 0;
    for (let i = 0; i < payload.length; ++i) {
      const byte = payload[i]!;
      if (byte > 0x7f) isAscii = false;
      if (byte === 0x75 && i > 0 && payload[i - 1] === 0x5c) hasEscape = true;
      if (byte === 0x5b || byte === 0x7b || byte === 0x2c) ++n_values;
    }
    if (!isAscii || hasEscape) {
      this.#n_wide_bytes -= payload.length;
      this.#check(this.#n_wide_bytes, where);
    }
    const text = fromUtf8(payload);
    if (text === null) throw new ArtifactError("JsonError", "the payload is not UTF-8", where);
    this.#n_values -= n_values;
    this.#check(this.#n_values, where);
    return text;
  }

  #check(left: number, where: string): void {
    if (left < 0) throw new ArtifactError("LimitError", "more JSON than a file of this size may hold", where);
  }
}

/** Any JSON text, within the rules of payloads. */
export function parseText(text: string, where: string): Json {
  const parser = new Parser(text, where);
  const value = parser.run();
  if (parser.deepest > MAX_JSON_DEPTH) throw tooDeep(where);
  if (parser.hasHalf) throw new ArtifactError("JsonError", "a string holds half a surrogate pair", where);
  return value;
}

/** A payload as an object; an empty one for no bytes. */
export function parseObject(payload: Bytes, where: string, budget: JsonBudget): JsonObject {
  if (payload.length === 0) return new Map();
  const parser = new Parser(budget.decode(payload, where), where);
  const value = parser.run();
  if (!isObject(value)) throw new ArtifactError("JsonError", "the payload is no JSON object", where);
  if (parser.deepest > MAX_JSON_DEPTH) throw tooDeep(where);
  if (parser.hasHalf) throw new ArtifactError("JsonError", "a string holds half a surrogate pair", where);
  return value;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return value instanceof Map;
}

/** A member of an object; undefined for one that is not there, and of what is no object. */
export function member(value: Json | undefined, key: string): Json | undefined {
  return isObject(value) ? value.get(key) : undefined;
}

export function isListOfObjects(value: Json | undefined): value is JsonObject[] {
  return Array.isArray(value) && value.every((item) => isObject(item));
}

/** A whole number from `least` to `most`, else null. A number that is written with a point is none. */
export function integerWithin(value: Json | undefined, least: number, most: number): number | null {
  if (!(value instanceof Num) || !value.isInteger) return null;
  const found = value.value;
  // What is not exact is far outside of every range that is asked for.
  return found >= least && found <= most ? found : null;
}

/** A whole number of any size, 0 or more. */
export function isNatural(value: Json | undefined): boolean {
  return value instanceof Num && value.isInteger && (!value.text.startsWith("-") || value.text === "-0");
}

/** 64 hexadecimal digits in lower case. */
export function isDigest(value: Json | undefined): value is string {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

/** Python's `==` with a whole number: 1, 1.0 and true are equal. */
export function equalsInteger(value: Json | undefined, wanted: number): boolean {
  if (typeof value === "boolean") return Number(value) === wanted;
  return value instanceof Num && value.value === wanted;
}

/** Python's bool(). */
export function isTruthy(value: Json | undefined): boolean {
  if (value === undefined || value === null) return false;
  if (value instanceof Num) return value.value !== 0;
  if (typeof value === "string" || Array.isArray(value)) return value.length > 0;
  return typeof value === "boolean" ? value : value.size > 0;
}
