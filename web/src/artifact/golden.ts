/** Golden prompts: what a model that was sealed says on every machine. */

import { isDigest, isNatural, type Json, type JsonObject, Num } from "./json.ts";
import type { Artifact } from "./reader.ts";
import { need } from "./checks.ts";

/** Runs the golden prompts of a file; null when all are as sealed, else what is not. */
export type Replay = (artifact: Artifact, golden: readonly JsonObject[]) => string | null;

function isIds(value: Json | undefined): value is Num[] {
  return Array.isArray(value) && value.every((id) => isNatural(id));
}

/** Refuse a golden prompt that is not of the form (rule V6). */
export function checkGolden(index: number, row: JsonObject): void {
  const where = `golden prompt ${index}`;
  const [ids, tokens, steps] = [row.get("ids"), row.get("tokens"), row.get("n_steps")];
  need(typeof row.get("prompt") === "string", `${where} has no text`);
  need(isIds(ids) && ids.length > 0, `${where} has no token ids`);
  need(isNatural(steps) && (steps as Num).value >= 1, `${where} has the step count of no run`);
  need(
    Array.isArray(tokens) && tokens.length === (steps as Num).value,
    `${where} has not one token for each step`,
  );
  need(isIds(tokens), `${where} has tokens that are no ids`);
  need(isDigest(row.get("logits_sha256")), `${where} has no logits_sha256`);
}

export interface Golden {
  readonly prompt: string;
  /** Chooses an expert stack; "" for none. */
  readonly domain: string;
  readonly ids: readonly number[];
  readonly n_steps: number;
  readonly tokens: readonly number[];
  readonly logits_sha256: string;
}

/** A golden prompt that `checkGolden` took. */
export function readGolden(row: JsonObject): Golden {
  const numbers = (value: Json | undefined): number[] => (isIds(value) ? value.map((id) => id.value) : []);
  const domain = row.get("domain");
  return {
    prompt: String(row.get("prompt")),
    domain: typeof domain === "string" ? domain : "",
    ids: numbers(row.get("ids")),
    n_steps: numbers([row.get("n_steps") ?? null])[0] ?? 0,
    tokens: numbers(row.get("tokens")),
    logits_sha256: String(row.get("logits_sha256")),
  };
}
