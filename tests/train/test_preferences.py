"""The loss of pairs of answers and its gradient: against double precision and autograd, exact
fractions, and other micro-batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.audit.steps.bundle import Batch
from sevenfold.audit.steps.check import GivenRows
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec, PreferenceSpec, TrainSpec
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.objectives import PREFERENCES, Objective, ObjectiveLoss
from sevenfold.train.distributed.ranks import here
from sevenfold.train.distributed.shards import ModelShards
from sevenfold.train.gradient_step import GradientStep
from sevenfold.train.phases import TrainingPhase
from sevenfold.train.tuning.preferences import Pair, are_pairs, pair_loss, pairs_of, sigmoid

END, VOCABULARY = 0, 300
# Of each row: pairs of (context, chosen, rejected).
ROWS = (
    (((3, 4, 5), (6, 7), (8, 9, 10, 11)), ((12,), (13, 14, 15), (16,))),
    (((17, 18), (19, 20, 21, 22, 23), (24, 25)),),
)


def model(seed: int) -> Transformer:
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY, "context": 32, "n_layers": 2, "d_model": 16, "n_heads": 2,
        "n_kv_heads": 1, "head_dim": 8, "d_ffn": 24,
    }  # fmt: skip
    built = Transformer(ModelSpec(**shape))
    built.initialize(torch.Generator().manual_seed(seed), 0.2)
    built.document_start = END
    return built


def rows() -> Batch:
    ids, counted = np.full((len(ROWS), 25), END, np.int64), np.zeros((len(ROWS), 24), np.float32)
    for number, row in enumerate(ROWS):
        at = 1
        for pair, (context, *answers) in enumerate(row):
            for side, answer in enumerate(answers):
                for token in context:
                    ids[number, at], at = token, at + 1
                for token in (*answer, END):
                    ids[number, at] = token
                    counted[number, at - 1] = 2 * pair + side + 1
                    at += 1
    return Batch(ids=torch.from_numpy(ids), counted=torch.from_numpy(counted))


@dataclass
class Result:
    loss: ObjectiveLoss
    gradients: dict[str, torch.Tensor]


def step(spec: PreferenceSpec, micro: int | None = None, batch: Batch | None = None) -> Result:
    trained, reference = model(1), model(2)
    train = TrainSpec(
        seed=1, tokens=1000, batch_sequences=2, sequence=24, learning_rate=0.1, micro_batch_sequences=micro
    )
    objective = Objective(
        name=PREFERENCES, weight=1.0, source=GivenRows(batch or rows()),
        split=IndexedTokens(path=Path("none")), preferences=spec,
    )  # fmt: skip
    (loss,) = GradientStep(
        model=trained, shards=ModelShards(trained, here(), "ordered"),
        phase=TrainingPhase(name="", spec=train, mix={}), objectives=(objective,), reference=reference,
    ).run(0)  # fmt: skip
    return Result(
        loss, {name: p.grad.clone() for name, p in trained.named_parameters() if p.grad is not None}
    )


def oracle(spec: PreferenceSpec) -> tuple[float, dict[str, torch.Tensor], list[float]]:
    """The loss as the paper writes it, each answer in a row of its own, from the logits on in double
    precision.
    """
    trained, reference = model(1), model(2)

    def log_probability(net: Transformer, context: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
        ids = torch.tensor([[END, *context, *answer, END]])
        hidden, head = net.states(ids[:, :-1])
        scores = torch.log_softmax(hidden[0].double() @ head.double().t(), -1)
        own = scores[torch.arange(ids.shape[1] - 1), ids[0, 1:]][len(context) :]
        return own.mean() if spec.normalised else own.sum()

    margins = []
    for context, chosen, rejected in (pair for row in ROWS for pair in row):
        ratios = [
            log_probability(trained, context, answer) - log_probability(reference, context, answer).detach()
            for answer in (chosen, rejected)
        ]
        margins.append(spec.beta * (ratios[0] - ratios[1]))
    loss = -torch.nn.functional.logsigmoid(torch.stack(margins)).mean()
    loss.backward()
    grads = {name: p.grad.clone() for name, p in trained.named_parameters() if p.grad is not None}
    return float(loss.detach()), grads, [float(margin.detach()) for margin in margins]


@pytest.mark.parametrize("normalised", [True, False])
def test_loss_and_gradient_are_those_of_the_formula(normalised: bool) -> None:
    spec = PreferenceSpec(beta=0.7, normalised=normalised)
    found, (loss, gradients, margins) = step(spec), oracle(spec)
    assert found.loss.loss == pytest.approx(loss, rel=1e-5)
    assert [pair.margin(spec) for pair in found.loss.pairs] == pytest.approx(margins, abs=1e-5)
    assert found.gradients.keys() == gradients.keys()
    for name, wanted in gradients.items():
        scale = float(wanted.abs().max())
        assert float((found.gradients[name].double() - wanted).abs().max()) < 2e-5 * scale, name


def test_a_canary_with_the_answers_exchanged_is_another_gradient() -> None:
    spec, batch = PreferenceSpec(beta=0.7), rows()
    counted = batch.counted.clone()  # type: ignore[union-attr]  # it has one
    counted[0][batch.counted[0] == 1], counted[0][batch.counted[0] == 2] = 2, 1  # type: ignore[index]  # as above
    other = step(spec, batch=replace(batch, counted=counted))
    wanted = oracle(spec)[1]["embedding.weight"]
    assert float((other.gradients["embedding.weight"].double() - wanted).abs().max()) > 0.01


def test_micro_batches_and_threads_change_no_bit_of_a_row() -> None:
    spec, before = PreferenceSpec(), torch.get_num_threads()
    whole, apart = step(spec), step(spec, micro=1)
    assert whole.loss.rows == apart.loss.rows
    assert whole.loss.pairs == [
        replace(p, row=w.row) for p, w in zip(apart.loss.pairs, whole.loss.pairs, strict=True)
    ]
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        again = step(spec)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(again.gradients[name], grad) for name, grad in whole.gradients.items())


def exact_exp(x: Fraction) -> Fraction:
    """exp(x) to 60 digits by its series."""
    halvings = max(0, math.ceil(math.log2(abs(x) + 1)) + 4)
    x, total, term = x / 2**halvings, Fraction(1), Fraction(1)
    for n in range(1, 60):
        term = term * x / n
        total += term
    total = Fraction(round(total * 10**90), 10**90)
    for _ in range(halvings):
        total = Fraction(round(total * total * 10**90), 10**90)
    return total


@given(st.floats(-20, 20))
def test_the_sigmoid_is_rounded_once(x: float) -> None:
    assert sigmoid(x) == float(1 / (1 + exact_exp(Fraction(-x))))


@pytest.mark.parametrize("x", [-1e9, -700.5, -700.0, -3.0, 0.0, 1e-300, 3.0, 699.0, 1e9])
def test_the_loss_of_a_margin(x: float) -> None:
    assert pair_loss(x) == pytest.approx(max(-x, 0.0) + math.log1p(math.exp(-abs(x))), rel=1e-14, abs=1e-30)
    assert 0.0 <= sigmoid(x) <= 1.0


def test_any_pair_can_be_computed_from_its_record() -> None:
    spec = PreferenceSpec(beta=2.0)
    pair = Pair(row=0, segments=(1, 2), tokens=(2, 4), nats=(3.0, 8.0, 4.0, 6.0))
    assert pair.margin(spec) == 2.0 * ((4.0 - 3.0) / 2 - (6.0 - 8.0) / 4) == 2.0
    low, high = pair.slopes(spec)
    assert (low, high) == (2.0 * sigmoid(-2.0) / 2, -(2.0 * sigmoid(-2.0) / 4))
    assert pair.slopes(PreferenceSpec(beta=2.0, normalised=False))[0] == 2.0 * sigmoid(-2.0 * 3.0)


@pytest.mark.parametrize(
    ("segments", "is_so"),
    [([0, 1, 2, 2], True), ([0, 1, 1, 0], False), ([1, 3, 4, 0], False), ([1, -2, 2, 2], False),
     ([1, 9, 2, 2], False), ([0, 0, 0, 0], True)],
)  # fmt: skip
def test_segments_that_are_no_pairs_are_seen(segments: list[int], is_so: bool) -> None:
    array = np.array([segments], np.float32)
    assert are_pairs(array) == is_so
    if is_so and any(segments):
        assert [pair.tokens for pair in pairs_of(array)] == [(1, 2)]
