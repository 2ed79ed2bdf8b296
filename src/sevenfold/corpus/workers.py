"""Who makes the parts: this process, some processes of this machine, or Ray. The parts are the same.

At most two tasks a worker are under way, so memory does not grow with the corpus. Processes are started by spawn: nothing of this
one's threads or memory reaches them. With Ray the part directory and the recipe's must be seen by all machines under one path.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from sevenfold.core.errors import SevenfoldError, StorageError
from sevenfold.corpus.parts import Task, make_part
from sevenfold.corpus.steps.text import need

Refusal = tuple[type[SevenfoldError], str, str, str]
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
            make_part(task)
            yield len(task.documents)
    else:
        yield from _by_processes(tasks, int(workers))


def _attempt(task: Task) -> Refusal | int:
    """Make a part; an error of ours as a value, because exceptions with keyword arguments do not travel."""
    try:
        make_part(task)
    except SevenfoldError as error:
        return type(error), error.what, error.where, error.remedy
    return len(task.documents)


def _open(outcome: Refusal | int) -> int:
    if isinstance(outcome, int):
        return outcome
    kind, what, where, remedy = outcome
    raise kind(what, where=where, remedy=remedy)


def _by_processes(tasks: Iterator[Task], workers: int) -> Iterator[int]:
    waiting: set[Future[Refusal | int]] = set()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for task in tasks:
                waiting.add(pool.submit(_attempt, task))
                if len(waiting) >= _TASKS_A_WORKER * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (_open(future.result()) for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (_open(future.result()) for future in done)
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
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    while wave := list(itertools.islice(tasks, _RAY_WAVE)):
        rows = data.from_items([{"task": pickle.dumps(task)} for task in wave], override_num_blocks=len(wave))
        for row in rows.map(_ray_attempt).take_all():
            yield _open(pickle.loads(row["outcome"]))


def _ray_attempt(row: dict[str, bytes]) -> dict[str, bytes]:
    return {"outcome": pickle.dumps(_attempt(pickle.loads(row["task"])))}
