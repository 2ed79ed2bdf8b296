"""Make shards in this process, in several processes of this machine, or with Ray.

The shards are the same in each case. At most two tasks for each worker are in progress, so memory
does not grow with the corpus. With Ray, all machines must see the shard directory and the directory
of the recipe under one path.
"""

from __future__ import annotations

import itertools
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from sevenfold.core.errors import SevenfoldError, StorageError, UsageError
from sevenfold.core.process.log import Progress
from sevenfold.core.process.modules import require_module
from sevenfold.core.process.worker_pool import process_pool
from sevenfold.corpus.shards import ShardTask, make_shard

_TASKS_A_WORKER = 2
_RAY_WAVE = 64
_RAY_INSTALL = (
    # Later versions give their agents 15 s to start, and no setting changes that.
    "pip install 'ray[data]==2.53.0'"
)
# The pause in seconds before each new attempt.
_RAY_ATTEMPTS, _RAY_PAUSE = 3, 10
# A busy machine takes minutes to start the Python processes of Ray's agents and workers. The
# defaults are 30 and 60 s.
_RAY_PATIENCE = {"RAY_agent_register_timeout_ms": "600000", "RAY_worker_register_timeout_seconds": "600"}


def make_shards(tasks: Iterator[ShardTask], workers: int | str, progress: Progress) -> Iterator[int]:
    """Make every shard. Yield the number of documents of each when it is made.

    Args:
        workers: 1: in this process; more: that many processes; "ray": Ray Data, on the cluster of
            RAY_ADDRESS or on this machine.
        progress: receives messages about attempts to start Ray.

    Raises:
        SevenfoldError: the error of a worker.
        StorageError: a worker was killed, or Ray did not start.
        UsageError: Ray is not installed.
    """
    if workers == "ray":
        yield from _by_ray(tasks, progress)
    elif workers == 1:
        for task in tasks:
            yield _make(task)
    else:
        yield from _by_processes(tasks, int(workers))


def _make(task: ShardTask) -> int:
    make_shard(task)
    return len(task.documents)


def _by_processes(tasks: Iterator[ShardTask], workers: int) -> Iterator[int]:
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


def _by_ray(tasks: Iterator[ShardTask], progress: Progress) -> Iterator[int]:
    with _ray_node(progress):
        data = require_module("ray.data")
        while wave := list(itertools.islice(tasks, _RAY_WAVE)):
            rows = data.from_items(
                [{"task": pickle.dumps(task)} for task in wave], override_num_blocks=len(wave)
            )
            for row in rows.map(_ray_make).take_all():
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, SevenfoldError):
                    raise outcome
                yield outcome


@contextmanager
def _ray_node(progress: Progress) -> Iterator[None]:
    """Yield the ray module while shards are made: with the connection of the caller, the cluster of
    RAY_ADDRESS, or a new local node.
    """
    for name, value in _RAY_PATIENCE.items():
        # This stands before the import, which reads the variables.
        os.environ.setdefault(name, value)
    try:
        ray = require_module("ray")
    except UsageError as error:
        raise UsageError("Ray is not installed", where="workers: ray", remedy=_RAY_INSTALL) from error
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    for attempt in range(1, _RAY_ATTEMPTS + 1):
        progress.note(f"corpus: starting Ray ({address}), attempt {attempt} of {_RAY_ATTEMPTS}")
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, configure_logging=False)
            break
        except Exception as error:
            ray.shutdown()
            progress.note(f"corpus: Ray did not start: {error}")
            if attempt == _RAY_ATTEMPTS:
                raise StorageError(
                    f"Ray {ray.__version__} did not start in {_RAY_ATTEMPTS} attempts: {error}",
                    where="workers: ray",
                    remedy=(
                        "name a running cluster in RAY_ADDRESS, or use --workers N; on a busy machine, where"
                        f" agents start slowly, {_RAY_INSTALL}"
                    ),
                ) from error
            time.sleep(_RAY_PAUSE * attempt)
    try:
        yield
    finally:
        ray.shutdown()


def _ray_make(row: dict[str, bytes]) -> dict[str, bytes]:
    """Make a shard. An error of ours is returned as a value, because Ray wraps what a task raises
    in a class of its own.
    """
    try:
        outcome: object = _make(pickle.loads(row["task"]))
    except SevenfoldError as error:
        outcome = error
    return {"outcome": pickle.dumps(outcome)}
