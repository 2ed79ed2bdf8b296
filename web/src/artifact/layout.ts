/** The constants of specs/artifact.md. Tests hold them equal to `sevenfold.artifact.layout`. */

export const MAGIC = "S7LM";
export const FORMAT_VERSION = 3;
export const HEADER_BYTES = 40;
export const ROOT_OFFSET = 8;
export const LANE_HEAD_BYTES = 5;
export const DIGEST_BYTES = 32;

export const CLASS_DENSE = 1;
export const CLASS_MOE = 2;
export const FLAG_INT8 = 0x01;
export const FLAG_MOE = 0x04;
export const FLAG_PADDED = 0x80;

export const DICT = 1;
export const FIELD = 2;
export const LANE = 3;
export const EDGE = 4;
export const BATCH = 5;
export const LANE_NAMES: Readonly<Record<number, string>> = {
  1: "DICT",
  2: "FIELD",
  3: "LANE",
  4: "EDGE",
  5: "BATCH",
};
export const FOLDS: Readonly<Record<number, string>> = {
  1: "DATA",
  2: "COMPUTE",
  3: "STORAGE",
  4: "CONTROL",
  5: "COMPUTE",
};
export const KNOWN_FOLDS: readonly string[] = ["COMPUTE", "CONTROL", "DATA", "STORAGE"];
/** The kinds that a payload of each lane may have; their order is the order of lanes. */
export const KINDS: Readonly<Record<number, readonly string[]>> = {
  3: ["trace"],
  4: ["control", "graph", "provenance", "seal"],
  5: ["gradient_trace"],
};

export const MAX_LANES = 1024;
export const MAX_LANE_BYTES = 0xffffffff;
export const MAX_DICT_BYTES = 64 * 2 ** 20;
export const MAX_JSON_BYTES = 16 * 2 ** 20;
export const MAX_JSON_DEPTH = 32;
export const MIN_CHUNK_BYTES = 4096;
export const MAX_CHUNK_BYTES = 16 * 2 ** 20;
export const MAX_NAME_BYTES = 255;
export const MAX_RANK = 8;
export const REQUIRED_TENSORS: readonly string[] = ["embedding.weight", "lm_head.weight"];

export const maxJsonBytes = (n: number): number => 524288 + Math.floor(n / 4);
export const maxWideBytes = (n: number): number => 131072 + Math.floor(n / 8);
export const maxJsonValues = (n: number): number => Math.min(2 ** 19, 16384 + Math.floor(n / 512));
export const maxTensors = (n: number): number => Math.min(2 ** 16, 2048 + Math.floor(n / 512));

/** Descriptions of format and rules (rule V7), and of the law's tables. */
export const ABI_HASH = "201104d92f0dba786817afb6b48f367bd6d9b656cf31fcd39cbe56a60a5d31f7";
export const POLICY_HASH = "cb58475e387d3b98bbdd33db6b543582749d9d293429bc232ec9b7aa085144c1";
export const TABLES_DIGEST = "73b2f7e5119f5e12147830809a71d9a742e9bc629468a6706a7d9f1af7ea0117";

/** The lane of a name; 0 where there is none. */
export function laneNamed(name: string): number {
  for (const [id, known] of Object.entries(LANE_NAMES)) if (known === name) return Number(id);
  return 0;
}
