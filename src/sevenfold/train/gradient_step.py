"""The gradient of one step: its micro-batches in order, dealt over the ranks, and their losses (law
of accumulation: `loop`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sevenfold.core.errors import RecipeError
from sevenfold.core.rng import derive_seed
from sevenfold.model import loss as head
from sevenfold.model import operators
from sevenfold.model.loss import sequence_losses
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import TrainSpec
from sevenfold.train.distributed.ranks import Ranks
from sevenfold.train.distributed.shards import ModelShards
from sevenfold.train.objectives import Objective, ObjectiveLoss
from sevenfold.train.precision import autocast


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows that go through the model at once. ids [B, T + 1] int64; counted [B, T] float32, or None
    when all targets count.
    """

    term: int
    ids: Tensor
    counted: Tensor | None
    weight: float
    # Of the whole step that count, in this term.
    n_tokens: int


def micro_batches(
    terms: Sequence[Objective], step: int, sequences: int | None, tokens: int = 0
) -> list[MicroBatch]:
    """Return the micro-batches of a step: terms in order, in each the rows in order.

    Args:
        sequences: rows of a micro-batch; None is all of a term.
        tokens: of a row for which `sequences` was meant: micro-batches keep their tokens when rows
            grow; 0: they do not.
    """
    found = []
    for number, term in enumerate(terms):
        ids, counted = torch.from_numpy(term.source.batch(step)), term.source.counted(step)
        n_tokens = ids.shape[0] * (ids.shape[1] - 1) if counted is None else int(counted.sum())
        masks = None if counted is None else torch.from_numpy(counted)
        size = sequences or ids.shape[0]
        if tokens:
            size = max(1, size * tokens // (ids.shape[1] - 1))
        found += [
            MicroBatch(
                term=number,
                ids=ids[start : start + size],
                counted=None if masks is None else masks[start : start + size],
                weight=term.weight,
                n_tokens=n_tokens,
            )
            for start in range(0, ids.shape[0], size)
        ]
    return found


def check_share(terms: Sequence[Objective], spec: TrainSpec, ranks: Ranks) -> None:
    """Refuse more ranks than a step has micro-batches. Raises RecipeError."""
    size = spec.micro_batch_sequences
    n_micros = sum(math.ceil(t.source.batch_sequences / (size or t.source.batch_sequences)) for t in terms)
    if n_micros < ranks.size:
        raise RecipeError(
            f"a step has {n_micros} micro-batches, so {ranks.size - n_micros} of {ranks.size} ranks have"
            " nothing to do",
            where="train.micro_batch_sequences",
            remedy=f"at most {max(1, spec.batch_sequences // ranks.size)}, or start fewer ranks",
        )


class MicroSums:
    """Gradients of one rank's micro-batches, added in their order by `model.operators` as backward
    makes them.

    Autograd would add them with PyTorch. Where `operators` do not compute, it does.
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
        """Put the sums where one backward would have put its gradients."""
        for hook in self.hooks:
            hook.remove()
        for parameter, total in self.totals.items():
            parameter.grad = total


@dataclass(frozen=True, kw_only=True)
class GradientStep:
    """Forward and backward of micro-batches. `seed` begins their random streams: one draws the same
    wherever it is computed.
    """

    model: Transformer
    shards: ModelShards
    precision: str
    stack: int | None
    seed: int

    def _one(self, micro: MicroBatch, share: float) -> tuple[float, Tensor]:
        """Return the backward of one micro-batch. Its loss, and the nats of its rows."""
        device = self.shards.ranks.device
        ids = micro.ids.to(device)
        counted = None if micro.counted is None else micro.counted.to(device)
        with autocast(self.precision, device):
            hidden, head_VD = self.model.states(ids[:, :-1], self.stack)
            if operators.is_taken(hidden):
                factor = float(np.float32(micro.weight * share) / np.float32(micro.n_tokens))
                nats = head.backward(hidden, head_VD, ids[:, 1:], counted, factor)
                return math.fsum(nats) / micro.n_tokens, torch.tensor(nats, dtype=torch.float64)
            nats_B = sequence_losses(hidden, head_VD, ids[:, 1:], counted)
        loss = (nats_B / micro.n_tokens).sum()
        weight = micro.weight * share
        (loss if weight == 1.0 else weight * loss).backward()
        return float(loss.detach()), nats_B.detach()

    def run(self, micros: Sequence[MicroBatch], terms: Sequence[Objective], step: int) -> list[ObjectiveLoss]:
        """Return the gradients of all, added in order; the losses of each
        term, the same on every rank.

        A rank without a micro-batch in the last round computes that round's first once more, and it
        counts for nothing: weights are gathered in every pass, so every rank has to take part.
        """
        ranks, shards = self.shards.ranks, self.shards
        sizes = [len(micro.ids) for micro in micros]
        figures = torch.zeros(len(micros) + sum(sizes), dtype=torch.float64)
        sums = MicroSums(self.model) if ranks.is_alone and len(micros) > 1 else None
        for begin in range(0, len(micros), ranks.size):
            n_counted = min(ranks.size, len(micros) - begin)
            is_idle = ranks.rank >= n_counted
            number = begin if is_idle else begin + ranks.rank
            shards.begin_round(begin, n_counted, begin + ranks.size >= len(micros))
            torch.manual_seed(derive_seed(self.seed, f"{step}/{number}"))
            # `OrderedSum` leaves an idle rank's gradient out; a reduction of the backend adds it.
            loss, nats_B = self._one(micros[number], 0.0 if is_idle and not shards.ordered else 1.0)
            if not is_idle:
                figures[number] = loss
                row = len(micros) + sum(sizes[:number])
                figures[row : row + len(nats_B)] = nats_B
        if sums is not None:
            sums.give()
        torch.manual_seed(
            derive_seed(self.seed, str(step))
            # What a checkpoint records follows from the step.
        )
        return self._losses(micros, terms, ranks.all_reduce_sum(figures.to(ranks.device)).tolist())

    @staticmethod
    def _losses(
        micros: Sequence[MicroBatch], terms: Sequence[Objective], figures: list[float]
    ) -> list[ObjectiveLoss]:
        losses, row = [0.0 for _ in terms], len(micros)
        rows: list[list[float]] = [[] for _ in terms]
        tokens = [0 for _ in terms]
        for number, micro in enumerate(micros):
            losses[micro.term] += figures[number]
            rows[micro.term] += figures[row : row + len(micro.ids)]
            tokens[micro.term] = micro.n_tokens
            row += len(micro.ids)
        return [
            ObjectiveLoss(term=term, loss=loss, rows=own, n_tokens=n)
            for term, loss, own, n in zip(terms, losses, rows, tokens, strict=True)
        ]
