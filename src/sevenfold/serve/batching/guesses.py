"""Guess tokens for the sequences of a batch: by which method, how many, and how many were right
(engine.speculation).
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import TYPE_CHECKING

from sevenfold.core.errors import UsageError
from sevenfold.engine.native import NativeEngine
from sevenfold.engine.session import Model
from sevenfold.engine.speculation import (
    MOST,
    Acceptance,
    Costs,
    DraftSession,
    GuessCounts,
    History,
    Lengths,
)
from sevenfold.serve.batching.sequence import Sequence

if TYPE_CHECKING:
    from sevenfold.serve.batching.stepper import Call

MODES = ("auto", "off", "always")


class Guess:
    """The sources from which one sequence guesses: its hint, its own text, and a smaller model if
    there is one.
    """

    def __init__(self, sequence: Sequence, draft: NativeEngine | None) -> None:
        generation = sequence.generation
        self.acceptance = Acceptance()
        self._hint = generation.guess
        self._history = History(generation.guess, generation.ids, min(generation.max_tokens, 4096))
        self._n_known = 0
        self._draft = DraftSession(draft) if draft is not None else None

    def propose(self, sequence: Sequence, n: int) -> list[int]:
        """Return up to `n` tokens that may follow."""
        tokens, generation = sequence.tokens, sequence.generation
        self._history.extend(tokens[self._n_known :])
        self._n_known = len(tokens)
        if tuple(tokens) == self._hint[: len(tokens)] and len(tokens) < len(self._hint):
            return list(self._hint[len(tokens) : len(tokens) + n])
        found = self._history.propose(n)
        if not found and self._draft is not None:
            ids = [*generation.ids, *tokens]
            found = self._draft.propose(ids, n, generation.law, sequence.index)
        return found

    def close(self) -> None:
        """Free the session of the smaller model."""
        if self._draft is not None:
            self._draft.close()


class Guesser:
    """Adds guesses to the calls of a pass where they save time. Used by one thread.

    Args:
        mode: auto guesses where measured costs say that it saves time; always guesses wherever it
            can (for tests); off never guesses.
        draft: a smaller model with the same vocabulary.

    Raises:
        UsageError: the draft model has another vocabulary.
    """

    def __init__(
        self, model: Model, engine: NativeEngine, mode: str = "auto", draft: Model | None = None
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"speculation {mode!r:.40}", remedy=f"use one of {', '.join(MODES)}")
        if draft is not None and draft.artifact.dictionary != model.artifact.dictionary:
            raise UsageError(
                "the draft model has another vocabulary",
                where="--draft",
                remedy="use a model of the same tokenizer",
            )
        self._mode, self._engine, self.counts = mode, engine, GuessCounts()
        # The costs are measured when the first guess could be made.
        self._lengths: Lengths | None = None
        engine_of_draft = draft.engine if draft is not None else None
        self._draft = engine_of_draft if isinstance(engine_of_draft, NativeEngine) else None

    @property
    def lengths(self) -> Lengths:
        """Return how many guesses save time on this engine."""
        if self._lengths is None:
            self._lengths = Lengths(Costs.measure(self._engine))
        return self._lengths

    def begin(self, sequence: Sequence) -> None:
        """Let a sequence guess, if the server guesses at all."""
        if self._mode != "off":
            sequence.guess = Guess(sequence, self._draft)

    def add(self, calls: Items[Call], *, n_reading: int, is_plain: bool) -> list[Call] | None:
        """Return the calls with guesses appended; None when no sequence guesses.

        While prompts are read, a plain batch runs as a block, which is faster for all sequences.
        """
        if self._mode == "off" or (is_plain and n_reading and self._mode == "auto"):
            return None
        made = [self._with_guesses(call, len(calls)) for call in calls]
        return made if any(call.n_guessed for call in made) else None

    def _with_guesses(self, call: Call, n_running: int) -> Call:
        sequence, guess = call.sequence, call.sequence.guess
        if guess is None or sequence.is_reading or sequence.n_left < 2:
            return call
        # The best case is that every guess is right. When even that saves nothing, nothing is
        # looked up.
        if self._mode == "auto" and (guess.acceptance.is_resting() or not self.lengths.best(1.0, n_running)):
            return call
        n = MOST if self._mode == "always" else self.lengths.best(guess.acceptance.share, n_running)
        n = min(n, sequence.n_left - 1)
        found = guess.propose(sequence, n) if n else []
        return call._replace(ids=[*call.ids, *found], n_guessed=len(found)) if found else call

    def observe(self, sequence: Sequence, n_guessed: int, n_held: int) -> None:
        """Count the guesses that were right."""
        self.counts.add(n_guessed, n_held)
        if sequence.guess is not None:
            sequence.guess.acceptance.observe(n_guessed, n_held)
