"""Train a tiny family on several ranks, attempt by attempt, as torchrun would start
them; some attempts lose a rank.

An attempt is N (that many ranks), N:R@S (rank R is killed behind S steps), N:R!S (it falls silent
there: SIGSTOP) or N:R+S (rank R is asked to stop behind S steps). One interpreter loads PyTorch;
each rank of each attempt is a fork of it. Prints one JSON object for each attempt: exit codes, and
the seconds from the loss to the end of the last rank.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import families
import torch

from sevenfold import pipeline
from sevenfold.core.errors import SevenfoldError
from sevenfold.runs.job import Job
from sevenfold.train import loop
from sevenfold.train.distributed.ranks import process_group
from sevenfold.train.experts import follow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def lose_within(step: int, number: signal.Signals) -> None:
    """Kill or stop this process between the gradients of a step and its end."""
    original = loop.row_squares

    def killed(*args: Any) -> Any:
        if killed.left == 0:  # type: ignore[attr-defined]  # a counter on the function
            os.kill(os.getpid(), number)
        killed.left -= 1  # type: ignore[attr-defined]
        return original(*args)

    begin = loop.TrainingRun.start

    def start(self: loop.TrainingRun) -> None:
        begin(self)
        killed.left = step - self.step  # type: ignore[attr-defined]

    loop.TrainingRun.start, loop.row_squares = start, killed  # type: ignore[method-assign]  # a test's own


def ask_after(step: int) -> None:
    """Ask this process to stop after a step."""
    original = loop.TrainingRun.advance

    def asked(self: loop.TrainingRun, records: Any) -> Any:
        row = original(self, records)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return row

    loop.TrainingRun.advance = asked  # type: ignore[method-assign]


def rank_of_attempt(job: Job, rank: int, size: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    code = 0
    try:
        with process_group() as ranks:
            if ranks.is_first:
                pipeline.make(job, until="train")
            else:
                follow(job)
    except SevenfoldError as error:
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    os._exit(code)


def attempt(job: Job, text: str) -> dict[str, Any]:
    found = re.fullmatch(r"(\d+)(:(\d+)([@!+])(\d+))?", text)
    size, _, victim, kind, step = found.groups()  # type: ignore[union-attr]  # always matches
    children, port = [], free_port()
    for rank in range(int(size)):
        child = os.fork()
        if child == 0:
            if victim is not None and rank == int(victim):
                if kind == "+":
                    ask_after(int(step))
                else:
                    lose_within(int(step), signal.SIGKILL if kind == "@" else signal.SIGSTOP)
            rank_of_attempt(job, rank, int(size), port)
        children.append(child)
    codes: dict[int, int] = {}
    first, silent = 0.0, children[int(victim)] if kind == "!" else 0
    while len(codes) < len(children):
        child, status = os.waitpid(-1, os.WUNTRACED if silent else 0)
        first = first or time.monotonic()
        if os.WIFSTOPPED(status):
            continue
        codes[child] = os.waitstatus_to_exitcode(status)
        if silent and silent not in codes and len(codes) == len(children) - 1:
            os.kill(silent, signal.SIGKILL)
    return {"codes": [codes[child] for child in children], "seconds": time.monotonic() - first}


def main() -> None:
    family, changes, source, out, *attempts = sys.argv[1:]
    values = getattr(families, f"{family}_values")()
    job = families.job_of(values, Path(source), Path(out), **json.loads(changes))
    for text in attempts:
        print(json.dumps(attempt(job, text)), flush=True)


if __name__ == "__main__":
    main()
