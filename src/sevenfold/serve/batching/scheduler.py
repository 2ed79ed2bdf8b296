"""Continuous batching of one model: a thread that runs all sequences step by step.

A round (`stepper`) reads a bounded share of the waiting prompts and adds tokens to every running
sequence. The contents of a round change no bit of an answer. They only decide the time. Requests
begin in the order of their arrival, and prompts share a round equally, so no request waits for
ever. The events of a round are sent together at its end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine.native import NativeEngine
from sevenfold.engine.session import Model
from sevenfold.serve.batching.counters import Counters
from sevenfold.serve.batching.guesses import Guesser
from sevenfold.serve.batching.prefix_cache import PrefixCache
from sevenfold.serve.batching.request import Event, GenerationJob
from sevenfold.serve.batching.sequence import Sequence
from sevenfold.serve.batching.stepper import Stepper
from sevenfold.serve.errors import TOO_MANY, UNAVAILABLE, RequestError
from sevenfold.serve.limits import ServerLimits, Switches


class Scheduler:
    """Runs jobs on a model. Public methods may be called from any thread.

    Args:
        speculate, draft: as `Guesser` takes them.
    """

    def __init__(
        self,
        model: Model,
        limits: ServerLimits,
        switches: Switches | None = None,
        *,
        speculate: str = "auto",
        draft: Model | None = None,
    ) -> None:
        if not isinstance(model.engine, NativeEngine):
            raise SevenfoldError(
                f"the server needs the native engine; this machine runs {model.backend!r}",
                remedy="build it with scripts/setup.sh, or use `s7 run`",
            )
        self.model, self.limits, self.counters = model, limits, Counters()
        self.switches = switches or Switches()
        self.cache = PrefixCache(limits.cache_bytes)
        self._engine = model.engine
        self.guesser = Guesser(model, model.engine, speculate, draft)
        end = next(iter(model.tokenizer.roles.ends), None)
        self._stepper = Stepper(model.engine, limits, end, self.counters, self.guesser)
        # The events of the running round.
        self._told: list[tuple[GenerationJob, list[Event]]] = []
        self._waiting: deque[GenerationJob] = deque()
        self._running: list[Sequence] = []
        # The samples of a job after its first one, which wait until the prompt is read.
        self._behind: dict[int, list[Sequence]] = {}
        self._wake = threading.Condition()
        self._is_closing = self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, job: GenerationJob) -> None:
        """Accept a job.

        Raises:
            RequestError: the queue is full (429), or the server is closing (503).
        """
        with self._wake:
            if self._is_closing:
                raise RequestError("the server is closing", remedy="try again", status=UNAVAILABLE)
            if len(self._waiting) >= self.limits.queue:
                self.counters.n_refused += 1
                raise RequestError(
                    f"{self.limits.queue} requests already wait", remedy="try again later", status=TOO_MANY
                )
            job.asked_at = time.monotonic()
            job.on_cancel = self._interrupt
            self._waiting.append(job)
            self._wake.notify()

    @property
    def n_waiting(self) -> int:
        """Return the number of jobs that have not begun."""
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        """Return the number of running sequences."""
        return len(self._running)

    def _interrupt(self) -> None:
        """End the running block after its step. The thread clears the flag before it checks which
        jobs were cancelled.
        """
        self._stepper.interrupt.value = 1

    def close(self, *, drain_seconds: float = 30.0) -> None:
        """Accept no more jobs, let the running ones end within `drain_seconds`, and stop the
        thread.
        """
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join(drain_seconds)
        with self._wake:
            self._is_stopped = True
            self._interrupt()
            self._wake.notify()
        self._thread.join()
        self.cache.shrink(0)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._running or self._is_closing):
                    self._wake.wait()
                if self._is_stopped or (self._is_closing and not self._waiting and not self._running):
                    break
            self._stepper.interrupt.value = 0
            self._drop_cancelled()
            self._admit()
            if self._running:
                self._step()
            self._tell_all()
        for sequence in [*self._running, *(s for behind in self._behind.values() for s in behind)]:
            sequence.end("cancelled", "cancel")
            self._settle(sequence, [])
        self._flush(list(self._waiting))
        self._tell_all()

    def _tell_all(self) -> None:
        told, self._told = self._told, []
        for job, events in told:
            job.tell(events)

    def _flush(self, jobs: Iterable[GenerationJob]) -> None:
        """End jobs that never began."""
        for job in jobs:
            for index in range(job.generation.n):
                sequence = Sequence(job, index, self.model.tokenizer)
                sequence.end("cancelled", "cancel")
                self._settle(sequence, [])

    # ---- the steps of one round ----

    def _drop_cancelled(self) -> None:
        with self._wake:
            gone = [job for job in self._waiting if job.is_cancelled]
            for job in gone:
                self._waiting.remove(job)
        self._flush(gone)
        for sequence in [s for s in self._running if s.job.is_cancelled]:
            for other in [sequence, *self._behind.pop(id(sequence.job), [])]:
                other.end("cancelled", "cancel")
                self._settle(other, [])

    def _admit(self) -> None:
        """Begin waiting jobs while there is room."""
        if self.switches.cache_bytes >= 0:
            self.cache.cap_bytes = self.switches.cache_bytes
            self.cache.shrink(self.cache.cap_bytes)
        while len(self._running) < (self.switches.parallel or self.limits.parallel):
            with self._wake:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            try:
                self._begin(job)
            except SevenfoldError as error:
                for index in range(job.generation.n):
                    sequence = Sequence(job, index, self.model.tokenizer)
                    sequence.end("error", "error", error)
                    self._settle(sequence, [])

    def _begin(self, job: GenerationJob) -> None:
        job.begun_at = time.monotonic()
        generation = job.generation
        first = Sequence(job, 0, self.model.tokenizer)
        # The cache does not hold the logits of a prompt, which scoring needs.
        found = None if generation.echo else self.cache.find(generation.salt, generation.ids)
        if found is None:
            first.session = self._engine.session()
        else:
            first.session, first.n_read = found
            del first.pending[: first.n_read]
        job.n_cached = first.n_read
        self.guesser.begin(first)
        self._running.append(first)
        others = [Sequence(job, index, self.model.tokenizer) for index in range(1, generation.n)]
        if others:
            self._behind[id(job)] = others

    def _step(self) -> None:
        try:
            told = self._stepper.round(self._running, is_forking=bool(self._behind))
        except SevenfoldError as error:
            # The engine changed nothing. All sequences of the round report the error.
            for sequence in list(self._running):
                sequence.end("error", "error", error)
                self._settle(sequence, [])
            return
        for sequence, events, n_tokens, row_V in told:
            if row_V is not None:
                self._fork(sequence, row_V)
            self._tell(sequence, events, n_tokens)

    def _fork(self, first: Sequence, logits_V: Ints) -> None:
        """Begin the other samples of a job after the prompt that its first sample has read."""
        for other in self._behind.pop(id(first.job), []):
            if first.session is None:
                continue
            other.session = first.session.fork(len(first.generation.ids))
            other.n_read, other.pending = len(first.generation.ids), []
            self.guesser.begin(other)
            self._running.append(other)
            if other.generation.max_tokens == 0:
                other.end("length", "limit")
                self._tell(other, [], 0)
            else:
                self._tell(other, [*other.take_logits(logits_V)], 1)

    # ---- events for clients ----

    def _tell(self, sequence: Sequence, events: list[Event], n_tokens: int) -> None:
        self.counters.n_generated += n_tokens
        if n_tokens and not sequence.job.first_at:
            sequence.job.first_at = time.monotonic()
            self.counters.first_token.observe(sequence.job.first_at - sequence.job.asked_at)
        if sequence.finished is not None:
            self._settle(sequence, events)
        elif events:
            self._told.append((sequence.job, events))

    def _settle(self, sequence: Sequence, events: list[Event]) -> None:
        """Report the end of a sample, and store or free its session."""
        finished, job = sequence.finished, sequence.job
        if finished is None:
            return
        if sequence in self._running:
            self._running.remove(sequence)
        job.ended_at = time.monotonic()
        self.counters.ended(finished.reason, job)
        session, sequence.session = sequence.session, None
        if session is not None:
            ids = sequence.held
            if finished.error is None and session.length >= len(ids):
                session.truncate(len(ids))
                self.cache.keep(sequence.generation.salt, ids, session)
            else:
                session.close()
        if sequence.guess is not None:
            sequence.guess.close()
        self._told.append((job, [*events, finished]))
        if finished.error is not None:
            for other in self._behind.pop(id(job), []):
                other.end("error", "error", finished.error)
                self._settle(other, [])
