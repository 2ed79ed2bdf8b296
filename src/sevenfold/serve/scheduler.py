"""Continuous batching of one model: a thread that runs every sequence a step at a time.

A step reads a bounded share of the prompts that wait and gives a token to every sequence that runs,
in one call of the engine. Sums of the law are exact, so a batch, a chunk of a prompt, a fork and a
block of greedy steps change no bit of an answer (specs/arithmetic.md); what a step holds is a matter
of time alone. Requests are begun in the order in which they came, and prompts share a step equally,
so none waits for ever.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

import numpy as np

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.fixed import Ints
from sevenfold.engine.native import NativeEngine, NativeSession
from sevenfold.engine.session import Model
from sevenfold.serve.counters import Counters
from sevenfold.serve.errors import TOO_MANY, UNAVAILABLE, RequestError
from sevenfold.serve.limits import ServerLimits, Switches
from sevenfold.serve.prefix_cache import PrefixCache
from sevenfold.serve.request import Event, GenerationJob, PromptRead, TokenInfo
from sevenfold.serve.sequence import Sequence


class Scheduler:
    """Runs jobs on a model. Public methods may be called from any thread."""

    def __init__(self, model: Model, limits: ServerLimits, switches: Switches | None = None) -> None:
        if not isinstance(model.engine, NativeEngine):
            raise SevenfoldError(
                f"the server needs the native engine; this machine runs {model.backend!r}",
                remedy="build it with scripts/setup.sh, or use `s7 run`",
            )
        self.model, self.limits, self.counters = model, limits, Counters()
        self.switches = switches or Switches()
        self.cache = PrefixCache(limits.cache_bytes)
        self._engine = model.engine
        self._waiting: deque[GenerationJob] = deque()
        self._running: list[Sequence] = []
        # Samples of a job behind its first, which wait until the prompt was read.
        self._behind: dict[int, list[Sequence]] = {}
        self._wake = threading.Condition()
        self._is_closing = self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, job: GenerationJob) -> None:
        """Take a job.

        Raises:
            RequestError: the queue is full (429), or the server is closing (503).
        """
        with self._wake:
            if self._is_closing:
                raise RequestError("the server is closing", remedy="try again", status=UNAVAILABLE)
            if len(self._waiting) >= self.limits.queue:
                self.counters.n_refused += 1
                raise RequestError(
                    f"{self.limits.queue} requests wait already", remedy="try again later", status=TOO_MANY
                )
            job.asked_at = time.monotonic()
            self._waiting.append(job)
            self._wake.notify()

    @property
    def n_waiting(self) -> int:
        """Return the jobs that have not begun."""
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        """Return the sequences that run."""
        return len(self._running)

    def close(self, *, drain_seconds: float = 30.0) -> None:
        """Take no more jobs, end those that run within `drain_seconds`, and stop the thread."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join(drain_seconds)
        with self._wake:
            self._is_stopped = True
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
            self._drop_cancelled()
            self._admit()
            if self._running:
                self._step()
        for sequence in [*self._running, *(s for behind in self._behind.values() for s in behind)]:
            sequence.end("cancelled", "cancel")
            self._settle(sequence, [])
        self._flush(list(self._waiting))

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
        # The rows of a prompt that is to be scored are not in the cache.
        found = None if generation.echo else self.cache.find(generation.salt, generation.ids)
        if found is None:
            first.session = self._engine.session()
        else:
            first.session, first.n_read = found
            del first.pending[: first.n_read]
        job.n_cached = first.n_read
        self._running.append(first)
        others = [Sequence(job, index, self.model.tokenizer) for index in range(1, generation.n)]
        if others:
            self._behind[id(job)] = others

    def _step(self) -> None:
        try:
            reading = [s for s in self._running if s.is_reading]
            if not reading and all(s.generation.is_plain for s in self._running):
                self._greedy_block()
            else:
                self._mixed(reading)
        except SevenfoldError as error:
            # The engine did all or nothing; whoever was in the step is told.
            for sequence in list(self._running):
                sequence.end("error", "error", error)
                self._settle(sequence, [])
        self.counters.n_steps += 1

    def _greedy_block(self) -> None:
        """Give every sequence the same number of greedy tokens, without a return between them."""
        running = list(self._running)
        n = min(self.limits.block_tokens, min(s.n_left for s in running))
        stop = next(iter(self.model.tokenizer.roles.ends), None)
        if any(not s.ends for s in running):
            stop = None
        rows = self._engine.greedy_batch([(_held(s), _ids(s.pending)) for s in running], n, stop=stop)
        for sequence, tokens in zip(running, rows, strict=True):
            before = len(sequence.tokens)
            told: list[Event] = list(sequence.take_tokens(tokens))
            # The engine read all but the last token; the answer may have ended before.
            sequence.n_read += len(tokens)
            self._tell(sequence, told, len(sequence.tokens) - before)

    def _mixed(self, reading: list[Sequence]) -> None:
        """Read a share of the prompts and give each running sequence one token."""
        share = max(1, self.limits.prefill_tokens // max(1, len(reading)))
        calls: list[tuple[Sequence, list[int]]] = []
        for sequence in self._running:
            calls.append((sequence, sequence.pending[:share] if sequence.is_reading else sequence.pending))
        for all_rows in (False, True):
            group = [c for c in calls if (c[0].is_reading and c[0].generation.echo) is all_rows]
            if not group:
                continue
            rows = self._engine.forward_batch(
                [(_held(s), _ids(ids)) for s, ids in group], last_only=not all_rows
            )
            for (sequence, ids), logits in zip(group, rows, strict=True):
                self._read(sequence, ids, logits)

    def _read(self, sequence: Sequence, ids: list[int], logits_TV: Ints) -> None:
        """Go on behind ids that the engine has read."""
        generation, first = sequence.generation, sequence.n_read
        was_reading = sequence.is_reading
        sequence.n_read += len(ids)
        told: list[Event] = []
        if was_reading:
            del sequence.pending[: len(ids)]
            self.counters.n_prompt += len(ids)
            infos: tuple[TokenInfo, ...] = ()
            if generation.echo and generation.n_logprobs is not None:
                infos = sequence.prompt_infos(logits_TV, first)
            is_read = not sequence.pending
            if is_read or infos:
                told.append(PromptRead(sequence.job.n_cached, infos))
            if not is_read:
                self._tell(sequence, told, 0)
                return
            self._fork(sequence, logits_TV[-1])
        self._choose(sequence, logits_TV[-1], told)

    def _choose(self, sequence: Sequence, logits_V: Ints, told: list[Event]) -> None:
        if sequence.generation.max_tokens == 0:
            sequence.end("length", "limit")
            self._tell(sequence, told, 0)
            return
        self._tell(sequence, [*told, *sequence.take_logits(logits_V)], 1)

    def _fork(self, first: Sequence, logits_V: Ints) -> None:
        """Begin the other samples of a job behind the prompt that its first has read."""
        for other in self._behind.pop(id(first.job), []):
            other.session = _held(first).fork()
            other.n_read, other.pending = first.n_read, []
            self._running.append(other)
            self._choose(other, logits_V, [])

    # ---- what clients are told ----

    def _tell(self, sequence: Sequence, events: list[Event], n_tokens: int) -> None:
        self.counters.n_generated += n_tokens
        if n_tokens and not sequence.job.first_at:
            sequence.job.first_at = time.monotonic()
            self.counters.first_token.observe(sequence.job.first_at - sequence.job.asked_at)
        if sequence.finished is not None:
            self._settle(sequence, events)
        elif events:
            sequence.job.tell(events)

    def _settle(self, sequence: Sequence, events: list[Event]) -> None:
        """Tell the end of a sample, and keep or free its session."""
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
        job.tell([*events, finished])
        if finished.error is not None:
            for other in self._behind.pop(id(job), []):
                other.end("error", "error", finished.error)
                self._settle(other, [])


def _held(sequence: Sequence) -> NativeSession:
    if sequence.session is None:
        raise SevenfoldError("a sequence without a session", remedy="please report it")
    return sequence.session


def _ids(ids: list[int]) -> Ints:
    return np.array(ids, np.int64)
