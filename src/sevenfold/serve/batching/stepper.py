"""One round of a batch: which positions of which sequences the engine reads, and what comes of them.

Where every sequence is greedy and nothing of its logits is wanted, a round is a block: prompts and
steps in one call of the engine, without a return to Python between the tokens. Else a round is one
pass, and each row of logits is looked at here. A pass checks guesses, too (engine.speculation).
Sums of the law are exact, so what a round holds changes no bit of an answer (specs/arithmetic.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Items
from ctypes import c_int32
from typing import NamedTuple

import numpy as np

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine.native import NativeEngine, NativeSession
from sevenfold.serve.batching.counters import Counters
from sevenfold.serve.batching.guesses import Guesser
from sevenfold.serve.batching.request import Event, PromptRead, TokenInfo
from sevenfold.serve.batching.sequence import Sequence
from sevenfold.serve.limits import ServerLimits

# Seconds of this thread that a block takes about: a request that comes meanwhile waits for its end.
BLOCK_SECONDS = 0.008
# Steps of a block in which a prompt ends: its first token is wanted soon.
FIRST_STEPS = 4


class Told(NamedTuple):
    """What a round did for one sequence."""

    sequence: Sequence
    events: list[Event]
    n_tokens: int
    # Logits behind a prompt that was just read; None elsewhere.
    logits: Ints | None = None


class Call(NamedTuple):
    """Ids that one sequence reads in a pass; the last `n_guessed` of them are guesses."""

    sequence: Sequence
    ids: list[int]
    n_guessed: int = 0


class Stepper:
    """Runs rounds. Used by one thread; `interrupt` is written by others, and ends a block."""

    def __init__(
        self,
        engine: NativeEngine,
        limits: ServerLimits,
        end: int | None,
        counters: Counters,
        guesser: Guesser,
    ) -> None:
        self._engine, self._limits, self._end = engine, limits, end
        self._counters, self._guesser = counters, guesser
        self.interrupt = c_int32(0)
        self._step_seconds = BLOCK_SECONDS

    def round(self, running: Items[Sequence], *, is_forking: bool) -> list[Told]:
        """Return what became of each sequence.

        Args:
            is_forking: logits behind the prompts are wanted, for samples that begin there.

        Raises:
            SevenfoldError: the engine refused or failed; nothing is changed then.
        """
        reading = [s for s in running if s.is_reading]
        is_plain = not is_forking and all(s.generation.is_plain for s in running)
        share = max(1, self._limits.prefill_tokens // max(1, len(reading)))
        calls = [Call(s, s.pending[:share] if s.is_reading else s.pending) for s in running]
        guessed = self._guesser.add(calls, n_reading=len(reading), is_plain=is_plain)
        self._counters.n_steps += 1
        if is_plain and guessed is None:
            return self._block(calls)
        return self._pass(guessed or calls)

    # ---- blocks ----

    def _block(self, calls: list[Call]) -> list[Told]:
        most = max(1, min(self._limits.block_tokens, int(BLOCK_SECONDS / self._step_seconds)))
        if any(_ends_prompt(call) for call in calls):
            most = min(most, FIRST_STEPS)
        limits = [self._steps(call, most) for call in calls]
        stop = self._end if all(call.sequence.ends for call in calls) else None
        began = time.thread_time()
        rows = self._engine.decode_batch(
            [(_held(call.sequence), _ids(call.ids)) for call in calls],
            limits,
            stop=stop,
            interrupt=self.interrupt,
        )
        if not any(call.sequence.is_reading for call in calls):
            self._step_seconds = (time.thread_time() - began) / max(map(len, rows))
        return [self._took(call, tokens) for call, tokens in zip(calls, rows, strict=True)]

    @staticmethod
    def _steps(call: Call, most: int) -> int:
        if call.sequence.is_reading and not _ends_prompt(call):
            return 0
        return min(most, call.sequence.n_left)

    def _took(self, call: Call, tokens: list[int]) -> Told:
        sequence, told = call.sequence, list[Event]()
        # The last token is not read yet; the answer may have ended before.
        sequence.n_read += len(call.ids) + max(0, len(tokens) - 1)
        if sequence.is_reading:
            self._count_prompt(call)
            if sequence.pending:
                return Told(sequence, told, 0)
            told.append(PromptRead(sequence.job.n_cached))
        before = len(sequence.tokens)
        if sequence.generation.max_tokens == 0:
            sequence.end("length", "limit")
        told += sequence.take_tokens(tokens)
        return Told(sequence, told, len(sequence.tokens) - before)

    def _count_prompt(self, call: Call) -> None:
        del call.sequence.pending[: len(call.ids)]
        self._counters.n_prompt += len(call.ids)

    # ---- passes ----

    def _pass(self, calls: list[Call]) -> list[Told]:
        told = []
        for all_rows in (False, True):
            group = [call for call in calls if _wants_rows(call) is all_rows]
            if not group:
                continue
            rows = self._engine.forward_batch(
                [(_held(call.sequence), _ids(call.ids)) for call in group], last_only=not all_rows
            )
            told += [self._looked(call, logits) for call, logits in zip(group, rows, strict=True)]
        return told

    def _looked(self, call: Call, logits_TV: Ints) -> Told:
        """Go on behind ids that the engine has read."""
        sequence, first = call.sequence, call.sequence.n_read
        told: list[Event] = []
        row_V = None
        sequence.n_read += len(call.ids) - call.n_guessed
        if sequence.is_reading:
            self._count_prompt(call)
            infos: tuple[TokenInfo, ...] = ()
            if sequence.generation.echo and sequence.generation.n_logprobs is not None:
                infos = sequence.prompt_infos(logits_TV, first)
            if not sequence.pending or infos:
                told.append(PromptRead(sequence.job.n_cached, infos))
            if sequence.pending:
                return Told(sequence, told, 0)
            row_V = logits_TV[-1]
        pieces, n_tokens = self._chosen(call, logits_TV)
        return Told(sequence, [*told, *pieces], n_tokens, row_V)

    def _chosen(self, call: Call, logits_TV: Ints) -> tuple[list[Event], int]:
        """Take a token from the last row, and one more for each guess that held."""
        sequence, n_guessed = call.sequence, call.n_guessed
        if sequence.generation.max_tokens == 0:
            sequence.end("length", "limit")
            return [], 0
        told: list[Event] = []
        guesses = call.ids[len(call.ids) - n_guessed :]
        n_held = 0
        for place in range(n_guessed + 1):
            told += sequence.take_logits(logits_TV[place - n_guessed - 1])
            is_held = place < n_guessed and sequence.tokens[-1] == guesses[place]
            n_held += is_held
            if sequence.finished is not None or not is_held:
                break
        if n_guessed:
            sequence.n_read += n_held
            _held(sequence).truncate(sequence.n_read)
            self._guesser.observe(sequence, n_guessed, n_held)
        return told, place + 1


def _ends_prompt(call: Call) -> bool:
    return call.sequence.is_reading and len(call.ids) == len(call.sequence.pending)


def _wants_rows(call: Call) -> bool:
    """Return whether more than the last row is looked at."""
    return call.n_guessed > 0 or (call.sequence.is_reading and call.sequence.generation.echo)


def _held(sequence: Sequence) -> NativeSession:
    if sequence.session is None:
        raise SevenfoldError("a sequence without a session", remedy="please report it")
    return sequence.session


def _ids(ids: list[int]) -> Ints:
    return np.array(ids, np.int64)
