"""Carry the events of the jobs of one request from the scheduler's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sevenfold.core.errors import SevenfoldError
from sevenfold.serve.batching.request import (
    Event,
    Finished,
    GeneratedPiece,
    Generation,
    GenerationJob,
    PromptRead,
    TokenInfo,
)
from sevenfold.serve.errors import RequestError
from sevenfold.serve.registry import Served


@dataclass
class AnswerSample:
    """The state of one sample of one prompt."""

    text: str = ""
    n_tokens: int = 0
    # Tokens with log-probabilities, when the request asks for them.
    tokens: list[TokenInfo] = field(default_factory=list)
    finished: Finished | None = None


Letter = tuple[int, list[Event]]


class Mailbox:
    """A queue from schedulers to one event loop. The loop is woken once for all events of a round."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[tuple[asyncio.Queue[Letter], Letter]] = deque()
        self._is_called = False

    @classmethod
    def of_loop(cls) -> Mailbox:
        """Return the mailbox of the running event loop."""
        loop = asyncio.get_running_loop()
        found = getattr(loop, _MAILBOX, None)
        if found is None:
            found = cls(loop)
            # The loops of uvloop and asyncio accept attributes. The mailbox lives as long as its
            # loop.
            setattr(loop, _MAILBOX, found)
        return found

    def put(self, queue: asyncio.Queue[Letter], told: Letter) -> None:
        """Send a message. Safe from any thread."""
        self._letters.append((queue, told))
        if not self._is_called:
            self._is_called = True
            # A closed loop has no client that waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Cleared before the messages are read, so that one which arrives now wakes the loop again.
        self._is_called = False
        while self._letters:
            queue, told = self._letters.popleft()
            queue.put_nowait(told)


_MAILBOX = "_sevenfold_mailbox"


class Running:
    """The jobs of one request. Leaving the block cancels the jobs that still run."""

    def __init__(self, served: Served, generations: Sequence[Generation]) -> None:
        self.served, self._mailbox = served, Mailbox.of_loop()
        self._queue: asyncio.Queue[Letter] = asyncio.Queue()
        self.jobs = [
            GenerationJob(generation, self._teller(number)) for number, generation in enumerate(generations)
        ]
        self.samples = [[AnswerSample() for _ in range(generation.n)] for generation in generations]
        # The log-probabilities of each prompt after its first token.
        self.prompts: list[list[TokenInfo]] = [[] for _ in generations]

    def _teller(self, number: int) -> Callable[[list[Event]], None]:
        def tell(events: list[Event]) -> None:
            self._mailbox.put(self._queue, (number, events))

        return tell

    async def __aenter__(self) -> Running:
        try:
            for job in self.jobs:
                self.served.scheduler.submit(job)
        except RequestError:
            self.cancel()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End every job within one step of the engine."""
        for job in self.jobs:
            job.cancel()

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield (number of the prompt, event) until every sample has ended. `samples` is updated
        before each event is yielded.

        Raises:
            RequestError: the engine refused or failed.
        """
        left = sum(len(samples) for samples in self.samples)
        while left:
            number, events = await self._queue.get()
            for event in events:
                if isinstance(event, PromptRead):
                    self.prompts[number] += event.tokens
                    self.jobs[number].n_cached = event.n_cached
                else:
                    self._take(self.samples[number][event.index], event)
                    self._remember(self.jobs[number].generation, event)
                    left -= isinstance(event, Finished)
                yield number, event

    def _remember(self, generation: Generation, event: GeneratedPiece | Finished) -> None:
        """Store the answer as a suggestion, because the next one may be the rest of it. Let a
        shadow model run the request.
        """
        if self.served.trial is not None and isinstance(event, Finished):
            self.served.trial.replay(generation, event)
        if generation.between is not None and isinstance(event, Finished) and event.index == 0:
            self.served.suggestions.keep(generation.salt, *generation.between, event.text)

    @staticmethod
    def _take(sample: AnswerSample, event: GeneratedPiece | Finished) -> None:
        if isinstance(event, GeneratedPiece):
            sample.text += event.text
            sample.n_tokens += len(event.ids)
            sample.tokens += event.tokens
            return
        if isinstance(event.error, SevenfoldError):
            raise RequestError.of(event.error)
        sample.finished, sample.text = event, event.text

    async def whole(self) -> list[list[AnswerSample]]:
        """Return all samples of all prompts when they are complete. Raises RequestError as `events`
        does.
        """
        async for _ in self.events():
            pass
        return self.samples

    @property
    def n_prompt(self) -> int:
        """Return the number of tokens of all prompts."""
        return sum(len(job.generation.ids) for job in self.jobs)

    @property
    def n_completion(self) -> int:
        """Return the number of tokens of all samples."""
        return sum(
            len(sample.finished.ids) if sample.finished else sample.n_tokens
            for samples in self.samples
            for sample in samples
        )

    def usage(self) -> dict[str, object]:
        """Return the counts as OpenAI's clients read them."""
        cached = sum(job.n_cached for job in self.jobs)
        return {
            "prompt_tokens": self.n_prompt,
            "completion_tokens": self.n_completion,
            "total_tokens": self.n_prompt + self.n_completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
