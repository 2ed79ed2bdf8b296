// What openai for Node gets of a server: node openai_node.mjs BASE
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 1 });
const messages = [{ role: "user", content: "Write f." }];
const model = "m", max_tokens = 10;
const found = {};
found.models = (await client.models.list()).data.map((m) => m.id);
found.text = (await client.completions.create({ model, prompt: "def f(", max_tokens })).choices[0].text;
found.streamed = "";
const streamed = { model, prompt: "def f(", max_tokens, stream: true };
for await (const part of await client.completions.create(streamed)) {
  found.streamed += part.choices[0]?.text ?? "";
}
const whole = await client.chat.completions.create({ model, messages, max_tokens });
found.chat = whole.choices[0].message.content;
found.chatStreamed = "";
let usage = null;
for await (const part of await client.chat.completions.create({
  model, messages, max_tokens, stream: true, stream_options: { include_usage: true },
})) {
  found.chatStreamed += part.choices[0]?.delta?.content ?? "";
  usage = part.usage ?? usage;
}
found.usage = usage.completion_tokens;
const schema = {
  type: "object", properties: { a: { enum: [1, 2] } }, required: ["a"], additionalProperties: false,
};
found.json = JSON.parse((await client.chat.completions.create({
  model, messages, max_tokens: 60,
  response_format: { type: "json_schema", json_schema: { name: "n", schema } },
})).choices[0].message.content);
const tool = { type: "function", function: { name: "pick", parameters: schema } };
const call = (await client.chat.completions.create({
  model, messages, max_tokens: 60, tools: [tool],
  tool_choice: { type: "function", function: { name: "pick" } },
})).choices[0].message.tool_calls[0];
found.call = [call.function.name, JSON.parse(call.function.arguments)];
for (const [name, request] of [
  ["bad", () => client.completions.create({ model, prompt: "a", n: 1000 })],
  ["embeddings", () => client.embeddings.create({ model, input: "a" })],
]) {
  try { await request(); } catch (error) { found[name] = [error.constructor.name, error.status]; }
}
console.log(JSON.stringify(found));
