/**
 * Ids of texts, and texts of ids: one JSON line each, [ids, text of the ids].
 *
 * Input: the path of a tokenizer file, and that of a JSON list of texts. Texts that are refused give null.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { SevenfoldError } from "../../src/core/errors.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

const [dictionary, texts, to] = process.argv.slice(2);
if (!dictionary || !texts || !to) throw new Error("usage: tokenize DICTIONARY TEXTS LINES");
const tokenizer = new Tokenizer(new Uint8Array(readFileSync(dictionary)));
const rows = (JSON.parse(readFileSync(texts, "utf8")) as string[]).map((text) => {
  try {
    const ids = tokenizer.encode(text);
    return JSON.stringify([ids, tokenizer.decode(ids)]);
  } catch (error) {
    if (error instanceof SevenfoldError) return "null";
    throw error;
  }
});
writeFileSync(to, rows.map((row) => `${row}\n`).join(""));
