/**
 * Pieces of text that no token crosses: the two rules of `sevenfold.tokenizer.pieces`, written out
 * over UTF-8, and protected symbols. A rule is an ordered list of alternatives; each function takes
 * the first that matches, as long as it goes.
 */

import type { Bytes } from "../core/bytes.ts";
import { classOf, LETTER, NUMBER, OTHER, SPACE } from "./classes.ts";

/** Where the piece that begins at `p` ends; p < end. */
export type Rule = (text: Bytes, p: number, end: number) => number;

const LF = 0x0a;
const CR = 0x0d;
const TAB = 0x09;
const BLANK = 0x20;
const QUOTE = 0x27;

// Length and class of the character at `p`, as 8 * length + class.
function at(text: Bytes, p: number, end: number): number {
  const first = text[p]!;
  if (first < 0x80) return 8 + classOf(first);
  const n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
  // A byte that begins no character is one by itself.
  if (n === 1 || end - p < n) return 8 + OTHER;
  let codePoint = first & (0xff >> (n + 1));
  for (let i = 1; i < n; ++i) {
    const byte = text[p + i]!;
    if ((byte & 0xc0) !== 0x80) return 8 + OTHER;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  return 8 * n + classOf(codePoint);
}

const kindOf = (char: number): number => char & 7;
const sizeOf = (char: number): number => char >> 3;
const isLineEnd = (byte: number | undefined): boolean => byte === LF || byte === CR;
const isBlank = (byte: number | undefined): boolean => byte === BLANK || byte === TAB;

function run(kind: number, text: Bytes, p: number, end: number): number {
  while (p < end) {
    const char = at(text, p, end);
    if (kindOf(char) !== kind) break;
    p += sizeOf(char);
  }
  return p;
}

// [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3}; 0 when neither matches.
function wordOrNumber(text: Bytes, p: number, end: number, char: number): number {
  const kind = kindOf(char);
  const next = p + sizeOf(char);
  if (kind === LETTER) return run(LETTER, text, next, end);
  if (kind === NUMBER) {
    let q = next;
    for (let more = 2; more > 0 && q < end; --more) {
      const digit = at(text, q, end);
      if (kindOf(digit) !== NUMBER) break;
      q += sizeOf(digit);
    }
    return q;
  }
  if (isLineEnd(text[p])) return 0;
  const q = run(LETTER, text, next, end);
  return q > next ? q : 0;
}

// ' ?[^\s\p{L}\p{N}]+'; 0 when it does not match.
function marks(text: Bytes, p: number, end: number, char: number): number {
  if (kindOf(char) === OTHER) return run(OTHER, text, p + sizeOf(char), end);
  if (text[p] !== BLANK) return 0;
  const q = run(OTHER, text, p + 1, end);
  return q > p + 1 ? q : 0;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d); 0 when it does not match. U+017F is an s of another case.
function contraction(text: Bytes, p: number, end: number): number {
  if (text[p] !== QUOTE || end - p < 2) return 0;
  const letters = String.fromCharCode(text[p + 1]!, end - p > 2 ? text[p + 2]! : 0).toLowerCase();
  if (text[p + 1]! < 0x80 && "stmd".includes(letters[0]!)) return p + 2;
  if (["re", "ve", "ll"].includes(letters)) return p + 3;
  return end - p > 2 && text[p + 1] === 0xc5 && text[p + 2] === 0xbf ? p + 3 : 0;
}

export const codePiece: Rule = (text, p, end) => {
  const char = at(text, p, end);
  const word = wordOrNumber(text, p, end, char) || marks(text, p, end, char);
  if (word > 0) return word;
  let q = p;
  if (isLineEnd(text[p])) {
    // [\r\n]+[ \t]*
    while (q < end && isLineEnd(text[q])) ++q;
    while (q < end && isBlank(text[q])) ++q;
    return q;
  }
  // [ \t]+(?!\S)
  while (q < end && isBlank(text[q])) ++q;
  if (q > p && (q === end || kindOf(at(text, q, end)) === SPACE)) return q;
  if (q - p > 1) return q - 1;
  return run(SPACE, text, p, end);
};

export const llama3Piece: Rule = (text, p, end) => {
  const short = contraction(text, p, end);
  if (short > 0) return short;
  const char = at(text, p, end);
  const word = wordOrNumber(text, p, end, char);
  if (word > 0) return word;
  let q = marks(text, p, end, char);
  if (q > 0) {
    while (q < end && isLineEnd(text[q])) ++q;
    return q;
  }
  let afterLineEnd = 0;
  let last = p;
  for (q = p; q < end;) {
    const next = at(text, q, end);
    if (kindOf(next) !== SPACE) break;
    last = q;
    q += sizeOf(next);
    if (isLineEnd(text[last])) afterLineEnd = q;
  }
  // \s*[\r\n]+, then \s+(?!\S) | \s+
  if (afterLineEnd > 0) return afterLineEnd;
  return q === end || last === p ? q : last;
};

/** A protected symbol, and what may stand around it. */
export interface Symbol {
  readonly bytes: Bytes;
  readonly isMarks: boolean;
  readonly noQuoteAfter: boolean;
}

/** Symbols in the order in which they are tried, found by their first byte. */
export class Symbols {
  readonly #byFirst = new Map<number, Symbol[]>();

  constructor(symbols: readonly Symbol[]) {
    for (const symbol of symbols) {
      const first = symbol.bytes[0]!;
      this.#byFirst.set(first, [...(this.#byFirst.get(first) ?? []), symbol]);
    }
  }

  // Where the symbol at `p` ends; 0 when there is none.
  #match(text: Bytes, p: number, end: number, afterBlank: boolean): number {
    for (const { bytes, isMarks, noQuoteAfter } of this.#byFirst.get(text[p]!) ?? []) {
      if (afterBlank && !isMarks) continue;
      const q = p + bytes.length;
      if (q > end || !bytes.every((byte, i) => text[p + i] === byte)) continue;
      if (q < end && !isMarks) {
        const kind = kindOf(at(text, q, end));
        if (kind === LETTER || kind === NUMBER || text[q] === 0x5f) continue;
      }
      if (q < end && noQuoteAfter && text[q] === QUOTE) continue;
      return q;
    }
    return 0;
  }

  /** The leftmost symbol from `p` on, where it begins and ends; null when there is none. */
  find(text: Bytes, p: number, end: number): [number, number] | null {
    if (this.#byFirst.size === 0) return null;
    for (; p < end; ++p) {
      const blank = text[p] === BLANK && p + 1 < end;
      const last = blank ? this.#match(text, p + 1, end, true) : this.#match(text, p, end, false);
      if (last > 0) return [p, last];
    }
    return null;
  }
}

/** Every piece of a text, in order. */
export function cut(rule: Rule, symbols: Symbols, text: Bytes, take: (p: number, q: number) => void): void {
  const pieces = (p: number, stop: number): void => {
    while (p < stop) {
      const next = rule(text, p, stop);
      take(p, next);
      p = next;
    }
  };
  let p = 0;
  for (;;) {
    const found = symbols.find(text, p, text.length);
    if (!found) return pieces(p, text.length);
    pieces(p, found[0]);
    pieces(found[0], found[1]);
    p = found[1];
  }
}
