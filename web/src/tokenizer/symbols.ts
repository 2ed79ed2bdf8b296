/** Protected symbols out of the expression that holds them: it is taken only letter for letter. */

import { compareText, utf8 } from "../core/bytes.ts";
import { classOf, LETTER, NUMBER } from "./classes.ts";
import { refuse } from "./form.ts";
import type { Symbol } from "./pieces.ts";

const AFTER = "(?![\\p{L}\\p{N}_])";
const AFTER_QUOTE = "(?![\\p{L}\\p{N}_'])";
// What Python's re.escape puts a backslash before.
const ESCAPED = "()[]{}?*+-|^$\\.&~# \t\n\r\v\f";

function fail(): never {
  refuse("its protected symbols are of another form");
}

// Neither letters nor digits: then a blank before it belongs to it.
function isMarksOnly(text: string): boolean {
  return ![...text].some((char) => [LETTER, NUMBER].includes(classOf(char.codePointAt(0)!)));
}

// The alternatives of an expression: bars that no backslash precedes and no brackets hold divide them.
function* alternatives(pattern: string): Generator<string> {
  let inside = false;
  let begin = 0;
  for (let at = 0; at < pattern.length; ++at) {
    if (pattern[at] === "\\") ++at;
    else if (pattern[at] === "[") inside = true;
    else if (pattern[at] === "]") inside = false;
    else if (pattern[at] === "|" && !inside) {
      yield pattern.slice(begin, at);
      begin = at + 1;
    }
  }
  yield pattern.slice(begin);
}

function unescaped(body: string): string {
  let found = "";
  for (let i = 0; i < body.length; ++i) {
    const isEscaped = body[i] === "\\";
    if (isEscaped) ++i;
    const char = body[i];
    // A line end behind a backslash is one that Python does not find again.
    if (char === undefined || char === "\n" || ESCAPED.includes(char) !== isEscaped) fail();
    found += char;
  }
  return found;
}

export function readSymbols(pattern: string): Symbol[] {
  const symbols: Symbol[] = [];
  let before: string | null = null;
  for (const alternative of alternatives(pattern)) {
    const isMarks = alternative.startsWith(" ?");
    const noQuoteAfter = !isMarks && alternative.endsWith(AFTER_QUOTE);
    const after = noQuoteAfter ? AFTER_QUOTE : AFTER;
    if (!isMarks && !alternative.endsWith(after)) fail();
    const body = isMarks ? alternative.slice(2) : alternative.slice(0, -after.length);
    const text = unescaped(body);
    if (text === "" || text.startsWith(" ") || isMarksOnly(text) !== isMarks) fail();
    if (!isMarks && noQuoteAfter !== text.startsWith("'")) fail();
    // The longest first, then by code points.
    if (before !== null) {
      const [longer, now] = [[...before].length, [...text].length];
      if (longer < now || (longer === now && compareText(before, text) > 0)) fail();
    }
    before = text;
    symbols.push({ bytes: utf8(text), isMarks, noQuoteAfter });
  }
  return symbols;
}
