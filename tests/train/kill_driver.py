"""Trains a recipe in processes that are killed (SIGKILL) at given moments, one after another in one
directory, then lets it end.

    python kill_driver.py FAMILY SOURCE OUT MOMENT...

A moment is a number of events: each step, each record, each part of a checkpoint's write (half of
its bytes, fsync, rename, prune). One interpreter loads PyTorch; each attempt is a fork of it that
has computed nothing yet. Prints the events of each attempt.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import torch

from sevenfold import pipeline
from sevenfold.core import files
from sevenfold.train import gradient_step, loop
from sevenfold.train.checkpoints import checkpoint
from sevenfold.train.recording import records


class Events:
    """Counts down to the kill; the trail says what the last events were."""

    def __init__(self, moment: int | None) -> None:
        self.left, self.trail, self.armed = moment, [""], False

    def happen(self, name: str) -> None:
        if not self.armed:  # the stages before training write files, too
            return
        self.trail.append(name)
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                print(f"killed at {name} after {len(self.trail) - 1} events", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, place: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(place, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.happen(name)
            return original(*args, **options)

        setattr(place, name, counted)

    def write_bytes(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """A checkpoint's write, with a moment when half of it is on the disk."""
        with files.atomic_writer(path, mode) as file:
            file.write(data[: len(data) // 2])
            file.flush()
            self.happen("half")
            file.write(data[len(data) // 2 :])


def attempt(family: str, source: Path, out: Path, moment: int | None) -> None:
    """Run to the end, or to the moment."""
    torch.set_num_threads(1)
    events = Events(moment)
    start = loop.TrainingRun.start

    def armed(self: loop.TrainingRun) -> None:
        start(self)
        events.armed = True
        print(f"from step {self.step}", flush=True)

    loop.TrainingRun.start = armed  # type: ignore[method-assign]  # this process is a test's own
    for place, name in (
        (loop.TrainingRun, "advance"),
        (gradient_step.GradientStep, "run"),
        (records.Records, "metric"),
        (records.Records, "flush"),
        (files, "sync_directory"),
        (files.os, "fsync"),
        (checkpoint, "prune"),
    ):
        events.around(place, name)
    checkpoint.write_bytes = events.write_bytes
    values = getattr(families, f"{family}_values")()
    pipeline.make(families.job_of(values, source, out), until="train")
    print(f"ended after {len(events.trail) - 1} events", flush=True)


def main() -> None:
    family, source, out, *moments = sys.argv[1:]
    for moment in [*map(int, moments), None]:
        child = os.fork()
        if child == 0:
            attempt(family, Path(source), Path(out), moment)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status not in (0, signal.SIGKILL) or (moment is None and status):
            sys.exit(f"moment {moment}: status {status}")
        if (
            moment is not None and status == 0
        ):  # it came to its end before the moment: the next one starts anew
            shutil.rmtree(Path(out) / "train")


if __name__ == "__main__":
    main()
