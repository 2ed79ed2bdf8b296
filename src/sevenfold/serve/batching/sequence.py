"""A running sample: what it has read, what it has answered, and when it ends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING

import numpy as np

from sevenfold.core.numbers.fixed import INT32_MAX, INT32_MIN, Ints, as_ints
from sevenfold.engine.likelihood import log_probabilities, most_likely
from sevenfold.engine.native import NativeSession
from sevenfold.engine.reference import argmax
from sevenfold.serve.batching.request import BANNED, Finished, GeneratedPiece, GenerationJob, TokenInfo
from sevenfold.serve.batching.text import AnswerText
from sevenfold.tokenizer.codec import Tokenizer

if TYPE_CHECKING:
    from sevenfold.serve.batching.guesses import Guess


def token_infos(logits_TV: Ints, ids: Items[int], n_top: int, offsets: Items[int]) -> tuple[TokenInfo, ...]:
    """Return tokens with log-probabilities and `n_top` alternatives, from the row before each."""
    ids_T1 = np.array(ids, np.int64)[:, None]
    own = log_probabilities(logits_TV, ids_T1)[:, 0].tolist()
    if not n_top:
        return tuple(TokenInfo(i, p, (), at) for i, p, at in zip(ids, own, offsets, strict=True))
    top_TN = most_likely(logits_TV, n_top)
    values_TN = log_probabilities(logits_TV, top_TN)
    tops = [tuple(zip(t, v, strict=True)) for t, v in zip(top_TN.tolist(), values_TN.tolist(), strict=True)]
    return tuple(TokenInfo(i, p, top, at) for i, p, top, at in zip(ids, own, tops, offsets, strict=True))


class Sequence:
    """A sample of a job. `pending` are ids that its session has not read yet."""

    def __init__(self, job: GenerationJob, index: int, tokenizer: Tokenizer) -> None:
        self.job, self.index, self._tokenizer = job, index, tokenizer
        self.generation = job.generation
        self.ends = frozenset(() if self.generation.ignore_end else tokenizer.roles.ends)
        self.session: NativeSession | None = None
        self.n_read = 0
        self.pending: list[int] = list(self.generation.ids)
        self.tokens: list[int] = []
        self.answer = AnswerText(tokenizer, self.generation.stops)
        self.leaves: list[bytes] = []
        self.finished: Finished | None = None
        make = self.generation.constraint
        self.constraint = make() if make else None
        # The source of guesses of its next tokens; set when the server guesses.
        self.guess: Guess | None = None

    @property
    def is_reading(self) -> bool:
        """Return whether a part of the prompt is not read yet."""
        return not self.tokens

    @property
    def n_left(self) -> int:
        """Return how many tokens may still follow."""
        return self.generation.max_tokens - len(self.tokens)

    @property
    def held(self) -> list[int]:
        """Return the ids that the session has read."""
        return [*self.generation.ids, *self.tokens][: self.n_read]

    def take_logits(self, logits_V: Ints) -> list[GeneratedPiece]:
        """Choose the next token from the logits after what was read. Return the events to report."""
        generation = self.generation
        row_V = self._lawful(logits_V)
        token = (
            generation.law.choose(row_V, position=len(generation.ids) + len(self.tokens), sample=self.index)
            if not generation.law.is_greedy
            else argmax(row_V)
        )
        if generation.receipt:
            self.leaves.append(hashlib.sha256(logits_V.astype(">i4").tobytes()).digest())
        if self.constraint is not None and token not in self.ends:
            self.constraint.take(token)
        infos: tuple[TokenInfo, ...] = ()
        if generation.n_logprobs is not None:
            infos = token_infos(logits_V[None], [token], generation.n_logprobs, [self.answer.n_given])
        return self.take_tokens([token], infos)

    def _lawful(self, logits_V: Ints) -> Ints:
        """Return the logits with the biases of the request added and the tokens that its grammar
        forbids excluded.
        """
        if not self.generation.biases and self.constraint is None:
            return logits_V
        row_V = logits_V.copy()
        for token, bias in self.generation.biases:
            row_V[token] = (
                INT32_MIN if bias == BANNED else max(INT32_MIN, min(INT32_MAX, int(row_V[token]) + bias))
            )
        if self.constraint is not None:
            row_V = np.where(self.constraint.allowed() != 0, row_V, INT32_MIN)
        return as_ints(row_V)

    def take_tokens(self, tokens: Items[int], infos: tuple[TokenInfo, ...] = ()) -> list[GeneratedPiece]:
        """Append the tokens of the engine, up to the first one that ends the answer.

        Afterwards `pending` is the last token, which the session has not read. The tokens of one
        call are one piece, so there are fewer events.
        """
        if not self.generation.is_unwatched:
            return self._take_each(tokens, infos)
        taken = list(tokens)[: self.n_left]
        end = next((place for place, token in enumerate(taken) if token in self.ends), None)
        told = taken if end is None else taken[:end]
        self.tokens += taken if end is None else taken[: end + 1]
        text = self.answer.feed_all(told)
        if end is not None:
            self._finish("stop", "end")
        elif self.n_left <= 0:
            self._finish("length", "limit")
        self.pending = self.tokens[-1:]
        return [GeneratedPiece(self.index, text, tuple(told))] if told else []

    def _take_each(self, tokens: Items[int], infos: tuple[TokenInfo, ...]) -> list[GeneratedPiece]:
        """Append tokens one by one, because the request may end the answer after any of them."""
        told: list[int] = []
        text = ""
        for token in tokens:
            self.tokens.append(token)
            if token in self.ends:
                self._finish("stop", "end")
                break
            told.append(token)
            text += self.answer.feed(token)
            if self._is_over():
                break
        self.pending = self.tokens[-1:]
        return [GeneratedPiece(self.index, text, tuple(told), infos[: len(told)])] if told else []

    def _is_over(self) -> bool:
        if self.answer.stop is not None:
            self._finish("stop", "word", self.answer.stop)
        elif self.constraint is not None and self.constraint.is_over:
            self._finish("stop", "grammar")
        elif self.n_left <= 0:
            self._finish("length", "limit")
        elif self._is_late():
            self._finish("length", "time")
        return self.finished is not None

    def _is_late(self) -> bool:
        """Return whether the time limit of the request is over and a newline was reached. The
        receipt holds the number of tokens, not the time.
        """
        after, since = self.generation.newline_after_ms, self.job.first_at
        is_over = after > 0 and since > 0 and (time.monotonic() - since) * 1000 > after
        return is_over and "\n" in self.answer.text

    def _finish(self, reason: str, rule: str, word: str = "", error: Exception | None = None) -> None:
        self.answer.close()
        if self.answer.stop is not None and rule != "word":
            # The last bytes of the text completed a stop string.
            reason, rule, word = "stop", "word", self.answer.stop
        self.finished = Finished(
            index=self.index,
            reason=reason,
            text=self.answer.text,
            ids=tuple(self.tokens),
            rule=rule,
            word=word,
            leaves=tuple(self.leaves),
            error=error,
        )

    def end(self, reason: str, rule: str, error: Exception | None = None) -> None:
        """End the sample for a reason outside of it: the client disconnected, or the engine failed."""
        if self.finished is None:
            self._finish(reason, rule, error=error)

    def prompt_infos(self, logits_TV: Ints, first: int) -> tuple[TokenInfo, ...]:
        """Return the tokens of the prompt after position `first`. Each is scored by the row before
        it.
        """
        ids = self.generation.ids[first + 1 : first + 1 + len(logits_TV)]
        if not ids:
            return ()
        offsets = [0] * len(ids)
        return token_infos(logits_TV[: len(ids)], ids, self.generation.n_logprobs or 0, offsets)

    def close(self) -> None:
        """Free the session."""
        if self.session is not None:
            self.session.close()
            self.session = None
