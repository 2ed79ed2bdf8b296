"""The package as its users have it: the interface, downloads, the built files and their size."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from embed_models import seal_input

from sevenfold.artifact import build_contents, write_artifact
from sevenfold.engine.session import Model

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "web" / "dist"
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


def test_the_built_package_answers(sealed: Path, built: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.mjs"
    program.write_text(
        f"""import {{ readFileSync }} from "node:fs";
import {{ Client, MemorySource, Model }} from {json.dumps(str(DIST / "index.js"))};
for (const n_threads of [1, 2]) {{
  const model = await Model.open(new MemorySource(readFileSync({json.dumps(str(sealed))})), {{ n_threads }});
  const answer = await new Client(model).completions.create({{ prompt: "def add(", max_tokens: 12 }});
  const refused = await new Client(model).completions.create({{ prompt: "a\\u0007" }}).catch((e) => e.name);
  console.log(JSON.stringify([model.info().n_threads, answer.choices[0].text, refused]));
  model.close();
}}
"""
    )
    done = subprocess.run(["node", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    with Model.open(sealed, backend="reference").session("def add(") as session:
        text = "".join(session.generate(12))
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [1, text, "GateError"],
        [2, text, "GateError"],
    ]
