"use strict";
// What a page can check of a receipt by itself (specs/receipt.md): that it is about this text, these
// ids and this model, and that its parts hold together. The steps themselves are proved by a prefill.

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) || [], (pair) => parseInt(pair, 16));
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function words(...numbers) {
  const view = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, i) => view.setUint32(4 * i, number));
  return new Uint8Array(view.buffer);
}

async function idsDigest(ids, salt) {
  return hex(await sha256(joined(salt, words(ids.length, ...ids))));
}

// The root of RFC 6962 over the leaves step || token || digest of the logits.
async function traceRoot(ids, steps) {
  if (!ids.length) return hex(await sha256(new Uint8Array()));
  let level = await Promise.all(ids.map((token, step) =>
    sha256(joined(Uint8Array.of(0), words(step, token), unhex(steps[step])))));
  while (level.length > 1) {
    const above = [];
    for (let i = 0; i + 1 < level.length; i += 2) {
      above.push(await sha256(joined(Uint8Array.of(1), level[i], level[i + 1])));
    }
    if (level.length % 2) above.push(level[level.length - 1]);
    level = above;
  }
  return hex(level[0]);
}

function statementOf(receipt) {
  const bytes = Uint8Array.from(atob(receipt.envelope.payload), (char) => char.charCodeAt(0));
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}

// What does not hold, in words; an empty list when all does.
async function faultsOf(receipt, text, root) {
  const statement = statementOf(receipt);
  const { model, request, output, trace } = statement.predicate;
  const { prompt_ids, output_ids, steps } = receipt;
  const answer = await idsDigest(output_ids, new Uint8Array());
  const [subject] = statement.subject;
  const checks = [
    ["it names another model", model.root === root],
    ["its subject is not the answer", subject.name === "answer" && subject.digest.sha256 === answer],
    ["the ids of the answer are others", output.ids_sha256 === answer && output.n_tokens === output_ids.length],
    ["the prompt is another", request.prompt_sha256 === await idsDigest(prompt_ids, unhex(receipt.salt))],
    ["the text is another", output.text_sha256 === hex(await sha256(new TextEncoder().encode(text)))],
    ["the steps are not as many as the tokens", steps.length === output_ids.length && trace.n_steps === steps.length],
    ["the root of the steps is another",
      steps.length === output_ids.length && trace.root === await traceRoot(output_ids, steps)],
  ];
  return checks.filter(([, holds]) => !holds).map(([fault]) => fault);
}

if (typeof module !== "undefined") module.exports = { faultsOf };
