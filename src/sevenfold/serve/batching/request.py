"""The input and the events of the scheduler. It knows no HTTP and no JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sevenfold.core.numbers.fixed import Ints
from sevenfold.engine.sampling import GREEDY, DecodingLaw


class Constraint(Protocol):
    """A grammar that an answer obeys."""

    def allowed(self) -> Ints:
        """Return a mask over the vocabulary, 1 for each token that may come next."""

    def take(self, token: int) -> None:
        """Advance the state by a token."""

    @property
    def is_over(self) -> bool:
        """Return whether the answer is complete."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One prompt and the settings of its answer. The caller has checked the ids."""

    ids: tuple[int, ...]
    max_tokens: int
    law: DecodingLaw = GREEDY
    n: int = 1
    stops: tuple[str, ...] = ()
    # The number of alternatives to report beside each token; None asks for no log-probabilities.
    n_logprobs: int | None = None
    # Whether the log-probabilities of the prompt are reported as well.
    echo: bool = False
    # Numbers that are added to logits, in their units (16 fraction bits). BANNED excludes a token.
    biases: tuple[tuple[int, int], ...] = ()
    ignore_end: bool = False
    # Cached keys and values are shared only within a salt, so other callers cannot time them.
    salt: str = ""
    receipt: bool = False
    constraint: Callable[[], Constraint] | None = None
    # Ids that the answer may have: an earlier suggestion, or the answer that the client expects.
    guess: tuple[int, ...] = ()
    # The prefix and suffix of a suggestion, by which the next request finds it.
    between: tuple[str, str] | None = None
    # This many milliseconds after the first token, the next newline ends the answer; 0: no limit.
    newline_after_ms: int = 0

    @property
    def is_plain(self) -> bool:
        """Return whether greedy blocks of the engine compute the answer."""
        return (
            self.law.is_greedy
            and self.n_logprobs is None
            and not self.biases
            and not self.receipt
            and self.constraint is None
            and not self.newline_after_ms
        )

    @property
    def is_unwatched(self) -> bool:
        """Return whether only the number of tokens or an end token ends the answer, and no token is
        reported separately.
        """
        return not (self.stops or self.newline_after_ms or self.constraint or self.n_logprobs is not None)


BANNED = -(1 << 62)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token with its log-probability (32 fraction bits) and its most likely alternatives."""

    id: int
    logprob: int | None = None
    top: tuple[tuple[int, int], ...] = ()
    # The number of characters before it in the prompt or in the answer.
    offset: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedPiece:
    """More of sample `index`: its ids, and the text that they released. `tokens` are the ids with
    log-probabilities, when the request asks for them.
    """

    index: int
    text: str
    ids: tuple[int, ...]
    tokens: tuple[TokenInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRead:
    """An event: the prompt was read."""

    n_cached: int
    tokens: tuple[TokenInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of sample `index`. `reason`: stop, length, cancelled or error."""

    index: int
    reason: str
    text: str
    ids: tuple[int, ...]
    # The rule that ended it: "end" (a token that ends a text), "word", "limit", "time", "grammar"
    # or "cancel".
    rule: str
    word: str = ""
    # The SHA-256 of the int32 big-endian logits of each step, for a receipt.
    leaves: tuple[bytes, ...] = ()
    error: Exception | None = None


Event = GeneratedPiece | PromptRead | Finished


@dataclass
class GenerationJob:
    """A submitted generation. The scheduler's thread calls `tell` with the events in order."""

    generation: Generation
    tell: Callable[[list[Event]], None]
    is_cancelled: bool = False
    # Times in seconds of the monotonic clock.
    asked_at: float = 0.0
    begun_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    n_cached: int = 0
    # Called by `cancel` to end the running step.
    on_cancel: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        """End the job within one step of the engine. Safe from any thread."""
        self.is_cancelled = True
        self.on_cancel()
