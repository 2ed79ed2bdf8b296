/** What an operation writes, and the state changes that a file must hold a control record for. */

import { isTruthy, type Json, type JsonObject, Num } from "./json.ts";
import { reprDouble } from "./json_write.ts";
import { FOLDS, LANE_NAMES } from "./layout.ts";
import type { Artifact } from "./reader.ts";

/** Python's str() of a value that is no list and no object; null for one that has none here. */
export function pythonText(value: Json | undefined): string | null {
  if (value === undefined || value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return value;
  if (!(value instanceof Num)) return null;
  if (value.isInteger) return value.text === "-0" ? "0" : value.text;
  return Number.isFinite(value.value) ? reprDouble(value.value) : null;
}

/** What an operation writes; what is no list counts as one. */
export function writesOf(operation: JsonObject): readonly Json[] {
  const value = operation.get("writes");
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** The ids of the lanes that hold something. */
export function storedLanes(artifact: Artifact): Set<number> {
  return new Set(artifact.lanes.filter((lane) => lane.n_bytes > 0).map((lane) => lane.id));
}

/** The fold of each state change by its name: `store NAME`, or `operation INDEX OP` of one that writes. */
export function stateChanges(
  stored: ReadonlySet<number>,
  operations: readonly JsonObject[],
): Map<string, Json | undefined> {
  const changes = new Map<string, Json | undefined>();
  for (const id of stored) changes.set(`store ${LANE_NAMES[id]}`, FOLDS[id]);
  for (const [index, operation] of operations.entries()) {
    if (!isTruthy(operation.get("writes"))) continue;
    // A name that Python cannot say as here is one that no record can hold.
    const name = pythonText(operation.get("op")) ?? "\u0000";
    changes.set(`operation ${index} ${name}`, operation.get("fold"));
  }
  return changes;
}
