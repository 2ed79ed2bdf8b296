/** Ids of text and text of ids, and what ids do: begin, end and pad a text. */

import { isNatural, isObject, type Json, type JsonObject, Num } from "../artifact/json.ts";
import { type Bytes, concat, utf8 } from "../core/bytes.ts";
import { ArtifactError, UsageError } from "../core/errors.ts";
import { BEGINNINGS, PADDINGS } from "./form.ts";
import { cut } from "./pieces.ts";
import { readTokenizer, type TokenizerFile } from "./read.ts";
import { TextStream } from "./text.ts";

/** Token ids by what they do; null where there is none. Any of `ends` ends a text. */
export interface Roles {
  readonly begin: number | null;
  readonly bos: number | null;
  readonly pad: number | null;
  readonly ends: readonly number[];
}

const MAX_ENDS = 64;
// Pieces that are remembered, and the bytes of the longest.
const MAX_CACHED = 1 << 16;
const MAX_CACHED_BYTES = 24;

const latin1 = new TextDecoder("latin1");

function refuseRoles(what: string): never {
  throw new ArtifactError("TokenizerError", `tokens: ${what}`, "EDGE graph", "seal the model again");
}

function readRole(value: Json | undefined): number | null {
  if (value === null) return null;
  if (!isNatural(value)) refuseRoles("a role is a token id, or null");
  return (value as Num).value;
}

/** The roles that a graph names (`tokens`); null where the names of the vocabulary say them. */
function readRoles(graph: JsonObject): Roles | null {
  const tokens = graph.get("tokens");
  if (tokens === undefined || tokens === null) return null;
  const ends = isObject(tokens) && tokens.size === 4 ? tokens.get("ends") : null;
  if (!isObject(tokens) || !Array.isArray(ends) || ends.length > MAX_ENDS)
    refuseRoles("its roles are of another form");
  const all = ends.map(readRole);
  if (all.includes(null)) refuseRoles("an end is a token id");
  return {
    begin: readRole(tokens.get("begin")),
    bos: readRole(tokens.get("bos")),
    pad: readRole(tokens.get("pad")),
    ends: all as number[],
  };
}

export class Tokenizer {
  readonly #file: TokenizerFile;
  readonly #names: ReadonlyMap<number, string>;
  readonly #cache = new Map<string, readonly number[]>();
  readonly roles: Roles;
  /** The id between two documents. */
  readonly boundary: number;

  constructor(dictionary: Bytes, graph: JsonObject = new Map()) {
    this.#file = readTokenizer(dictionary);
    this.#names = new Map([...this.#file.specials].map(([name, id]) => [id, name]));
    const first = (names: readonly string[]): number | null =>
      names.map((name) => this.specialId(name)).find((id) => id !== null) ?? null;
    const named = readRoles(graph);
    const beginning = first(BEGINNINGS)!;
    this.roles = named ?? { begin: beginning, bos: beginning, ends: [beginning], pad: first(PADDINGS) };
    this.boundary =
      [this.roles.begin, ...this.roles.ends, this.roles.bos].find((id) => id !== null) ?? beginning;
    const largest = Math.max(
      -1,
      ...this.roles.ends,
      this.roles.begin ?? -1,
      this.roles.bos ?? -1,
      this.roles.pad ?? -1,
    );
    if (largest >= this.vocabSize) refuseRoles("an id has a role, and is outside the vocabulary");
  }

  get vocabSize(): number {
    return this.#file.vocabulary.length;
  }

  /** Names of the special tokens, in the order of their ids. */
  get specials(): readonly string[] {
    return [...this.#file.specials.keys()];
  }

  /** The name of the special token with this id; null for another token. */
  specialName(id: number): string | null {
    return this.#names.get(id) ?? null;
  }

  /** The id of a special token; null when the vocabulary does not reserve it. */
  specialId(name: string): number | null {
    return this.#file.specials.get(name) ?? null;
  }

  /** Ids of a text, never a special token's. */
  encode(text: string): number[] {
    if (!isWellFormed(text))
      throw new UsageError("the text holds half of a surrogate pair", "text", "remove or replace it");
    const bytes = utf8(text);
    const ids: number[] = [];
    cut(this.#file.rule, this.#file.symbols, bytes, (p, q) => {
      for (const id of this.#piece(bytes.subarray(p, q))) ids.push(id);
    });
    return ids;
  }

  #piece(piece: Bytes): readonly number[] {
    if (piece.length >= MAX_CACHED_BYTES) return this.#file.encoder.encode(piece);
    const key = latin1.decode(piece);
    const known = this.#cache.get(key);
    if (known) return known;
    const ids = this.#file.encoder.encode(piece);
    if (this.#cache.size >= MAX_CACHED) this.#cache.clear();
    this.#cache.set(key, ids);
    return ids;
  }

  /** Ids with what the model saw before a text; one without ids begins with `boundary`. */
  begun(ids: readonly number[]): number[] {
    if (this.roles.begin !== null) return [this.roles.begin, ...ids];
    return ids.length > 0 ? [...ids] : [this.boundary];
  }

  /** The bytes that a token stands for; a marker's name, none for another special token. */
  tokenBytes(id: number): Bytes {
    const bytes = this.#file.vocabulary[id];
    if (!bytes) throw new UsageError(`token id ${id} is outside 0 to ${this.vocabSize - 1}`, "ids");
    return bytes;
  }

  decodeBytes(ids: Iterable<number>): Bytes {
    return concat(...Array.from(ids, (id) => this.tokenBytes(id)));
  }

  /** The text of ids; bytes that are not UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>): string {
    const stream = this.stream();
    return stream.feedBytes(this.decodeBytes(ids)) + stream.close();
  }

  /** A decoder that takes one id at a time. */
  stream(): TextStream {
    return new TextStream((id) => this.tokenBytes(id));
  }
}

function isWellFormed(text: string): boolean {
  for (let i = 0; i < text.length; ++i) {
    const unit = text.charCodeAt(i);
    if (unit < 0xd800 || unit > 0xdfff) continue;
    const next = text.charCodeAt(i + 1);
    if (unit > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return false;
    ++i;
  }
  return true;
}
