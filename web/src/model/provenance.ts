/**
 * What a seal says of where a model comes from, for people to read: recipe, roots, sources and their
 * licences. Any provenance is taken; what it does not say is empty or zero.
 */

import { isObject, type Json, type JsonObject, Num } from "../artifact/json.ts";
import type { Artifact } from "../artifact/reader.ts";

/** One source of the corpus under one licence. */
export interface SourceRow {
  readonly source: string;
  readonly version: string;
  readonly licence: string;
  /** How the licence is known. */
  readonly evidence: readonly string[];
  readonly n_train_documents: number;
  readonly n_train_bytes: number;
  readonly n_heldout_documents: number;
  /** Reasons for which documents were left out, and how many. */
  readonly dropped: readonly (readonly [reason: string, n_documents: number])[];
}

export interface Provenance {
  readonly recipe: string;
  readonly recipe_digest: string;
  readonly summary: string;
  readonly code_version: string;
  readonly seed: string;
  readonly dataset_root: string;
  readonly n_parameters: number;
  readonly n_training_tokens: number;
  /** Held-out bits per byte of the integers; 0 where it is not said. */
  readonly bits_per_byte: number;
  readonly sources: readonly SourceRow[];
}

const EMPTY: JsonObject = new Map();
const objectOf = (value: Json | undefined): JsonObject => (isObject(value) ? value : EMPTY);
const textOf = (value: Json | undefined): string =>
  typeof value === "string" ? value : value instanceof Num ? value.text : "";
const numberOf = (value: Json | undefined): number =>
  value instanceof Num && Number.isFinite(value.value) ? value.value : 0;
const listOf = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : []);

function sourceRow(group: JsonObject): SourceRow {
  const [train, heldout] = [objectOf(group.get("train")), objectOf(group.get("heldout"))];
  return {
    source: textOf(group.get("source")),
    version: textOf(group.get("version")),
    licence: textOf(group.get("licence")),
    evidence: listOf(group.get("licence_evidence")).map(textOf),
    n_train_documents: numberOf(train.get("n_documents")),
    n_train_bytes: numberOf(train.get("n_bytes")),
    n_heldout_documents: numberOf(heldout.get("n_documents")),
    dropped: [...objectOf(group.get("dropped"))].map(([reason, count]) => [
      reason,
      numberOf(objectOf(count).get("n_documents")),
    ]),
  };
}

/** The provenance of a file that was read. */
export function provenanceOf(artifact: Artifact): Provenance {
  const identity = objectOf(artifact.json.get("provenance")?.get("identity"));
  const facts = objectOf(identity.get("facts"));
  const train = objectOf(facts.get("train"));
  const groups = listOf(objectOf(facts.get("corpus")).get("groups"));
  return {
    recipe: textOf(identity.get("recipe_name")),
    recipe_digest: textOf(identity.get("recipe_digest")),
    summary: textOf(objectOf(facts.get("recipe")).get("summary")),
    code_version: textOf(identity.get("code_version")),
    seed: textOf(identity.get("training_seed")),
    dataset_root: textOf(identity.get("dataset_root")),
    n_parameters: numberOf(train.get("n_parameters")),
    n_training_tokens: numberOf(train.get("n_tokens")),
    bits_per_byte: numberOf(objectOf(facts.get("quantize")).get("bpb_int")),
    sources: groups.filter(isObject).map(sourceRow),
  };
}
