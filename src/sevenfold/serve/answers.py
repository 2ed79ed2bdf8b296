"""From the scheduler's thread to the event loop: the events of the jobs of one request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sevenfold.core.errors import SevenfoldError
from sevenfold.serve.errors import RequestError
from sevenfold.serve.registry import Served
from sevenfold.serve.request import (
    Event,
    Finished,
    GeneratedPiece,
    Generation,
    GenerationJob,
    PromptRead,
    TokenInfo,
)


@dataclass
class AnswerSample:
    """What one sample of one prompt has become."""

    text: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)
    finished: Finished | None = None


class Running:
    """The jobs of one request. Leaving the block cancels what still runs."""

    def __init__(self, served: Served, generations: Sequence[Generation]) -> None:
        self.served, self._loop = served, asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, list[Event]]] = asyncio.Queue()
        self.jobs = [
            GenerationJob(generation, self._teller(number)) for number, generation in enumerate(generations)
        ]
        self.samples = [[AnswerSample() for _ in range(generation.n)] for generation in generations]
        # Log-probabilities of each prompt behind its first token.
        self.prompts: list[list[TokenInfo]] = [[] for _ in generations]

    def _teller(self, number: int):  # type: ignore[no-untyped-def]  # a closure over the queue
        def tell(events: list[Event]) -> None:
            # A loop that is closed has no client to tell.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (number, events))

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
        """End every job within one step."""
        for job in self.jobs:
            job.cancel()

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield (number of the prompt, event) until every sample has ended; `samples` is up to date.

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
                    left -= isinstance(event, Finished)
                yield number, event

    @staticmethod
    def _take(sample: AnswerSample, event: GeneratedPiece | Finished) -> None:
        if isinstance(event, GeneratedPiece):
            sample.text += event.text
            sample.tokens += event.tokens
            return
        if isinstance(event.error, SevenfoldError):
            raise RequestError.of(event.error)
        sample.finished, sample.text = event, event.text

    async def whole(self) -> list[list[AnswerSample]]:
        """Return every sample of every prompt, complete. Raises RequestError as `events` does."""
        async for _ in self.events():
            pass
        return self.samples

    @property
    def n_prompt(self) -> int:
        """Return the tokens of all prompts."""
        return sum(len(job.generation.ids) for job in self.jobs)

    @property
    def n_completion(self) -> int:
        """Return the tokens of all samples."""
        return sum(
            len(sample.finished.ids) if sample.finished else len(sample.tokens)
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
