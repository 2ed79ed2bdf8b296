"""Run the runtimes that prove an export, llama.cpp and our Go program, each in its own process.

They live in an environment that `make interop` builds (S7_INTEROP, else `.interop` of the checkout
or of the working directory), because their pins differ from ours. A missing runtime is always
reported.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sevenfold.core.errors import StorageError
from sevenfold.export.store import Bytes, Floats

DRIVER = Path(__file__).with_name("llama_driver.py")
MISSING = "missing; `make interop` builds it"
# The threads of llama.cpp wait by spinning, which blocks other work on a busy machine.
THREADS = 1


class Runtime(Protocol):
    """The interface of a runtime. Ids are those of the file, and no special token is added."""

    name: str

    def open(self, path: Path, context: int) -> str:
        """Load a file and return the runtime's description of it. Raises StorageError."""

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text. Raises StorageError."""

    def greedy(self, ids: list[int], steps: int) -> list[int]:
        """Return the most likely next token, `steps` times. Raises StorageError."""

    def logits(self, ids: list[int]) -> Floats:
        """Return the logits after each id, float32 [T, V]. Raises StorageError."""


def interop_home() -> Path | None:
    """Return the directory that `make interop` built, or None."""
    named = os.environ.get("S7_INTEROP")
    places = [Path(named)] if named else [Path(__file__).parents[4] / ".interop", Path(".interop")]
    return next((place for place in places if (place / "bin" / "python").is_file()), None)


def go_program() -> Path | None:
    """Return the Go program, or None."""
    home = interop_home()
    return home / "bin" / "s7go" if home and (home / "bin" / "s7go").is_file() else None


class Process:
    """A program that answers one JSON line with another."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="s7-")
        self.folder = Path(self._scratch.name)

    def ask(self, op: str, **request: Any) -> Any:
        """Send one request and return its answer.

        Raises StorageError when the program refuses it or has ended.
        """
        process = self._process
        try:
            if process.stdin is None or process.stdout is None:
                raise BrokenPipeError
            process.stdin.write(json.dumps({"op": op, **request}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise StorageError(f"{self.name} ended (status {process.wait()}) at {op!r}", where=self.name)
        answer = json.loads(line)
        if "error" in answer:
            raise StorageError(str(answer["error"]), where=self.name)
        return answer["ok"]

    def close(self) -> None:
        """End the program."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._scratch.cleanup()

    def open(self, path: Path, context: int) -> str:
        """Load a file."""
        answer = self.ask("open", path=str(path), context=context, threads=THREADS)
        return str(answer["description"])

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return list(self.ask("tokenize", texts=texts))

    def greedy(self, ids: list[int], steps: int) -> list[int]:
        """Return the greedy tokens."""
        return list(self.ask("greedy", ids=ids, steps=steps))

    def logits(self, ids: list[int]) -> Floats:
        """Return the logits after each id, float32 [T, V]."""
        out = self.folder / "logits.npy"
        self.ask("logits", ids=ids, out=str(out))
        return np.asarray(np.load(out), np.float32)

    def quantize(self, type_id: int, values: Floats, importance: Floats | None) -> Bytes:
        """Return the rows in one of llama.cpp's types, uint8 (llama.cpp only)."""
        source, weights, out = (self.folder / f"{name}.npy" for name in ("source", "weights", "out"))
        np.save(source, values)
        if importance is not None:
            np.save(weights, importance)
        given = str(weights) if importance is not None else None
        self.ask("quantize", type=type_id, source=str(source), weights=given, out=str(out))
        return np.asarray(np.load(out), np.uint8)


@contextmanager
def llama_cpp() -> Iterator[Process | None]:
    """Yield llama.cpp, or None when the interop environment is missing."""
    home = interop_home()
    yield from _running("llama.cpp", [str(home / "bin" / "python"), str(DRIVER)] if home else None)


@contextmanager
def go_runtime() -> Iterator[Process | None]:
    """Yield our Go program, or None when it was not built."""
    program = go_program()
    yield from _running("go", [str(program)] if program else None)


def _running(name: str, command: list[str] | None) -> Iterator[Process | None]:
    process = Process(name, command) if command else None
    try:
        yield process
    finally:
        if process:
            process.close()
