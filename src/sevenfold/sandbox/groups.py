"""Put a confined program into control groups, version 1 or 2, where this process may make them.

The groups limit the memory and the number of processes of the whole tree, and count its processor
time. Where no group can be made, only the limits of single processes (`confined`) apply, and the
facts of the executor record that.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import cache
from itertools import count
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_NUMBERS = count()
_KILL_TRIES = 200
_PAUSE_SECONDS = 0.005


@cache
def parents() -> dict[str, Path]:
    """Return the directories in which groups can be made, by controller. "" stands for version 2."""
    found: dict[str, Path] = {}
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for name in controllers.split(","):
            directory = ROOT / name / place.lstrip("/")
            if name in ("pids", "memory", "cpuacct") and _can_make(directory):
                found[name] = directory
        if not controllers:
            directory = ROOT / place.lstrip("/")
            has = directory / "cgroup.subtree_control"
            with contextlib.suppress(OSError):
                if {"pids", "memory"} <= {*has.read_text(encoding="ascii").split()} and _can_make(directory):
                    found[""] = directory
    return found


def _can_make(directory: Path) -> bool:
    probe = directory / f"sevenfold-{os.getpid()}-probe"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


class Group:
    """The groups of one tree of processes, one for each controller of this machine."""

    def __init__(self, memory_bytes: int, n_processes: int) -> None:
        name = f"sevenfold-{os.getpid()}-{next(_NUMBERS)}"
        self.directories: dict[str, Path] = {}
        for controller, parent in parents().items():
            directory = parent / name
            try:
                directory.mkdir()
            except OSError:
                continue
            self.directories[controller] = directory
        for file, value in (
            ("pids.max", n_processes),
            ("memory.max", memory_bytes),
            ("memory.limit_in_bytes", memory_bytes),
            ("memory.swap.max", 0),
        ):
            for directory in self.directories.values():
                if (directory / file).exists():
                    with contextlib.suppress(OSError):
                        (directory / file).write_text(str(value), encoding="ascii")

    def add(self, pid: int) -> None:
        """Put a process, and the processes that it will start, into the group."""
        for directory in self.directories.values():
            (directory / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def processor_seconds(self) -> float | None:
        """Return the processor time of the tree until now, or None where no group counts it."""
        with contextlib.suppress(OSError, ValueError, StopIteration):
            if (directory := self.directories.get("cpuacct")) is not None:
                return int((directory / "cpuacct.usage").read_text(encoding="ascii")) / 1e9
            if (directory := self.directories.get("")) is not None:
                lines = (directory / "cpu.stat").read_text(encoding="ascii").splitlines()
                return int(next(x for x in lines if x.startswith("usage_usec")).split()[1]) / 1e6
        return None

    def n_out_of_memory(self) -> int:
        """Return how many processes of the tree were killed because it used too much memory."""
        for controller, file in (("memory", "memory.oom_control"), ("", "memory.events")):
            if (directory := self.directories.get(controller)) is not None:
                with contextlib.suppress(OSError, ValueError, StopIteration):
                    return _count(directory / file)
        return 0

    def close(self) -> None:
        """Remove the group. Its processes have been killed."""
        for directory in self.directories.values():
            for _ in range(_KILL_TRIES):
                try:
                    directory.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    # A killed process leaves its group a moment later.
                    time.sleep(_PAUSE_SECONDS)
        self.directories = {}


def _count(path: Path) -> int:
    lines = path.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])


def n_out_of_memory_here() -> int:
    """Return how many processes of this machine were killed because memory ran out."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        return _count(Path("/proc/vmstat"))
    return 0
