"""Run one round of a batch: choose which positions of which sequences the engine reads, and process
the results.

When every sequence is greedy and no logits are needed, a round is a block: one call of the engine
for prompts and several steps, without a return to Python between the tokens. Otherwise a round is
one pass, and each row of logits is processed here. A pass also checks guesses (engine.speculation).
Integer sums are exact, so the contents of a round change no bit of an answer (specs/arithmetic.md).
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

# The approximate seconds of a block. A request that arrives meanwhile waits for its end.
BLOCK_SECONDS = 0.008
# The steps of a block in which a prompt ends. Few, because a client waits for the first token.
FIRST_STEPS = 4


class Told(NamedTuple):
    """The result of a round for one sequence."""

    sequence: Sequence
    events: list[Event]
    n_tokens: int
    # The logits after a prompt that was just read; None otherwise.
    logits: Ints | None = None


class Call(NamedTuple):
    """The ids that one sequence reads in a pass. The last `n_guessed` of them are guesses."""

    sequence: Sequence
    ids: list[int]
    n_guessed: int = 0


class Stepper:
    """Runs rounds. One thread uses it. Other threads write `interrupt` to end a block."""

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
        """Run a round and return the result for each sequence.

        Args:
            is_forking: whether the logits after the prompts are needed, for samples that begin there.

        Raises:
            SevenfoldError: the engine refused or failed. Nothing is changed in that case.
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
        # The last token is not read yet. The answer may have ended before it.
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
        """Process the logits of ids that the engine has read."""
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
        """Choose a token from the last row, and one more for each guess that was right."""
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
    """Return whether more than the last row is needed."""
    return call.n_guessed > 0 or (call.sequence.is_reading and call.sequence.generation.echo)


def _held(sequence: Sequence) -> NativeSession:
    if sequence.session is None:
        raise SevenfoldError("a sequence without a session", remedy="please report it")
    return sequence.session


def _ids(ids: list[int]) -> Ints:
    return np.array(ids, np.int64)
