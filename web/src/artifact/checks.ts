/** How a rule says that it does not hold. */

import { isListOfObjects, type JsonObject } from "./json.ts";
import type { Artifact } from "./reader.ts";

/** What a check ends with that is not a pass. */
export class Failed extends Error {}

export function need(holds: boolean, detail: string): asserts holds {
  if (!holds) throw new Failed(detail);
}

export function listOf(artifact: Artifact, kind: string, key: string): JsonObject[] {
  const found = artifact.json.get(kind)?.get(key);
  need(isListOfObjects(found), `EDGE ${kind} has no list of objects '${key}'`);
  return found;
}
