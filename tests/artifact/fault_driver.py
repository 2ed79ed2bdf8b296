"""Writes an artifact again and again, with one system call gone wrong each time (faults.cpp,
preloaded); prints what was left.

    LD_PRELOAD=faults.so python tests/artifact/fault_driver.py faults.so DIRECTORY

One JSON line for each run: mode, whether an old file was there, the call that went wrong, how the
writer ended, the state of the path (none, old, new or torn) and what else lies beside it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "attacks"))
from build_attacks import sample_input, sample_tensor

from sevenfold.artifact import build_contents, write_artifact
from sevenfold.artifact.writer import pack
from sevenfold.core.errors import StorageError

MODES = (
    "killed before the call",
    "killed half-way through a write",
    "the call fails",
    "no write works any more",
)
BIG = [*sample_input().tensors, sample_tensor("zeta.weight", (300, 1000), 3)]  # more than one write
NEW = build_contents(sample_input(tensors=BIG))
OLD = build_contents(sample_input(dictionary=b"{}"))
NEW_BYTES, OLD_BYTES = (b"".join(pack(contents)[1]) for contents in (NEW, OLD))


def state(path: Path) -> str:
    """What a reader of the path finds."""
    if not path.exists():
        return "none"
    data = path.read_bytes()
    return {OLD_BYTES: "old", NEW_BYTES: "new"}.get(data, "torn")


def write(faults: ctypes.CDLL, path: Path, n: int, mode: int, replace: bool) -> tuple[str, int]:
    """Write in a child process; how it ended, and the calls it made."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        ended = "done"
        faults.arm(n, mode)
        try:
            write_artifact(path, NEW, replace=replace)
        except StorageError:
            ended = "refused"
        calls = faults.calls()
        faults.arm(0, 0)
        os.write(writer, f"{ended} {calls}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode().split()
    os.waitpid(child, 0)
    return (said[0], int(said[1])) if said else ("killed", 0)


def runs(faults: ctypes.CDLL, directory: Path) -> Iterator[dict[str, Any]]:
    for old in (False, True):
        _, total = write(faults, directory / "count.s7l", 1 << 30, 0, old)
        for mode in range(len(MODES)):
            for n in range(1, total + 1):
                path = directory / f"{old}-{mode}-{n}" / "new" / "model.s7l"
                if old:
                    write_artifact(path, OLD)
                ended, _ = write(faults, path, n, mode, old)
                found = state(path)
                beside = [p.name for p in path.parent.iterdir() if p != path] if path.parent.exists() else []
                again, _ = write(faults, path, 1 << 30, 0, True)
                yield {
                    "mode": MODES[mode],
                    "old": old,
                    "call": n,
                    "ended": ended,
                    "state": found,
                    "beside": beside,
                    "again": (again, state(path)),
                }


if __name__ == "__main__":
    for run in runs(ctypes.CDLL(sys.argv[1]), Path(sys.argv[2])):
        print(json.dumps(run))
