"""Deno on Mesa's lavapipe, a GPU in software, through wgpu: it shares no code with Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Beside the interpreter of the tests, or wherever a user has it.
PROGRAM = shutil.which("deno", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
DRIVER = next(iter(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json")), None)
HOST = Path(__file__).resolve().with_name("deno_host.mjs")


class DenoError(Exception):
    """A function of the harness failed, or the process ended."""


class Deno:
    """A process that calls functions of web/test/browser/harness.ts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._to, self._from = process.stdin, process.stdout

    def call(self, name: str, *arguments: object) -> Any:
        """Return what a function returns."""
        self._to.write(json.dumps([name, *arguments]) + "\n")
        self._to.flush()
        line = self._from.readline()
        if not line:
            raise DenoError(f"{name}: the process ended")
        said = json.loads(line)
        if "error" in said:
            raise DenoError(f"{name}: {said['error']}")
        return said["value"]


@contextmanager
def deno(harness: Path, folder: Path) -> Iterator[Deno]:
    """Run the harness with the files of a folder, and end it."""
    assert PROGRAM
    environment = os.environ | {"VK_ICD_FILENAMES": str(DRIVER), "NO_COLOR": "1"}
    command = [PROGRAM, "run", "--no-remote", f"--allow-read={harness.parent},{folder}", str(HOST)]
    with subprocess.Popen(
        ["nice", "-n", "5", *command, harness.as_uri(), f"{folder.as_uri()}/"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment,
    ) as process:  # fmt: skip
        try:
            yield Deno(process)
        finally:
            process.kill()
