// Calls of functions in a worker: `remote(WORKER)` in a page, `serve(FUNCTIONS)` in the worker.
export function remote(worker) {
  let n = 0;
  const waiting = new Map();
  worker.onmessage = ({ data: { id, value, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(value);
    else reject(new Error(error));
  };
  return (name, ...values) =>
    new Promise((resolve, reject) => {
      waiting.set(++n, { resolve, reject });
      worker.postMessage({ id: n, name, values });
    });
}

export function serve(functions) {
  globalThis.onmessage = async ({ data: { id, name, values } }) => {
    try {
      postMessage({ id, value: await functions[name](...values) });
    } catch (error) {
      postMessage({ id, error: String(error?.stack ?? error) });
    }
  };
  postMessage({ id: 0 });
}

/** A worker whose script has run. */
export async function started(url) {
  const worker = new Worker(url, { type: "module" });
  await new Promise((resolve, reject) => {
    worker.onmessage = resolve;
    worker.onerror = (event) => reject(new Error(event.message || "the worker's script cannot be loaded"));
  });
  return remote(worker);
}
