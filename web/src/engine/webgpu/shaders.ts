/**
 * The programs of the engine: one for each operation of the law (law/), and products of its own. A program
 * is the prelude, then the operation.
 */

import argmax from "wgsl:law/argmax.wgsl";
import embed from "wgsl:law/embed.wgsl";
import head from "wgsl:law/head.wgsl";
import heads from "wgsl:law/heads.wgsl";
import join from "wgsl:law/join.wgsl";
import prelude from "wgsl:law/prelude.wgsl";
import residual from "wgsl:law/residual.wgsl";
import rmsNorm from "wgsl:law/rms_norm.wgsl";
import scores from "wgsl:law/scores.wgsl";
import swiglu from "wgsl:law/swiglu.wgsl";
import weights from "wgsl:law/weights.wgsl";
import route from "wgsl:src/engine/webgpu/route.wgsl";
import row from "wgsl:src/engine/webgpu/row.wgsl";
import sum from "wgsl:src/engine/webgpu/sum.wgsl";
import tile from "wgsl:src/engine/webgpu/tile.wgsl";

/** Operations, and the entry point of each. */
export const PROGRAMS = {
  embed: [embed, "embed"],
  route: [route, "route"],
  norm: [rmsNorm, "rms_norm"],
  row: [row, "row"],
  tile: [tile, "tile"],
  heads: [heads, "heads"],
  score: [scores, "score"],
  weigh: [weights, "weigh"],
  sum: [sum, "sum"],
  join: [join, "join"],
  residual: [residual, "add_residual"],
  swiglu: [swiglu, "swiglu"],
  head: [head, "head"],
  argmax: [argmax, "argmax"],
} as const satisfies Readonly<Record<string, readonly [text: string, entry: string]>>;

export type Operation = keyof typeof PROGRAMS;

// What a language without the packed product computes instead; codes are four i8 in a word.
const PLAIN_DOT = `
fn plain_dot(a: u32, b: u32) -> i32 {
    var sum = 0;
    for (var i = 0u; i < 4u; i++) { sum += code_at(a, i) * code_at(b, i); }
    return sum;
}
`;

/** The text of an operation. `isPacked`: the language has `dot4I8Packed`. */
export function programText(operation: Operation, isPacked: boolean): string {
  const text = `${prelude}\n${PROGRAMS[operation][0]}`;
  return isPacked ? text : text.replaceAll("dot4I8Packed(", "plain_dot(") + PLAIN_DOT;
}

/** Which bindings an operation writes, from the first on. */
export function writtenBindings(text: string): boolean[] {
  return [...text.matchAll(/@binding\(\d+\) var<storage, (\w+)>/g)].map(([, mode]) => mode === "read_write");
}
