"""Guess the next tokens, which the engine checks in one pass, and decide when guessing saves time.

A guess is accepted only if the law gives the same token from the same logits. The bits of a pass do
not depend on how many positions it reads (specs/arithmetic.md), and a drawn token depends only on
its row, seed and position (specs/sampling.md). Answers are therefore the same with and without
guesses, and only the time differs. Guesses come from the texts of the sequence (the prompt with its
suffix, an earlier suggestion, the answer so far), or from a smaller model.

Guesses save time only if a pass over k + 1 positions is cheaper than k + 1 steps. `Costs` measures
that on the machine, and `Acceptance` counts how many guesses of a sequence were right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.numbers.fixed import as_ints
from sevenfold.engine.native import NativeEngine, NativeSession
from sevenfold.engine.sampling import DecodingLaw

MOST = 8
# The numbers of last ids that must also occur earlier, longest first.
SIZES = (4, 3, 2)
# The numbers of positions for which a pass is timed, and a bound on the whole measurement in
# seconds.
ROWS = (1, 2, 3, 5, 9, 17, 33, 65)
MEASURE_SECONDS = 0.5
REPEATS = 4
# The expected share of right guesses of a new sequence, and the rate at which it is forgotten.
FIRST_SHARE, FORGETTING = 0.7, 0.25
# The rounds without guesses after a round in which none was right. They double each time.
FIRST_REST, LONGEST_REST = 1, 64
# The smallest gain for which guesses are made.
LEAST_GAIN = 1.05


class History:
    """The ids in which guesses are looked up: the hint, the prompt, the answer."""

    def __init__(self, before: Sequence[int], prompt: Sequence[int], n_more: int) -> None:
        # No id is -1, so no match crosses the border.
        head = [*before, -1] if before else []
        self._ids = np.empty(len(head) + len(prompt) + n_more + 1, np.int32)
        self._n = 0
        self.extend([*head, *prompt])

    def extend(self, ids: Sequence[int]) -> None:
        """Append ids."""
        if self._n + len(ids) > len(self._ids):
            self._ids = np.resize(self._ids, 2 * (self._n + len(ids)))
        self._ids[self._n : self._n + len(ids)] = ids
        self._n += len(ids)

    def propose(self, n: int) -> list[int]:
        """Return up to `n` ids that followed the last few ids at an earlier place. The latest place
        with `n` ids after it is used.
        """
        ids = self._ids[: self._n]
        for size in SIZES:
            places = self._places(ids, size)
            if places.size:
                whole = places[places + size + n <= len(ids)]
                at = int(whole[-1] if whole.size else places[-1]) + size
                found: list[int] = ids[at : at + n].tolist()
                return found[: found.index(-1)] if -1 in found else found
        return []

    @staticmethod
    def _places(ids: NDArray[np.int32], size: int) -> NDArray[np.int64]:
        if len(ids) <= size:
            return np.empty(0, np.int64)
        places = np.flatnonzero(ids[:-size] == ids[-size])
        for i in range(1, size):
            places = places[ids[places + i] == ids[i - size]]
        return places.astype(np.int64)


class DraftSession:
    """The session of one sequence in a smaller model with the same vocabulary."""

    def __init__(self, engine: NativeEngine) -> None:
        self._session: NativeSession = engine.session()
        self._context = engine.model.shape.context
        self._ids: list[int] = []

    def propose(self, ids: Sequence[int], n: int, law: DecodingLaw, sample: int) -> list[int]:
        """Return up to `n` tokens that the smaller model chooses after `ids` under the same law. It
        uses the same draws, so drawn tokens are often the same as well.
        """
        n = min(n, self._context - len(ids))
        if n < 1:
            return []
        known = min(len(self._ids), len(ids) - 1)
        if self._ids[:known] != list(ids[:known]):
            known = next(i for i in range(known) if self._ids[i] != ids[i])
        known = self._session.nearest(known)
        self._session.truncate(known)
        tokens = list(self._taken(ids[known:], n, law, len(ids), sample))
        self._ids = [*ids, *tokens[:-1]]
        return tokens

    def _taken(
        self, ids: Sequence[int], n: int, law: DecodingLaw, position: int, sample: int
    ) -> Iterator[int]:
        pending = np.array(ids, np.int64)
        if law.is_greedy:
            yield from self._session.greedy(pending, n)
            return
        for place in range(n):
            row_V = as_ints(self._session.forward(pending, last_only=True)[0])
            token = law.choose(row_V, position=position + place, sample=sample)
            yield token
            pending = np.array([token], np.int64)

    def close(self) -> None:
        """Close the session of the smaller model."""
        self._session.close()


@dataclass
class Acceptance:
    """The share of right guesses of one sequence, and whether it pauses guessing."""

    share: float = FIRST_SHARE
    _rest: int = 0
    _next_rest: int = FIRST_REST

    def is_resting(self) -> bool:
        """Return whether the sequence makes no guess in this round."""
        self._rest -= self._rest > 0
        return self._rest > 0

    def observe(self, n_guessed: int, n_held: int) -> None:
        """Count one checked guess."""
        # After the first wrong guess, nothing is known about those that follow it.
        seen = n_held + (n_held < n_guessed)
        self.share += FORGETTING * (n_held / seen - self.share)
        if n_held:
            self._next_rest = FIRST_REST
        else:
            self._rest, self._next_rest = self._next_rest + 1, min(2 * self._next_rest, LONGEST_REST)


@dataclass(frozen=True)
class Costs:
    """The seconds of one pass by its number of positions, and of one step in a block of greedy
    steps.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]
    step: float

    @classmethod
    def measure(cls, engine: NativeEngine) -> Costs:
        """Measure an engine. Each time is the fastest of several, in processor time of this thread,
        which other load does not change.
        """
        session, vocab = engine.session(), engine.model.shape.vocab_size
        most = engine.model.shape.context
        began = time.monotonic()
        rows: list[int] = []
        seconds: list[float] = []
        steps = min(8, most - 1)
        blocks = []
        for _ in range(REPEATS):
            blocks.append(_seconds(partial(session.greedy, np.array([1 % vocab]), steps)))
            session.truncate(0)
        for n in ROWS:
            if n > most or (rows and time.monotonic() - began > MEASURE_SECONDS):
                break
            ids = np.arange(n, dtype=np.int64) * 7919 % vocab
            found = []
            for _ in range(REPEATS):
                found.append(_seconds(partial(session.forward, ids)))
                session.truncate(0)
            rows.append(n)
            seconds.append(min(found))
        session.close()
        return cls(tuple(rows), tuple(seconds), min(blocks) / steps)

    def of(self, n_rows: int) -> float:
        """Return the seconds of a pass over `n_rows` positions, extrapolated in proportion above
        the measured ones.
        """
        if n_rows > self.rows[-1]:
            return self.seconds[-1] * n_rows / self.rows[-1]
        return float(np.interp(n_rows, self.rows, self.seconds))

    def of_step(self, n_running: int) -> float:
        """Return the seconds of one step of `n_running` sequences inside a block."""
        return self.step * self.of(n_running) / self.of(1)

    def ratio(self, n_guessed: int) -> float:
        """Return the cost of checking `n_guessed` guesses, in steps of a block."""
        return self.of(n_guessed + 1) / self.step


