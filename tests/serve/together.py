"""Runs generations together on a scheduler, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sevenfold.engine.session import Model
from sevenfold.serve.batching.request import Event, Finished, Generation, GenerationJob
from sevenfold.serve.batching.scheduler import Scheduler
from sevenfold.serve.limits import ServerLimits


@contextmanager
def scheduling(model: Model, limits: ServerLimits) -> Iterator[Scheduler]:
    scheduler = Scheduler(model, limits)
    try:
        yield scheduler
    finally:
        scheduler.close(drain_seconds=5)


def run(scheduler: Scheduler, generations: Sequence[Generation]) -> list[list[Event]]:
    """The events of each, run together."""
    told: list[list[Event]] = [[] for _ in generations]
    left = threading.Semaphore(0)

    def teller(place: int) -> Callable[[list[Event]], None]:
        def tell(events: list[Event]) -> None:
            told[place] += events
            for event in events:
                if isinstance(event, Finished):
                    left.release()

        return tell

    for place, generation in enumerate(generations):
        scheduler.submit(GenerationJob(generation, teller(place)))
    for generation in generations:
        for _ in range(generation.n):
            assert left.acquire(timeout=60)
    return told
