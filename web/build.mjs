/**
 * Build the package: `node build.mjs` makes dist/ from src/, `node build.mjs --tests DIRECTORY` the tests and
 * their tools, `node build.mjs --site DIRECTORY MODELS` the static site of page/ with the models of a folder. The engine's modules are read from WASM_DIR (native/web/build.sh makes them) and become text of
 * the code, so that no bundler has to find a file.
 */

import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
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

/** `import text from "wgsl:law/heads.wgsl"` is that program for a GPU, without its comments. */
export const gpuPrograms = {
  name: "wgsl",
  setup(bundle) {
    bundle.onResolve({ filter: /^wgsl:/ }, (found) => ({ path: found.path.slice(5), namespace: "wgsl" }));
    bundle.onLoad({ filter: /.*/, namespace: "wgsl" }, (found) => ({
      contents: readFileSync(join(here, found.path), "utf8")
        .replace(/[ \t]*\/\/.*$/gm, "")
        .replace(/^[ \t]+|\n(?=\n)/gm, ""),
      loader: "text",
    }));
  },
};

const options = {
  bundle: true,
  format: "esm",
  target: "es2022",
  // One package for pages and programs: what Node.js alone has is imported when it is there.
  external: ["node:*", "react"],
  plugins: [wasmModules, gpuPrograms],
  logLevel: "warning",
};

/**
 * The entry of a thread, by itself: a bundler that finds it by its URL copies the file, and would not follow
 * what it imports.
 */
async function buildThread(outdir) {
  const thread = join(here, "src/engine/wasm/thread.ts");
  await build({ ...options, entryPoints: { thread }, outdir, minify: true });
}

export async function buildPackage(outdir) {
  rmSync(outdir, { recursive: true, force: true });
  await build({
    ...options,
    entryPoints: {
      index: join(here, "src/index.ts"),
      react: join(here, "src/react/completion.ts"),
      worker: join(here, "src/worker/worker.ts"),
    },
    outdir,
    minify: true,
    splitting: true,
    chunkNames: "chunk-[hash]",
  });
  await buildThread(outdir);
  // What an editor of the package's users reads.
  const tsc = join(here, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [
    tsc,
    "-p",
    join(here, "tsconfig.types.json"),
    "--outDir",
    join(outdir, "types"),
  ]);
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
  // What tests run in a page.
  await build({
    ...options,
    entryPoints: { harness: join(here, "test/browser/harness.ts") },
    outdir: join(outdir, "browser"),
  });
  // A thread's entry lies beside whoever starts it.
  const thread = join(here, "src/engine/wasm/thread.ts");
  for (const folder of [outdir, join(outdir, "tools")])
    await build({ ...options, entryPoints: { thread }, outdir: folder });
}

/** The static site: files of page/ and the entries of the package beside each other. */
export async function buildSite(outdir, models) {
  rmSync(outdir, { recursive: true, force: true });
  await build({
    ...options,
    entryPoints: {
      page: join(here, "page/page.ts"),
      worker: join(here, "src/worker/worker.ts"),
    },
    outdir,
    minify: true,
    splitting: true,
    chunkNames: "chunk-[hash]",
  });
  await buildThread(outdir);
  for (const name of ["index.html", "page.css", "icon.svg"])
    copyFileSync(join(here, "page", name), join(outdir, name));
  const index = join(models, "index.json");
  mkdirSync(join(outdir, "models"));
  if (existsSync(index)) {
    copyFileSync(index, join(outdir, "models", "index.json"));
    for (const { file } of JSON.parse(readFileSync(index, "utf8")).models)
      copyFileSync(join(models, file), join(outdir, "models", file));
  }
  const files = readdirSync(outdir).filter((name) => name !== "models");
  if (existsSync(index)) files.push("models/index.json");
  const digest = createHash("sha256");
  for (const name of files.sort())
    digest
      .update(name)
      .update("\0")
      .update(readFileSync(join(outdir, name)));
  await build({
    ...options,
    format: "iife",
    entryPoints: { service: join(here, "page/service.ts") },
    outdir,
    minify: true,
    define: {
      BUILD: JSON.stringify(digest.digest("hex").slice(0, 16)),
      FILES: JSON.stringify(["./", ...files]),
    },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [what, to, models] = process.argv.slice(2);
  if (what === "--tests") await buildTests(resolve(to));
  else if (what === "--site") await buildSite(resolve(to), resolve(models));
  else await buildPackage(join(here, "dist"));
}
