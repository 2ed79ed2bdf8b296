/**
 * The interface of a model, asked in every way; an assertion ends the program.
 *
 * Input: the path of a model.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import type { Engine, EngineSession } from "../../src/engine/engine.ts";
import { Client, EngineError, GateError, MemorySource, Model, WasmEngine } from "../../src/index.ts";

const open = (options = {}) =>
  Model.open(new MemorySource(new Uint8Array(readFileSync(process.argv[2]!))), options);
const model = await open();
assert.equal(await model.replay(), "");
assert.equal(model.info().engine, "wasm");
assert.equal(model.rows.length, 8);
const client = new Client(model, "tiny");
const body = { prompt: "def add(", max_tokens: 24 };
const { choices } = await client.completions.create(body);
const expected = choices[0]!.text!;

// The real client, unmodified.
const openai = new OpenAI({ apiKey: "none", baseURL: "http://model/v1", fetch: client.fetch });
const listed = await openai.models.list();
assert.equal(listed.data[0]!.id, "tiny");
const answer = await openai.completions.create({ model: "tiny", ...body });
assert.equal(answer.choices[0]!.text, expected);
assert.equal(answer.usage!.completion_tokens > 0, true);
let streamed = "";
for await (const part of await openai.completions.create({ model: "tiny", stream: true, ...body }))
  streamed += part.choices[0]?.text ?? "";
assert.equal(streamed, expected);
const messages = [{ role: "user" as const, content: "add two numbers" }];
const chat = await openai.chat.completions.create({
  model: "tiny",
  messages,
  max_tokens: 9,
  temperature: 1,
  seed: 7,
});
let said = "";
const parts = await openai.chat.completions.create({
  model: "tiny",
  messages,
  max_tokens: 9,
  temperature: 1,
  seed: 7,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const part of parts) said += part.choices[0]?.delta.content ?? "";
assert.equal(said, chat.choices[0]!.message.content);
const twice = await client.completions.create({
  ...body,
  prompt: ["def add(", "def add("],
  n: 2,
  temperature: 1,
  seed: 3,
});
assert.equal(twice.choices.length, 4);
assert.equal(twice.choices[0]!.text, twice.choices[2]!.text);

// Refusals name the field and have a status.
const refused = async (wrong: object, status: number, param: string): Promise<void> => {
  const response = await client.fetch("http://x/v1/completions", {
    method: "POST",
    body: JSON.stringify(wrong),
  });
  const { error } = (await response.json()) as { error: { param: string } };
  assert.deepEqual([response.status, error.param], [status, param], JSON.stringify(error));
};
await refused({ prompt: "a\u0007" }, 400, "prompt");
await refused({ prompt: [1, 99999] }, 400, "prompt");
await refused({ prompt: "a", max_tokens: 100000 }, 400, "max_tokens");
await refused({ prompt: "a", temperature: "hot" }, 400, "temperature");
await refused({ prompt: "a", stop: [""] }, 400, "stop");
await refused({ prompt: "a", suffix: "b" }, 501, "suffix");
await refused({ prompt: "a", logprobs: 3 }, 501, "logprobs");
await refused({ prompt: "a", logit_bias: { 99999: 1 } }, 400, "logit_bias");
assert.equal((await client.fetch("http://x/v1/nothing")).status, 404);
assert.equal((await client.fetch("http://x/v1/completions")).status, 405);
const warned = await client.completions.create({ ...body, wibble: 1, frequency_penalty: 1 });
assert.equal(warned.warnings!.length, 2);

// A request that is cancelled ends within a block of tokens.
const controller = new AbortController();
let n_parts = 0;
for await (const part of await client.completions.create(
  { ...body, max_tokens: 60, ignore_eos: true, stream: true as const },
  controller,
)) {
  if (part.choices[0]?.text) ++n_parts;
  if (n_parts === 1) controller.abort();
}
assert.ok(n_parts <= 2, `${n_parts} parts after the abort`);

// Nothing is answered behind a gate that is shut.
const session = model.session("def");
await session.forward(model.promptIds("def"), 1);
session.close();
await assert.rejects(session.forward([1], 1), GateError);

// An engine that is lost in the middle of an answer: the next one goes on with the same bytes.
class Failing implements EngineSession {
  readonly inner: EngineSession;
  readonly left: { n: number };

  constructor(inner: EngineSession, left: { n: number }) {
    this.inner = inner;
    this.left = left;
  }

  get length() {
    return this.inner.length;
  }
  #step() {
    if (this.left.n-- <= 0) throw new EngineError("the device was lost", "gpu");
  }
  forward(ids: readonly number[], n: number) {
    this.#step();
    return this.inner.forward(ids, n);
  }
  generate(ids: readonly number[], n: number, stops: readonly number[]) {
    this.#step();
    return this.inner.generate(ids, n, stops);
  }
  truncate(length: number) {
    this.inner.truncate(length);
  }
  fork(length: number) {
    return this.inner.fork(length);
  }
  keyValues(layer: number, what: "keys" | "values") {
    return this.inner.keyValues(layer, what);
  }
  close() {
    this.inner.close();
  }
}
for (const temperature of [0, 1]) {
  const request = { ...body, temperature, seed: 5, ignore_eos: true, max_tokens: 40 };
  const whole = (await client.completions.create(request)).choices[0]!.text;
  for (let n = 0; n < 12; ++n) {
    const told: string[] = [];
    const lost = await open({
      engines: [
        async (weights: Parameters<typeof WasmEngine.make>[0]): Promise<Engine> => {
          const inner = await WasmEngine.make(weights);
          // The self-test takes its steps first.
          const left = { n: model.golden[0]!.n_steps + n };
          return Object.assign(Object.create(inner) as Engine, {
            name: "webgpu",
            shape: inner.shape,
            n_threads: 1,
            n_bytes: 0,
            detail: "failing",
            session: async () => new Failing(await inner.session(), left),
            close: () => inner.close(),
          });
        },
        WasmEngine.make,
      ],
      onFailOver: (from: string, to: string) => told.push(`${from} ${to}`),
    });
    const found = await new Client(lost).completions.create(request);
    assert.equal(found.choices[0]!.text, whole, `lost after ${n} calls`);
    if (n < 4) assert.deepEqual(told, ["webgpu wasm"]);
    lost.close();
  }
}
model.close();
console.log("answered");
