// Calls of web/test/browser/harness.ts in Deno: a line [NAME, ...ARGUMENTS] in, a line {value} or {error} out.
const [harness, folder] = Deno.args;
const { fetch } = globalThis;
globalThis.fetch = (name) => fetch(new URL(name, folder));
await import(harness);
let held = "";
for await (const piece of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (held + piece).split("\n");
  held = lines.pop();
  for (const line of lines) {
    const [name, ...values] = JSON.parse(line);
    const said = await Promise.resolve(globalThis.harness[name](...values)).then(
      (value) => ({ value }),
      (error) => ({ error: String(error?.stack ?? error) }),
    );
    console.log(JSON.stringify(said));
  }
}
