"""Guesses: they are never seen in an answer, whoever makes them and however often they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serving_client import Client, serving
from test_scheduler import alone, ends, generations, pieces  # noqa: F401  # a fixture
from together import run

from sevenfold import pipeline
from sevenfold.core.errors import UsageError
from sevenfold.engine.bench_guesses import measure_guesses
from sevenfold.engine.native import NativeEngine
from sevenfold.engine.sampling import GREEDY, DecodingLaw
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
from sevenfold.runs.job import Job
from sevenfold.serve.batching.request import Event
from sevenfold.serve.batching.scheduler import Scheduler
from sevenfold.serve.limits import ServerLimits


@pytest.fixture(scope="module")
def draft(model: Model) -> Model:
    """A stand-in for a smaller model: the model itself, whose guesses always hold."""
    return model


@pytest.mark.parametrize("with_draft", [False, True], ids=["lookup", "draft"])
@pytest.mark.parametrize("block", [1, 32])
def test_guesses_change_nothing(
    model: Model,
    draft: Model,
    alone: list[list[Event]],  # noqa: F811
    with_draft: bool,
    block: int,
) -> None:
    scheduler = Scheduler(
        model, ServerLimits(block_tokens=block), speculate="always", draft=draft if with_draft else None
    )
    try:
        asked = generations(model)
        # What an editor's last suggestion was: right at first, then wrong.
        own = alone[0]
        right = next(iter(ends(own).values()))[0]
        hinted = replace(asked[0], guess=(*right[:9], 0, *right[10:]))
        for _ in range(2):
            together = run(scheduler, [*asked, hinted, *asked])
            for events, expected in zip(together, [*alone, own, *alone], strict=True):
                assert ends(events) == ends(expected)
                assert pieces(events) == pieces(expected)
        counts = scheduler.guesser.counts
        assert counts.n_checks
        assert sum(counts.held), "some guesses held"
        if with_draft:
            assert sum(counts.held) > 0.5 * sum(counts.guessed)
    finally:
        scheduler.close(drain_seconds=5)


def test_a_hint_that_holds_saves_passes(model: Model, alone: list[list[Event]]) -> None:  # noqa: F811
    asked = replace(generations(model)[0], ignore_end=True)
    steps = []
    for guess in ((), None):
        scheduler = Scheduler(model, ServerLimits(block_tokens=1), speculate="always")
        try:
            # An answer without a guess first, whose ids are the hint of the second.
            found = run(scheduler, [asked])[0] if guess is None else []
            before = scheduler.counters.n_steps
            hint = next(iter(ends(found).values()))[0] if found else ()
            told = run(scheduler, [replace(asked, guess=hint)])[0]
            steps.append((scheduler.counters.n_steps - before, ends(told)))
        finally:
            scheduler.close(drain_seconds=5)
    assert steps[0][1] == steps[1][1]
    assert steps[1][0] <= 1 + -(-24 // (MOST + 1)) < steps[0][0]


def test_another_vocabulary_is_refused(
    model: Model, tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]
) -> None:
    job = make_job(tmp_path_factory.mktemp("other") / "run", train={"tokens": 10 * 4 * 64})
    pipeline.make(job)
    with pytest.raises(UsageError, match="another vocabulary"):
        Scheduler(model, ServerLimits(), draft=Model.open(job.out / "model.s7l"))
    with pytest.raises(UsageError, match="use one of"):
        Scheduler(model, ServerLimits(), speculate="perhaps")


@pytest.fixture
def guessing(model_path: Path) -> Iterator[Client]:
    yield from serving([model_path], speculate="always")


def test_metrics_count_guesses_by_place(guessing: Client) -> None:
    body = {"prompt": "for i in range(10):\n    print(i)\n" * 3, "max_tokens": 40, "temperature": 0}
    first = guessing.post("/v1/completions", body).json["choices"][0]["text"]
    body |= {"prediction": {"type": "content", "content": first}}
    answer = guessing.post("/v1/completions", body).json
    assert answer["choices"][0]["text"] == first
    assert "warnings" not in answer
    text = guessing.get("/metrics").data.decode()
    held = [line for line in text.splitlines() if line.startswith("sevenfold_guesses_held_per_pos_total{")]
    assert len(held) == MOST
    assert float(held[0].split()[-1]) > 0
    assert "vllm:spec_decode_num_accepted_tokens_per_pos_total{" in text


# ---- what guesses come from ----


def test_the_history_finds_what_followed() -> None:
    history = History((), [1, 2, 3, 4, 5, 1, 2], 8)
    assert history.propose(3) == [3, 4, 5]
    history.extend([9])
    assert history.propose(3) == []
    history.extend([1, 2, 3])
    assert history.propose(8) == [4, 5, 1, 2, 9, 1, 2, 3]
    # The longest common end counts before the latest place.
    assert History((), [7, 1, 2, 3, 8, 2, 3, 9, 1, 2, 3], 0).propose(1) == [8]
    # A hint is looked up, and nothing is proposed across its border.
    assert History([5, 6, 7, 8], [1, 5, 6, 7], 0).propose(4) == [8]
    assert History([], [1], 0).propose(4) == History([], [], 0).propose(4) == []
    # More than was said at first.
    long = History((), [1, 2], 0)
    long.extend(range(3, 100))
    long.extend([1, 2])
    assert long.propose(2) == [3, 4]


def test_a_draft_session_follows_any_text(model: Model) -> None:
    assert isinstance(model.engine, NativeEngine)
    session = DraftSession(model.engine)
    ids = model.tokenizer.encode("def f(x):\n    return x\n")
    sampled = DecodingLaw.parse("0.9", 40, "0.01", "0.95", 7)
    for law in (GREEDY, sampled, GREEDY):
        for text in (ids, [*ids, ids[0], ids[1]], ids[:3], [ids[2], *ids], ids):
            expected = []
            with model.session() as fresh:
                fresh.prefill(text)
                for place in range(5):
                    token = law.choose(fresh.logits, position=len(text) + place)
                    expected.append(token)
                    fresh.prefill([token])
            assert session.propose(text, 5, law, 0) == expected
    assert session.propose([1] * model.context, 5, GREEDY, 0) == []
    session.close()


# ---- when they are made ----


def cheap(ratio: float) -> Costs:
    """Passes whose further positions cost `ratio` of a step each."""
    rows = (1, 2, 3, 5, 9, 17)
    return Costs(rows, tuple(1 + ratio * (n - 1) for n in rows), 1.0)


def test_guesses_are_made_where_they_pay() -> None:
    assert Lengths(cheap(0.1)).best(1.0, 1) == MOST
    assert Lengths(cheap(1.0)).best(1.0, 1) == 0, "a pass is no cheaper than steps"
    assert Lengths(cheap(0.1)).best(0.0, 1) == 0, "none holds"
    assert 0 < Lengths(cheap(0.3)).best(0.6, 1) < MOST
    lengths = Lengths(cheap(0.3))
    assert lengths.best(0.7, 1) >= lengths.best(0.4, 1)
    assert cheap(0.1).ratio(4) == pytest.approx(1.4)
    assert cheap(0.5).of(34) == 2 * cheap(0.5).of(17)


def test_a_sequence_rests_where_guesses_do_not_hold() -> None:
    acceptance = Acceptance()
    acceptance.observe(4, 4)
    assert acceptance.share > 0.7
    assert not acceptance.is_resting()
    rests = []
    for _ in range(4):
        acceptance.observe(4, 0)
        rests.append(0)
        while acceptance.is_resting():
            rests[-1] += 1
    assert rests == [1, 2, 4, 8]
    assert acceptance.share < 0.4
    counts = GuessCounts()
    counts.add(3, 1)
    counts.add(2, 2)
    assert counts.guessed[:4] == [2, 2, 1, 0]
    assert counts.held[:4] == [2, 1, 0, 0]


def test_costs_are_measured(model: Model) -> None:
    assert isinstance(model.engine, NativeEngine)
    costs = Costs.measure(model.engine)
    assert costs.rows[0] == 1
    assert len(costs.rows) == len(costs.seconds)
    assert all(np.isfinite(costs.seconds))
    assert costs.step > 0
    assert min(costs.seconds) > 0


def test_the_benchmark_finds_the_same_tokens(model: Model) -> None:
    value = measure_guesses(model, model)
    assert value["checks"] > 0
    assert value["held_by_place"][0] > 0
    assert all(
        held <= guessed
        for held, guessed in zip(value["held_by_place"], value["guessed_by_place"], strict=True)
    )
    assert len(value["cost_by_guesses"]) == MOST
    assert value["guesses_that_pay"].keys() == {"0.3", "0.5", "0.7", "0.9", "1.0"}
    assert min(value["tokens_per_second"].values()) > 0
