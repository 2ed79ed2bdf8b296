// What a program of a user says, whichever bundler builds it; a test reads the title.
import { WorkerClient } from "sevenfold";

const worker = new Worker(new URL("sevenfold/worker", import.meta.url), { type: "module" });
const client = new WorkerClient(worker);
const body = { prompt: "def add(a, b):\n    ", max_tokens: 24 };
client
  .open({ url: "./demo-1m.s7l", n_threads: 2 })
  .then(async ({ info }) => {
    const { choices } = await client.completions.create(body);
    document.title = JSON.stringify([choices[0].text, info.engine, info.n_threads]);
  })
  .catch((error) => (document.title = `failed: ${error.message}`));
