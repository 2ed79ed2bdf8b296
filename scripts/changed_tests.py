"""Print the test directories of the rooms that changed since a commit
(default: origin/main, else HEAD~1).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A change here can break every room.
EVERYWHERE = ("src/sevenfold/core", "tests/conftest.py", "pyproject.toml")
# Rooms whose tests are in the directory of another room.
TESTED_IN = {"synthetic": "corpus", "plan": "recipe", "runs": "pipeline", "release": "audit"}
# Libraries of native/ whose tests are in the directory of the room that calls them.
NATIVE_TESTED_IN = {"train": "model", "tokens": "tokenizer", "memory": "agent"}
# Top-level files and folders that a directory of tests reads.
OUTSIDE = {
    "docs": "docs",
    "examples": "docs",
    "README.md": "docs",
    "specs": "docs",
    "web": "web",
    "recipes": "recipe",
}


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def changed(base: str | None) -> set[str]:
    """Return the paths that differ from the base, committed or not."""
    if base is None:
        known = set(git("rev-parse", "--symbolic-full-name", "--remotes"))
        base = "origin/main" if any(name.endswith("/origin/main") for name in known) else "HEAD~1"
    return {*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")}


def tests_of(paths: set[str]) -> list[str]:
    """Return the test directories that a set of changed paths asks for."""
    rooms = set()
    for path in paths:
        if path.startswith(EVERYWHERE):
            return ["tests"]
        parts = Path(path).parts
        if parts[:2] == ("src", "sevenfold") and len(parts) > 3:
            rooms.add(TESTED_IN.get(parts[2], parts[2]))
        elif parts[0] == "native" and len(parts) > 2:
            rooms.add(NATIVE_TESTED_IN.get(parts[1], parts[1]))
        elif parts[0] == "tests" and len(parts) > 2:
            rooms.add(parts[1])
        elif parts[0] in OUTSIDE:
            rooms.add(OUTSIDE[parts[0]])
    return sorted(f"tests/{room}" for room in rooms if (ROOT / "tests" / room).is_dir())


if __name__ == "__main__":
    print("\n".join(tests_of(changed(sys.argv[1] if len(sys.argv) > 1 else None))))
