/**
 * Answers of a model, and verdicts on receipts: one JSON line each.
 *
 * Input: the path of a model, and that of a JSON object {cases, receipts}. A case is a generation with
 * fractions as pairs and the seed as a text; its line is [ids, text, rule, word, hashes]. A receipt's line
 * is [word, step], and where the path of a public key is given, whether that key signed.
 */

import { readFileSync } from "node:fs";
import {
  type Generation,
  generate,
  MemorySource,
  Model,
  readPublicKey,
  SamplingLaw,
  verifyReceipt,
} from "../../src/index.ts";
import { toHex } from "../../src/core/bytes.ts";

interface Case {
  readonly ids: number[];
  readonly max_tokens: number;
  readonly temperature: [number, number];
  readonly top_k: number;
  readonly min_p: [number, number];
  readonly top_p: [number, number];
  readonly seed: string;
  readonly stops: string[];
  readonly biases: [number, number | null][];
  readonly ignore_end: boolean;
  readonly receipt: boolean;
  readonly sample: number;
}

const [path, wanted, keyPath] = process.argv.slice(2);
const key = keyPath ? await readPublicKey(readFileSync(keyPath, "utf8")) : undefined;
const model = await Model.open(new MemorySource(new Uint8Array(readFileSync(path!))));
const { cases, receipts } = JSON.parse(readFileSync(wanted!, "utf8")) as {
  cases: Case[];
  receipts: unknown[];
};
for (const row of cases) {
  const generation: Generation = {
    ids: row.ids,
    max_tokens: row.max_tokens,
    law: new SamplingLaw({ ...row, seed: BigInt(row.seed) }),
    stops: row.stops,
    biases: new Map(row.biases.map(([token, bias]) => [token, bias ?? -Infinity])),
    ignore_end: row.ignore_end,
    with_hashes: row.receipt,
  };
  const pieces = generate(model, generation, row.sample);
  let text = "";
  let piece = await pieces.next();
  for (; !piece.done; piece = await pieces.next()) text += piece.value;
  const { tokens, finished, leaves } = piece.value;
  if (text !== piece.value.text) throw new Error(`the pieces are ${text}, the text is ${piece.value.text}`);
  console.log(JSON.stringify([tokens, text, finished?.rule, finished?.word, leaves.map(toHex)]));
}
for (const receipt of receipts) {
  const { word, step, isSigned } = await verifyReceipt(JSON.stringify(receipt), model, key);
  console.log(JSON.stringify(key ? [word, step, isSigned] : [word, step]));
}
model.close();
