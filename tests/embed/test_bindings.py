"""The bindings in examples/: Rust, Go and Node.js print what the example in C prints."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from embed_library import ROOT

EXAMPLES = ROOT / "examples"
NODE_HEADERS = Path("/usr/include/node")
PROMPTS = ("def add(left", "gr\u00fc\u00dfe ", "")
Command = list[str | Path]


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")


def rust(tree: Path, out: Path) -> tuple[Command, dict[str, str]]:
    need("rustc")
    library = tree / "lib"
    flags = ["-D", "warnings", "-L", library, "-l", "sevenfold", "-C", f"link-arg=-Wl,-rpath,{library}"]
    subprocess.run(["rustc", EXAMPLES / "embed.rs", *flags, "-o", out / "embed"], check=True)
    return [out / "embed"], {}


def go(tree: Path, out: Path) -> tuple[Command, dict[str, str]]:
    need("go", "gcc")
    library = tree / "lib"
    settings = {
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": f"-I{tree / 'include'}",
        "CGO_LDFLAGS": f"-L{library} -lsevenfold -Wl,-rpath,{library}",
        "GOCACHE": str(out / "cache"),
        "GO111MODULE": "off",
    }
    command = ["go", "build", "-o", out / "embed", EXAMPLES / "embed.go"]
    subprocess.run(command, check=True, env=os.environ | settings)
    return [out / "embed"], {}


def node(tree: Path, out: Path) -> tuple[Command, dict[str, str]]:
    need("node", "gcc")
    if not (NODE_HEADERS / "node_api.h").is_file():
        pytest.skip("no headers of Node.js")
    library, addon = tree / "lib", out / "embed.node"
    includes = [f"-I{tree / 'include'}", f"-I{NODE_HEADERS}"]
    links = [f"-L{library}", "-lsevenfold", f"-Wl,-rpath,{library}", "-o", addon]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, *includes, EXAMPLES / "embed_node.c", *links], check=True)
    return ["node", EXAMPLES / "embed.js"], {"S7F_ADDON": str(addon)}


def reference(tree: Path, out: Path) -> Path:
    need("gcc")
    library, program = tree / "lib", out / "reference"
    links = [f"-L{library}", "-lsevenfold", f"-Wl,-rpath,{library}", "-o", program]
    subprocess.run(["gcc", f"-I{tree / 'include'}", EXAMPLES / "embed.c", *links], check=True)
    return program


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("language", [rust, go, node], ids=lambda build: build.__name__)
def test_a_binding_prints_what_c_prints(
    language: Callable[[Path, Path], tuple[Command, dict[str, str]]],
    tree: Path,
    sealed: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    command, settings = language(tree, tmp_path)
    program = reference(tree, tmp_path)
    for prompt in PROMPTS:
        words = [sealed("plain"), prompt, "12"]
        expected = subprocess.run([program, *words], capture_output=True, check=True)
        done = subprocess.run([*command, *words], capture_output=True, check=False, env=os.environ | settings)
        assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr
    for path, words in ((tmp_path / "no.s7l", "no such file"), (sealed("plain"), "control character")):
        done = subprocess.run(
            [*command, path, "a\x1b"], capture_output=True, text=True, check=False, env=os.environ | settings
        )
        assert done.returncode == 1
        assert words in done.stderr.lower()