def _seconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


@dataclass
class GuessCounts:
    """The numbers of checked and of right guesses, by their position after the last token."""

    n_checks: int = 0
    guessed: list[int] = field(default_factory=lambda: [0] * MOST)
    held: list[int] = field(default_factory=lambda: [0] * MOST)

    def add(self, n_guessed: int, n_held: int) -> None:
        """Count one check."""
        self.n_checks += 1
        for place in range(n_guessed):
            self.guessed[place] += 1
            self.held[place] += place < n_held


class Lengths:
    """The best number of guesses by the share of right ones and the number of running sequences. It
    is a table, because every step reads it.
    """

    # The resolution of the share of right guesses.
    SHARES = 20

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._best: dict[tuple[int, int], int] = {}

    def best(self, share: float, n_running: int) -> int:
        """Return the best number of guesses; 0 when none saves time."""
        key = (round(share * self.SHARES), n_running)
        if key not in self._best:
            self._best[key] = best_length(self._costs, key[0] / self.SHARES, n_running)
        return self._best[key]


def best_length(costs: Costs, share: float, n_running: int) -> int:
    """Return the number of guesses that saves most time for a sequence among `n_running`; 0 when
    none does.
    """
    best, most = 0, LEAST_GAIN * n_running / costs.of_step(n_running)
    expected = 1.0
    for n in range(1, MOST + 1):
        expected += share**n
        gained = (n_running - 1 + expected) / costs.of(n_running + n)
        if gained > most:
            best, most = n, gained
    return best
