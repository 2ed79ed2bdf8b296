"""What the scheduler runs, and what it tells: no HTTP, no JSON."""

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
        """Go on behind a token."""

    @property
    def is_over(self) -> bool:
        """Return whether the answer is complete."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One prompt, and how it goes on. Ids are checked by whoever made it."""

    ids: tuple[int, ...]
    max_tokens: int
    law: DecodingLaw = GREEDY
    n: int = 1
    stops: tuple[str, ...] = ()
    # Alternatives beside each token's own log-probability; None asks for no log-probabilities.
    n_logprobs: int | None = None
    # Log-probabilities of the prompt, too.
    echo: bool = False
    # Added to logits, in their units (16 fraction bits). BANNED takes a token out.
    biases: tuple[tuple[int, int], ...] = ()
    ignore_end: bool = False
    # Nothing that another salt read is used, nor seen in the time that a request takes.
    salt: str = ""
    receipt: bool = False
    constraint: Callable[[], Constraint] | None = None
    # Ids that the answer may be: a suggestion before this one, or what the client expects.
    guess: tuple[int, ...] = ()
    # Prefix and suffix of a suggestion, by which the next one finds it.
    between: tuple[str, str] | None = None
    # Milliseconds after the first token, after which the first newline ends the answer; 0: none.
    newline_after_ms: int = 0

    @property
    def is_plain(self) -> bool:
        """Return whether greedy blocks of the engine give the answer."""
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
        """Return whether nothing but its last token ends the answer, and no token is told of apart."""
        return not (self.stops or self.newline_after_ms or self.constraint or self.n_logprobs is not None)


BANNED = -(1 << 62)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token, its log-probability (32 fraction bits) and its most likely alternatives."""

    id: int
    logprob: int | None = None
    top: tuple[tuple[int, int], ...] = ()
    # Characters before it, of the prompt or of the answer.
    offset: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedPiece:
    """More of sample `index`: tokens, and the text that they released. `tokens` are the same with
    log-probabilities, where the request wants those.
    """

    index: int
    text: str
    ids: tuple[int, ...]
    tokens: tuple[TokenInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRead:
    """The prompt was read."""

    n_cached: int
    tokens: tuple[TokenInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of sample `index`. `reason`: stop, length, cancelled or error."""

    index: int
    reason: str
    text: str
    ids: tuple[int, ...]
    # What fired: "end" (a token that ends a text), "word", "limit", "time", "grammar", "cancel".
    rule: str
    word: str = ""
    # SHA-256 of the int32 big-endian logits of each step, for a receipt.
    leaves: tuple[bytes, ...] = ()
    error: Exception | None = None


Event = GeneratedPiece | PromptRead | Finished


@dataclass
class GenerationJob:
    """A generation that was handed over. `tell` is called in the scheduler's thread, in order."""

    generation: Generation
    tell: Callable[[list[Event]], None]
    is_cancelled: bool = False
    # Seconds of the monotonic clock.
    asked_at: float = 0.0
    begun_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    n_cached: int = 0
    # Called behind `cancel`: what ends the step that runs.
    on_cancel: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        """End it within one step of the engine. Safe from any thread."""
        self.is_cancelled = True
        self.on_cancel()
