/**
 * Build the package: `node build.mjs` makes dist/ from src/, `node build.mjs --tests DIRECTORY` the tests and
 * their tools. The engine's modules are read from WASM_DIR (native/web/build.sh makes them) and become text of
 * the code, so that no bundler has to find a file.
 */

import { build } from "esbuild";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const wasm = resolve(process.env.WASM_DIR ?? join(here, "dist", "wasm"));

/** `import text from "wasm:s7.wasm"` is that file in base64. */
export const wasmModules = {
  name: "wasm",
  setup(bundle) {
    bundle.onResolve({ filter: /^wasm:/ }, (found) => ({ path: found.path.slice(5), namespace: "wasm" }));
    bundle.onLoad({ filter: /.*/, namespace: "wasm" }, (found) => ({
      contents: readFileSync(join(wasm, found.path)).toString("base64"),
      loader: "text",
    }));
  },
};

const options = {
  bundle: true,
  format: "esm",
  target: "es2022",
  // One package for pages and programs: what Node.js alone has is imported when it is there.
  external: ["node:*"],
  plugins: [wasmModules],
  logLevel: "warning",
};

export async function buildPackage(outdir) {
  rmSync(outdir, { recursive: true, force: true });
  await build({
    ...options,
    entryPoints: {
      index: join(here, "src/index.ts"),
      worker: join(here, "src/worker/worker.ts"),
      thread: join(here, "src/engine/wasm/thread.ts"),
    },
    outdir,
    minify: true,
    splitting: true,
    chunkNames: "chunk-[hash]",
  });
}

export async function buildTests(outdir) {
  const found = (folder) =>
    readdirSync(join(here, folder))
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(here, folder, name));
  await build({
    ...options,
    entryPoints: [...found("test"), ...found("test/tools")],
    outbase: join(here, "test"),
    outdir,
    outExtension: { ".js": ".mjs" },
    sourcemap: "inline",
    platform: "node",
  });
  // A thread's entry lies beside whoever starts it.
  const thread = join(here, "src/engine/wasm/thread.ts");
  for (const folder of [outdir, join(outdir, "tools")])
    await build({ ...options, entryPoints: { thread }, outdir: folder });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.indexOf("--tests");
  if (at < 0) await buildPackage(join(here, "dist"));
  else await buildTests(resolve(process.argv[at + 1]));
}
