/** Shows what the seal says of a model: the rules, the root, where it comes from, and licences. */

import type { Measured, Opened, SourceRow } from "../src/index.ts";
import { bytes, byId, count, describe, make } from "./dom.ts";

const VERDICTS = {
  pass: ["good", "passes"],
  fail: ["bad", "fails"],
  skipped: ["skipped", "skipped"],
} as const;

function sourceLine(row: SourceRow): HTMLElement {
  const licence = make("td", "", row.licence || "unknown");
  // One file's evidence is often a part of another's.
  const evidence = new Set(row.evidence.flatMap((found) => found.split("; ")).filter(Boolean));
  if (evidence.size > 0) licence.append(make("div", "note", [...evidence].join("; ")));
  const dropped = row.dropped.map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(n)}`).join(", ");
  const trained = make("td", "number", row.n_train_bytes > 0 ? bytes(row.n_train_bytes) : "nothing");
  if (row.n_train_documents > 0) trained.append(make("div", "note", `${count(row.n_train_documents)} files`));
  const source = make("td", "", row.source, make("div", "note", row.version));
  return make("tr", "", source, licence, trained, make("td", "", dropped || "none"));
}

function speedLine({ name, n_tokens_per_second, why }: Measured): readonly [string, string] {
  const title = name === "webgpu" ? "WebGPU here" : "WebAssembly here";
  return [title, why || `${count(Math.round(n_tokens_per_second))} tokens/s`];
}

/** Fill the tables of proof and provenance. */
export function showProof({ info, rows, provenance, measured }: Opened): void {
  const n_passed = rows.filter((row) => row.status === "pass").length;
  const verdict = byId("verdict");
  verdict.className = rows.some((row) => row.status === "fail") ? "bad" : "good";
  verdict.textContent = `${n_passed} of ${rows.length} rules pass on this device.`;
  describe(byId("root"), [
    ["Root", make("span", "mono", info.root)],
    ["Engine", info.detail],
    ...measured.map(speedLine),
    ...info.notes.map((note) => ["Note", note] as const),
  ]);
  byId("rules").replaceChildren(
    ...rows.map((row) => {
      const [className, word] = VERDICTS[row.status];
      const what = make("td", "", row.title, make("div", "note", row.detail));
      return make("tr", "", make("th", "", row.id), make("td", className, word), what);
    }),
  );
  const facts: (readonly [string, string | Node])[] = [
    ["Recipe", provenance.recipe],
    ["Recipe digest", make("span", "mono", provenance.recipe_digest)],
    ["Corpus root", make("span", "mono", provenance.dataset_root)],
    ["Parameters", count(provenance.n_parameters)],
    ["Training tokens", count(provenance.n_training_tokens)],
    ["Seed, code version", `${provenance.seed}, ${provenance.code_version}`],
    ["Held-out bits per byte", provenance.bits_per_byte.toFixed(4)],
    ["Vocabulary, context", `${count(info.vocab_size)}, ${count(info.context)}`],
  ];
  describe(
    byId("provenance"),
    facts.filter(([, value]) => value && value !== "0" && value !== "0.0000"),
  );
  byId("sources").replaceChildren(...provenance.sources.map(sourceLine));
}
