"""The package as its users have it: the interface, downloads, the built files and their size."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import deno
import pytest
from embed_models import seal_input

from sevenfold.artifact import build_contents, write_artifact
from sevenfold.engine.session import Model

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "web" / "dist"
DEMO = ROOT / "models" / "sevenfold_models" / "demo-1m.s7l"
MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("web") / "model.s7l"
    write_artifact(path, build_contents(seal_input("plain")))
    return path


def test_the_interface(sealed: Path, node: Callable[..., str]) -> None:
    assert node("tools/clients", sealed).splitlines() == ["answered"]


def test_downloads(sealed: Path, node: Callable[..., str]) -> None:
    assert node("tools/download", sealed, 1).splitlines() == ["downloaded"]


def test_size(built: Path) -> None:
    found = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in DIST.glob("*.js")}
    assert sum(found.values()) <= MOST_BYTES, found
    assert {"index.js", "worker.js", "thread.js"} < {*found}


def test_types_are_in_the_package(built: Path, tmp_path: Path) -> None:
    """A program of a user is checked against them, and a wrong use is found."""
    assert built.is_dir()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "sevenfold").symlink_to(DIST.parent)
    lines = [
        'import { Client, MemorySource, Model } from "sevenfold";',
        "const model = await Model.open(new MemorySource(new Uint8Array(4)), { n_threads: 2 });",
        'const answer = await new Client(model).completions.create({ prompt: "a" });',
        "export const text: string | undefined = answer.choices[0]?.text;",
    ]
    flags = ["--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]

    def check(*more: str) -> str:
        (tmp_path / "program.ts").write_text("\n".join([*lines, *more]))
        done = subprocess.run(
            [
                ROOT / "web" / "node_modules" / ".bin" / "tsc", "--ignoreConfig", "--noEmit",
                "--skipLibCheck", "--types", "", *flags, "program.ts",
            ],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        return done.stdout

    assert check() == ""
    assert "TS2322" in check("export const wrong: number = answer.id;")


RUNTIMES = {"node": ["node"], "deno": [str(deno.PROGRAM), "run", "--no-remote", "--allow-read"]}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_built_package_answers(runtime: str, sealed: Path, built: Path, tmp_path: Path) -> None:
    if runtime == "deno" and deno.PROGRAM is None:
        pytest.skip("deno is not here: `make web-tools` installs it")
    program = tmp_path / "program.mjs"
    program.write_text(
        f"""import {{ readFileSync }} from "node:fs";
import {{ Client, MemorySource, Model }} from {json.dumps((DIST / "index.js").as_uri())};
for (const n_threads of [1, 2]) {{
  const model = await Model.open(new MemorySource(readFileSync({json.dumps(str(sealed))})), {{ n_threads }});
  const answer = await new Client(model).completions.create({{ prompt: "def add(", max_tokens: 12 }});
  const refused = await new Client(model).completions.create({{ prompt: "a\\u0007" }}).catch((e) => e.name);
  console.log(JSON.stringify([model.info().n_threads, answer.choices[0].text, refused]));
  model.close();
}}
"""
    )
    done = subprocess.run(
        [*RUNTIMES[runtime], program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with Model.open(sealed, backend="reference").session("def add(") as session:
        text = "".join(session.generate(12))
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [1, text, "GateError"],
        [2, text, "GateError"],
    ]


def test_two_threads_look_at_the_clock(built: Path, tmp_path: Path) -> None:
    """Without a clock the engine cannot see that two threads are slower than one."""
    program = tmp_path / "program.mjs"
    program.write_text(
        f"""
import {{ readFileSync }} from "node:fs";
import {{ loadWeights, MemorySource, readArtifact, WasmEngine }} from {json.dumps(str(DIST / "index.js"))};
const weights = loadWeights(readArtifact(new MemorySource(readFileSync({json.dumps(str(DEMO))}))));
const now = performance.now.bind(performance);
for (const n_threads of [1, 2]) {{
  const engine = await WasmEngine.make(weights, {{ n_threads }});
  let n_looks = 0;
  performance.now = () => (n_looks++, now());
  engine.session().generate([1], 10, []);
  console.log(n_looks);
}}
process.exit(0);
"""
    )
    done = subprocess.run(["node", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    # Before and after each of ten steps; one thread has nothing to choose.
    assert done.stdout.split() == ["0", "20"]


# Hooks of React, as far as a component needs them that is rendered by hand.
REACT = """
const cells = [];
export let at = 0;
export const ends = [];
export function render(component) { at = 0; return component(); }
export function useState(first) {
  const i = at++;
  if (!(i in cells)) cells[i] = first;
  return [cells[i], (next) => { cells[i] = typeof next === "function" ? next(cells[i]) : next; }];
}
export function useRef(first) {
  const i = at++;
  return (cells[i] ??= { current: first });
}
export function useCallback(run) { const i = at++; return (cells[i] ??= run); }
export function useEffect(run) { const i = at++; if (!(i in cells)) { cells[i] = 1; ends.push(run()); } }
"""
HOOKED = """
import { readFileSync } from "node:fs";
import { ends, render } from "react";
import { Client, MemorySource, Model } from "sevenfold";
import { useCompletion } from "sevenfold/react";
const client = new Client(await Model.open(new MemorySource(readFileSync(process.argv[2]))));
const show = () => render(() => useCompletion(client));
const { run } = show();
const body = { prompt: "def add(", max_tokens: 12, ignore_eos: true };
const whole = (await client.completions.create(body)).choices[0].text;
await run(body);
const { text, isRunning, error } = show();
// Another question ends the first: its parts do not mix.
const [first, second] = [run({ ...body, prompt: "import " }), run(body)];
await Promise.all([first, second]);
const again = show().text;
await run({ prompt: "a\\u0007" });
const refused = show().error?.name;
// A component that goes away ends its answer.
const last = run({ ...body, max_tokens: 60 });
ends[0]();
await last;
console.log(JSON.stringify([text === whole, isRunning, error, again === whole, refused]));
"""


def test_the_hook_for_react(sealed: Path, built: Path, tmp_path: Path) -> None:
    assert built.is_dir()
    modules = tmp_path / "node_modules"
    shutil.copytree(DIST, modules / "sevenfold" / "dist")
    shutil.copy(ROOT / "web" / "package.json", modules / "sevenfold")
    (modules / "react").mkdir()
    (modules / "react" / "package.json").write_text('{"type": "module", "exports": "./index.js"}')
    (modules / "react" / "index.js").write_text(REACT)
    (tmp_path / "program.mjs").write_text(HOOKED)
    done = subprocess.run(
        ["node", tmp_path / "program.mjs", sealed], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, False, None, True, "GateError"]
