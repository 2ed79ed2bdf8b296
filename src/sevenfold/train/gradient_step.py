"""Compute the gradient of one step from its micro-batches, in order and distributed over the ranks
(law of accumulation: `loop`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sevenfold.core.errors import RecipeError, TrainingError
from sevenfold.core.numbers.floats import sum_in_order
from sevenfold.core.numbers.rng import derive_seed
from sevenfold.model import loss as head
from sevenfold.model.kernels import observe, operators
from sevenfold.model.loss import sequence_losses
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import PreferenceSpec, TrainSpec
from sevenfold.train.data.objectives import Objective, ObjectiveLoss
from sevenfold.train.distributed.ranks import Ranks
from sevenfold.train.distributed.shards import ModelShards
from sevenfold.train.phases import TrainingPhase
from sevenfold.train.precision import autocast
from sevenfold.train.tuning.preferences import Pair, measured, pair_loss, pairs_of, token_factors


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows that go through the model at once. ids [B, T + 1] int64; counted [B, T] float32, or None
    when all targets count.

    Attributes:
        n_tokens: tokens of the whole step that count in this objective; or pairs of answers.
        preferences: of an objective of pairs, whose `counted` holds segments.
        pairs: of these rows.
    """

    objective: int
    ids: Tensor
    counted: Tensor | None
    weight: float
    n_tokens: int
    preferences: PreferenceSpec | None = None
    pairs: Sequence[Pair] = ()


