"""The scheduler: an answer is the same alone, in any batch, after any cache, in any chunks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from together import run, scheduling

from sevenfold.engine.sampling import DecodingLaw
from sevenfold.engine.session import Model, greedy_steps
from sevenfold.serve.batching.request import (
    BANNED,
    Event,
    Finished,
    GeneratedPiece,
    Generation,
    GenerationJob,
    PromptRead,
)
from sevenfold.serve.batching.scheduler import Scheduler
from sevenfold.serve.errors import RequestError
from sevenfold.serve.limits import ServerLimits

PROMPTS = (
    "def f(",
    "import os\n",
    "class A:\n    x = 1\n    def",
    "return [",
    "for i in range(10):\n    print(i)\n" * 4,
)
SAMPLED = DecodingLaw.parse("0.9", 40, "0.01", "0.95", 7)


def ends(events: Sequence[Event]) -> dict[int, tuple[tuple[int, ...], str, str, tuple[bytes, ...]]]:
    """What each sample of a job became."""
    return {e.index: (e.ids, e.text, e.rule, e.leaves) for e in events if isinstance(e, Finished)}


def generations(model: Model) -> list[Generation]:
    ids = [tuple(model.tokenizer.begun(model.tokenizer.encode(text))) for text in PROMPTS]
    base = Generation(ids=ids[0], max_tokens=24)
    return [
        base,
        replace(base, ids=ids[1], max_tokens=1),
        replace(base, ids=ids[2], stops=("\n",), max_tokens=40),
        replace(base, ids=ids[3], law=SAMPLED, n=3, receipt=True),
        replace(base, ids=ids[4], n_logprobs=2, echo=True),
        replace(base, ids=ids[0], biases=((300, 90 << 16), (5, BANNED)), n_logprobs=0),
        replace(base, ids=ids[4], law=SAMPLED, ignore_end=True),
        replace(base, ids=ids[4], max_tokens=0, n_logprobs=1, echo=True),
    ]


@pytest.fixture(scope="module")
def alone(model: Model) -> list[list[Event]]:
    """Every answer, asked by itself on a scheduler of its own."""
    answers = []
    for generation in generations(model):
        with scheduling(model, ServerLimits(cache_bytes=0, block_tokens=1)) as scheduler:
            answers += run(scheduler, [generation])
    return answers


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"prefill_tokens": 3},
        {"block_tokens": 1},
        {"block_tokens": 5, "prefill_tokens": 40},
        {"parallel": 2},
        {"cache_bytes": 0},
    ],
)
def test_a_batch_changes_nothing(model: Model, alone: list[list[Event]], change: dict[str, int]) -> None:
    with scheduling(model, replace(ServerLimits(), **change)) as scheduler:
        for _ in range(2):  # the second time from the cache
            together = run(scheduler, generations(model) * 2)
            for place, events in enumerate(together):
                expected = alone[place % len(alone)]
                assert ends(events) == ends(expected)
                assert pieces(events) == pieces(expected)
        assert (scheduler.cache.n_hits > 0) == (scheduler.cache.cap_bytes > 0)


def pieces(events: Sequence[Event]) -> tuple[list[object], list[object]]:
    """Tokens of the prompt and of the answers, with their log-probabilities."""
    read = [token for e in events if isinstance(e, PromptRead) for token in e.tokens]
    said = [
        (e.index, token)
        for e in events
        if isinstance(e, GeneratedPiece)
        for token in zip(e.ids, e.tokens or [None] * len(e.ids), strict=True)
    ]
    # The order within a sample; how many came at once is a matter of time.
    return read, sorted(said, key=lambda pair: pair[0])


def test_greedy_answers_are_those_of_the_reference(model: Model, alone: list[list[Event]]) -> None:
    first = generations(model)[0]
    expected = greedy_steps(model.engine, first.ids, 24).tokens
    got = ends(alone[0])[0][0]
    assert got == expected[: len(got)]
    assert len(got) == 24 or got[-1] in model.tokenizer.roles.ends


def test_a_stream_is_the_text_without_one(alone: list[list[Event]]) -> None:
    for events in alone:
        for index, (_, text, _, _) in ends(events).items():
            streamed = "".join(e.text for e in events if isinstance(e, GeneratedPiece) and e.index == index)
            assert text.startswith(streamed)


def test_samples_differ_and_do_not_depend_on_their_number(model: Model, alone: list[list[Event]]) -> None:
    three = ends(alone[3])
    assert len({ids for ids, *_ in three.values()}) > 1
    with scheduling(model, ServerLimits()) as scheduler:
        single = run(scheduler, [replace(generations(model)[3], n=1)])
    assert ends(single[0])[0] == three[0]


def test_a_cancelled_job_ends_and_the_others_go_on(model: Model) -> None:
    with scheduling(model, ServerLimits(block_tokens=2)) as scheduler:
        long = replace(generations(model)[0], max_tokens=200, ignore_end=True)
        done = threading.Event()
        told: list[Event] = []
        jobs: list[GenerationJob] = []

        def tell(events: list[Event]) -> None:
            told.extend(events)
            jobs[0].cancel()
            if any(isinstance(event, Finished) for event in events):
                done.set()

        jobs.append(GenerationJob(long, tell))
        scheduler.submit(jobs[0])
        other = run(scheduler, [generations(model)[2]])
        assert done.wait(60)
        (end,) = [event for event in told if isinstance(event, Finished)]
        assert end.rule == "cancel"
        # Cancelled with the first token; at most one more step was under way.
        assert len(end.ids) <= 1 + 2 * 2
        assert ends(other[0])


def test_a_full_queue_refuses_with_a_hint(model: Model) -> None:
    with scheduling(model, ServerLimits(parallel=1, queue=2)) as scheduler:
        long = replace(generations(model)[0], max_tokens=200, ignore_end=True)
        jobs = [GenerationJob(long, lambda _: None) for _ in range(40)]
        with pytest.raises(RequestError) as caught:
            [scheduler.submit(job) for job in jobs]
        assert caught.value.status == 429
        assert caught.value.headers()["Retry-After"] == "1"
        for job in jobs:
            job.cancel()


def test_the_cache_keeps_its_cap_and_its_salts_apart(model: Model) -> None:
    ids = tuple(model.tokenizer.begun(model.tokenizer.encode("x = 1\n" * 30)))
    session = model.engine.session()
    session.forward(np.array(ids[:64], np.int64), last_only=True)
    page = session.n_bytes
    session.close()
    with scheduling(model, ServerLimits(cache_bytes=3 * page)) as scheduler:
        for n in range(40):
            run(scheduler, [Generation(ids=(*ids[n : n + 40],), max_tokens=2)])
            assert scheduler.cache.n_bytes <= 3 * page
        assert len(scheduler.cache)
        hits = scheduler.cache.n_hits
        again = Generation(ids=(*ids[39:79],), max_tokens=2)
        run(scheduler, [replace(again, salt="other")])
        assert scheduler.cache.n_hits == hits
        run(scheduler, [again])
        assert scheduler.cache.n_hits == hits + 1


def test_closing_ends_what_waits(model: Model) -> None:
    scheduler = Scheduler(model, ServerLimits(parallel=1))
    told: list[Event] = []
    long = replace(generations(model)[0], max_tokens=200, ignore_end=True)
    for _ in range(5):
        scheduler.submit(GenerationJob(long, told.extend))
    scheduler.close(drain_seconds=0)
    assert len([event for event in told if isinstance(event, Finished)]) == 5
    with pytest.raises(RequestError, match="closing"):
        scheduler.submit(GenerationJob(long, told.extend))
