/** Classes of code points, and the decoder of streams. */

import assert from "node:assert/strict";
import test from "node:test";
import { classOf, LETTER, NUMBER, OTHER, SPACE } from "../src/tokenizer/classes.ts";
import { visibleText } from "../src/core/text.ts";
import { TextStream } from "../src/tokenizer/text.ts";

test("a code point of each class", () => {
  assert.deepEqual(
    ["a", "\u00e9", "\u4e16", "1", "\u0661", " ", "\u00a0", "\n", "_", "\u{1f600}"].map((c) =>
      classOf(c.codePointAt(0)!),
    ),
    [LETTER, LETTER, LETTER, NUMBER, NUMBER, SPACE, SPACE, SPACE, OTHER, OTHER],
  );
});

test("a character appears when its last byte has come", () => {
  const bytes = new TextEncoder().encode("a\u{1f600}\u00e9");
  const stream = new TextStream((id) => bytes.subarray(id, id + 1));
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((id) => stream.feed(id)),
    ["a", "", "", "", "\u{1f600}", ""],
  );
  assert.equal(stream.close(), "\ufffd");
});

test("a terminal is given no control character", () => {
  assert.equal(visibleText("a\u0007\t\u009bb\r\n\u007f"), "a\tb\r\n");
});