def micro_batches(
    objectives: Sequence[Objective], step: int, spec: TrainSpec, tokens: int = 0
) -> list[MicroBatch]:
    """Return the micro-batches of a step: the objectives in order, and in each the rows in order.

    Args:
        tokens: the row length for which `spec.micro_batch_sequences` was chosen. Micro-batches keep
            their number of tokens when rows grow. 0: they keep their number of rows.
    """
    found = []
    for number, objective in enumerate(objectives):
        ids, counted = torch.from_numpy(objective.source.batch(step)), objective.source.counted(step)
        is_paired = objective.preferences is not None and counted is not None
        pairs = pairs_of(counted) if is_paired and counted is not None else []
        n_tokens = ids.shape[0] * (ids.shape[1] - 1) if counted is None else int((counted > 0).sum())
        masks = None if counted is None else torch.from_numpy(counted)
        size = spec.micro_batch(ids.shape[0])
        if tokens:
            size = max(1, size * tokens // (ids.shape[1] - 1))
        found += [
            MicroBatch(
                objective=number,
                ids=ids[start : start + size],
                counted=None if masks is None else masks[start : start + size],
                weight=objective.weight,
                n_tokens=len(pairs) if is_paired else n_tokens,
                preferences=objective.preferences,
                pairs=[
                    replace(pair, row=pair.row - start) for pair in pairs if start <= pair.row < start + size
                ],
            )
            for start in range(0, ids.shape[0], size)
        ]
    return found


def check_share(objectives: Sequence[Objective], spec: TrainSpec, ranks: Ranks) -> None:
    """Refuse more ranks than a step has micro-batches. Raises RecipeError."""
    rows = [objective.source.batch_sequences for objective in objectives]
    n_micros = sum(math.ceil(n / spec.micro_batch(n)) for n in rows)
    if n_micros < ranks.size:
        raise RecipeError(
            f"a step has {n_micros} micro-batches, so {ranks.size - n_micros} of {ranks.size} ranks have"
            " nothing to do",
            where="train.micro_batch_sequences",
            remedy=f"at most {max(1, spec.batch_sequences // ranks.size)}, or start fewer ranks",
        )


class MicroSums:
    """Sums of the gradients of one rank's micro-batches, added in order by
    `model.kernels.operators` during backward.

    Autograd would add them with PyTorch. It does so where `operators` are not available.
    """

    def __init__(self, model: nn.Module) -> None:
        self.totals: dict[nn.Parameter, Tensor] = {}
        self.parameters = [p for p in model.parameters() if p.requires_grad and operators.is_taken(p)]
        self.hooks = [p.register_post_accumulate_grad_hook(self._take) for p in self.parameters]

    def _take(self, parameter: Any) -> None:
        grad, parameter.grad = parameter.grad, None
        total = self.totals.get(parameter)
        if total is None:
            self.totals[parameter] = grad
        else:
            operators.add(total, grad.contiguous(), total)

    def give(self) -> None:
        """Move the sums to where backward puts gradients."""
        for hook in self.hooks:
            hook.remove()
        for parameter, total in self.totals.items():
            parameter.grad = total


@dataclass(frozen=True, kw_only=True)
class GradientStep:
    """Forward and backward of the micro-batches of one step.

    A micro-batch draws the same random numbers on every rank.

    Attributes:
        row_tokens: see `micro_batches`.
        reference: the model with which pairs of answers are compared; it is not trained.
    """

    model: Transformer
    shards: ModelShards
    phase: TrainingPhase
    objectives: tuple[Objective, ...]
    row_tokens: int = 0
    reference: Transformer | None = None

    def _backward(self, number: int, micro: MicroBatch, share: float) -> tuple[float, Tensor]:
        """Add the gradients of one micro-batch. Return its loss and its figures: the nats of its rows,
        [B]; of pairs of answers, four for each behind it.
        """
        device = self.shards.ranks.device
        rows = {"ids": micro.ids} | ({} if micro.counted is None else {"counted": micro.counted})
        observe.note("micro_batch", rows, number=number, weight=micro.weight, n_tokens=micro.n_tokens)
        ids = micro.ids.to(device)
        if micro.preferences is not None and micro.counted is not None:
            return self._pairs_backward(micro, ids, micro.counted, micro.preferences, share)
        counted = None if micro.counted is None else micro.counted.to(device)
        with autocast(self.phase.spec.precision, device):
            hidden, head_VD = self.model.states(ids[:, :-1], self.phase.stack)
            if operators.is_taken(hidden):
                factor = float(np.float32(micro.weight * share) / np.float32(micro.n_tokens))
                nats = head.backward(hidden, head_VD, ids[:, 1:], counted, factor)
                return math.fsum(nats) / micro.n_tokens, torch.tensor(nats, dtype=torch.float64)
            nats_B = sequence_losses(hidden, head_VD, ids[:, 1:], counted)
        loss = (nats_B / micro.n_tokens).sum()
        weight = micro.weight * share
        (loss if weight == 1.0 else weight * loss).backward()
        return float(loss.detach()), nats_B.detach()

    def _pairs_backward(
        self, micro: MicroBatch, ids: Tensor, segments: Tensor, spec: PreferenceSpec, share: float
    ) -> tuple[float, Tensor]:
        """Add the gradients of pairs of answers: a forward pass of the reference and one of the model
        give the margins, these the factor of each token, and one backward pass its gradient.
        """
        if self.reference is None:
            raise TrainingError("pairs of answers need a reference", where=f"train{self.phase.path}")
        device, target = self.shards.ranks.device, ids[:, 1:]
        with autocast(self.phase.spec.precision, device):
            with torch.no_grad():
                before = head.token_nats(*self.reference.states(ids[:, :-1], self.phase.stack), target)
            hidden, head_VD = self.model.states(ids[:, :-1], self.phase.stack)
            nats = head.token_nats(hidden, head_VD, target)
            pairs = measured(micro.pairs, segments, nats, before)
            weight = micro.weight * share / micro.n_tokens
            factors = token_factors(pairs, spec, segments, weight).to(device)
            if operators.is_taken(hidden):
                head.backward(hidden, head_VD, target, factors, 1.0)
            else:
                sequence_losses(hidden, head_VD, target, factors).sum().backward()
        rows = [0.0] * len(ids)
        for pair in pairs:
            rows[pair.row] += pair_loss(pair.margin(spec))
        figures = [*rows, *(nats for pair in pairs for nats in pair.nats)]
        return sum_in_order(rows) / micro.n_tokens, torch.tensor(figures, dtype=torch.float64)

    def run(self, step: int) -> list[ObjectiveLoss]:
        """Compute the gradients of a step. Return the loss of each objective, the same on every
        rank.

        The gradients of the micro-batches are added in their order. Weights are gathered in every
        pass, so every rank has to take part. A rank without a micro-batch in the last round
        computes the first one of that round again, and the result is not counted.
        """
        for parameter in self.model.parameters():
            parameter.grad = None
        spec = self.phase.spec
        micros = micro_batches(self.objectives, step, spec, self.row_tokens)
        seed = derive_seed(spec.seed, f"dropout{self.phase.path}")
        ranks, shards = self.shards.ranks, self.shards
        sizes = [len(micro.ids) + 4 * len(micro.pairs) for micro in micros]
        figures = torch.zeros(len(micros) + sum(sizes), dtype=torch.float64)
        sums = MicroSums(self.model) if ranks.is_alone and len(micros) > 1 else None
        for begin in range(0, len(micros), ranks.size):
            n_counted = min(ranks.size, len(micros) - begin)
            is_idle = ranks.rank >= n_counted
            number = begin if is_idle else begin + ranks.rank
            shards.begin_round(begin, n_counted, begin + ranks.size >= len(micros))
            torch.manual_seed(derive_seed(seed, f"{step}/{number}"))
            # `OrderedSum` leaves out the gradient of an idle rank. A reduction of the backend would
            # add it.
            share = 0.0 if is_idle and not shards.ordered else 1.0
            loss, nats_B = self._backward(number, micros[number], share)
            if not is_idle:
                figures[number] = loss
                row = len(micros) + sum(sizes[:number])
                figures[row : row + len(nats_B)] = nats_B
        if sums is not None:
            sums.give()
        # The step determines the state that a checkpoint records.
        torch.manual_seed(derive_seed(seed, str(step)))
        return self._losses(micros, ranks.all_reduce_sum(figures.to(ranks.device)).tolist())

    def _losses(self, micros: Sequence[MicroBatch], figures: list[float]) -> list[ObjectiveLoss]:
        """Return the losses by objective. `figures` holds those of the micro-batches, then those of
        the rows and pairs of each.
        """
        found = [
            ObjectiveLoss(objective=objective, loss=0.0, rows=(), n_tokens=0) for objective in self.objectives
        ]
        begin = len(micros)
        for number, micro in enumerate(micros):
            middle, end = begin + len(micro.ids), begin + len(micro.ids) + 4 * len(micro.pairs)
            nats = iter(figures[middle:end])
            pairs = [
                replace(pair, nats=own)
                for pair, own in zip(micro.pairs, zip(nats, nats, nats, nats, strict=True), strict=True)
            ]
            before = found[micro.objective]
            found[micro.objective] = ObjectiveLoss(
                objective=before.objective,
                loss=before.loss + figures[number],
                rows=[*before.rows, *figures[begin:middle]],
                n_tokens=micro.n_tokens,
                pairs=[*before.pairs, *pairs],
            )
            begin = end
        return found
