"""Who makes the parts: this process, some processes of this machine, or Ray. The parts are the same.

At most two tasks a worker are under way, so memory does not grow with the corpus. With Ray the part directory and the recipe's must
be seen by all machines under one path.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool

from sevenfold.core.errors import SevenfoldError, StorageError
from sevenfold.corpus.parts import Task, make_part
from sevenfold.corpus.pool import process_pool
from sevenfold.corpus.steps.text import need

_TASKS_A_WORKER = 2
_RAY_WAVE = 64


def make_parts(tasks: Iterator[Task], workers: int | str) -> Iterator[int]:
    """Make every part; yields the number of documents of each that is made, as it comes.

    Args:
        workers: 1: here; more: that many processes; "ray": Ray Data, on the cluster of RAY_ADDRESS or on this machine.

    Raises:
        SevenfoldError: what a worker raised.
        StorageError: a worker was killed.
    """
    if workers == "ray":
        yield from _by_ray(tasks)
    elif workers == 1:
        for task in tasks:
            yield _make(task)
    else:
        yield from _by_processes(tasks, int(workers))


def _make(task: Task) -> int:
    make_part(task)
    return len(task.documents)


def _by_processes(tasks: Iterator[Task], workers: int) -> Iterator[int]:
    waiting: set[Future[int]] = set()
    with process_pool(workers) as pool:
        try:
            for task in tasks:
                waiting.add(pool.submit(_make, task))
                if len(waiting) >= _TASKS_A_WORKER * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker of the corpus stage was killed",
                where=f"{workers} workers",
                remedy="run the same command again to go on; with fewer workers if memory was short",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _by_ray(tasks: Iterator[Task]) -> Iterator[int]:
    ray = need("ray")
    data = need("ray.data")
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        except Exception as error:
            raise StorageError(
                f"Ray's node did not start: {error}",
                where="workers: ray",
                remedy="its agents have 15 s to start: try again on a quieter machine, or name a cluster in RAY_ADDRESS",
            ) from error
    while wave := list(itertools.islice(tasks, _RAY_WAVE)):
        rows = data.from_items([{"task": pickle.dumps(task)} for task in wave], override_num_blocks=len(wave))
        for row in rows.map(_ray_make).take_all():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, SevenfoldError):
                raise outcome
            yield outcome


def _ray_make(row: dict[str, bytes]) -> dict[str, bytes]:
    """Make a part; an error of ours as a value, because Ray wraps what a task raises in a class of its own."""
    try:
        outcome: object = _make(pickle.loads(row["task"]))
    except SevenfoldError as error:
        outcome = error
    return {"outcome": pickle.dumps(outcome)}
