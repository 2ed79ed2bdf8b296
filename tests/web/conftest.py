"""The package in web/, built once, and what its tools say in Node.js."""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / name) for name in ("embed", "engine", "attacks", "artifact")]
BUILT = ROOT / "build" / "web"


def missing_tool() -> str:
    """Return what is missing to build web/ and to run it; empty for nothing."""
    if shutil.which("node") is None:
        return "node"
    if importlib.util.find_spec("ziglang") is None:
        return "ziglang"
    return "" if (ROOT / "web" / "node_modules" / "esbuild").is_dir() else "web/node_modules"


@pytest.fixture(scope="session")
def built() -> Path:
    """The directory build/web with the tests and tools as they are in the tree."""
    if reason := missing_tool():
        pytest.skip(f"{reason} is not here: `make web-tools` installs it")
    BUILT.mkdir(parents=True, exist_ok=True)
    # Several processes of pytest may want it at once.
    with (BUILT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [ROOT / "scripts" / "web.sh", sys.executable], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILT


@pytest.fixture(scope="session")
def node(built: Path) -> Callable[..., str]:
    """node(NAME, *arguments) -> standard output of tests/NAME.mjs; a failure says what it printed."""

    def run(name: str, *arguments: object, flags: tuple[str, ...] = ()) -> str:
        program = built / "tests" / f"{name}.mjs"
        done = subprocess.run(
            ["node", *flags, str(program), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT / "web",
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run
