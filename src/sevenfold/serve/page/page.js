"use strict";
// The page of `s7 serve`: one request at a time, streamed, with its receipt. No library.

const byId = (id) => document.getElementById(id);
const PROMPT_LABELS = { complete: "Text to complete", infill: "Text before the gap", chat: "What you say" };
const chat = [];
let running = null;
let root = "";

function mode() {
  return document.querySelector("input[name=mode]:checked").value;
}

function headers() {
  const key = byId("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function about() {
  const reply = await fetch("/v1/models", { headers: headers() });
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.error.message);
  const model = value.data[0];
  root = model.root;
  byId("about").textContent =
    `${model.id}: ${model.meta.n_ctx_train} tokens of context, root ${model.root}`;
}

function body() {
  const max_tokens = Number(byId("tokens").value) || 64;
  const shared = { max_tokens, stream: true, receipt: true };
  if (mode() === "chat") {
    chat.push({ role: "user", content: byId("prompt").value });
    return ["/v1/chat/completions", { ...shared, messages: chat, logprobs: true, top_logprobs: 3 }];
  }
  const suffix = mode() === "infill" ? { suffix: byId("suffix").value } : {};
  return ["/v1/completions", { ...shared, prompt: byId("prompt").value, logprobs: 3, ...suffix }];
}

// Rows of the table, from either form of log-probabilities.
function rowsOf(logprobs) {
  if (!logprobs) return [];
  if (logprobs.content) {
    return logprobs.content.map((t) => [t.token, t.logprob, t.top_logprobs.map((o) => [o.token, o.logprob])]);
  }
  return logprobs.tokens.map((token, i) => [
    token, logprobs.token_logprobs[i], Object.entries(logprobs.top_logprobs[i] || {}),
  ]);
}

function addRow(count, [token, logprob, others]) {
  const row = byId("table").tBodies[0].insertRow();
  const shown = others.map(([name, value]) => `${JSON.stringify(name)} ${value.toFixed(3)}`).join("  ");
  for (const text of [count, JSON.stringify(token), logprob === null ? "" : logprob.toFixed(4), shown]) {
    row.insertCell().textContent = text;
  }
}

function take(value, state) {
  if (value.error) throw new Error(value.error.message);
  if (value.receipt) {
    const text = JSON.stringify(value.receipt[0], null, 1);
    byId("receipt").textContent = text;
    byId("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    byId("save").hidden = false;
    state.receipt = value.receipt[0];
  }
  for (const choice of value.choices || []) {
    const text = choice.text ?? choice.delta?.content ?? "";
    byId("answer").textContent += text;
    for (const row of rowsOf(choice.logprobs)) {
      state.first ||= performance.now();
      addRow(++state.count, row);
    }
  }
}

function verdict(text, holds) {
  byId("verdict").textContent = text;
  byId("verdict").className = holds ? "good" : "error";
}

// Beside the answer: what this page checked itself, then what one prefill on the server says.
async function verify(receipt) {
  if (!receipt) return;
  if (!globalThis.crypto?.subtle) {
    verdict("Receipt: this page has no SHA-256 here (it needs https or localhost).", false);
    return;
  }
  const faults = await faultsOf(receipt, byId("answer").textContent, root);
  if (faults.length) {
    verdict(`Receipt: REJECT, ${faults.join("; ")}.`, false);
    return;
  }
  verdict("Receipt: its digests hold; proving its steps.", true);
  const { id, ...bare } = receipt;
  const reply = await fetch("/v1/receipts/verify", {
    method: "POST", headers: headers(), body: JSON.stringify(bare),
  });
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.error.message);
  verdict(
    `Receipt: digests checked here; one prefill on the server says ${value.verdict} (${value.why}).`,
    value.verdict === "ACCEPT",
  );
}

async function readEvents(reply, state) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data !== "[DONE]") take(JSON.parse(data), state);
    }
  }
}

function clear() {
  for (const id of ["answer", "figures", "receipt", "verdict"]) byId(id).textContent = "";
  byId("answer").classList.remove("error");
  byId("table").tBodies[0].replaceChildren();
  byId("save").hidden = true;
}

function busy(is) {
  byId("go").disabled = is;
  byId("stop").disabled = !is;
}

async function run(event) {
  event.preventDefault();
  clear();
  busy(true);
  running = new AbortController();
  const state = { count: 0, first: 0, begun: performance.now() };
  try {
    const [path, value] = body();
    const reply = await fetch(path, {
      method: "POST", headers: headers(), body: JSON.stringify(value), signal: running.signal,
    });
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    await readEvents(reply, state);
    if (mode() === "chat") chat.push({ role: "assistant", content: byId("answer").textContent });
    const seconds = (performance.now() - state.begun) / 1000;
    const wait = Math.round((state.first || performance.now()) - state.begun);
    byId("figures").textContent =
      `${state.count} tokens, first after ${wait} ms, ${(state.count / seconds).toFixed(0)} tokens/s`;
    await verify(state.receipt);
  } catch (error) {
    if (mode() === "chat") chat.pop();
    if (error.name !== "AbortError") {
      byId("answer").textContent = error.message;
      byId("answer").classList.add("error");
    }
  } finally {
    busy(false);
  }
}

byId("form").addEventListener("submit", run);
byId("stop").addEventListener("click", () => running?.abort());
for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.addEventListener("change", () => {
    byId("suffix-box").hidden = mode() !== "infill";
    byId("prompt-label").textContent = PROMPT_LABELS[mode()];
    chat.length = 0;
  });
}
about().catch((error) => { byId("about").textContent = error.message; });
