"""The loss of pairs of answers: direct preference optimisation (arXiv 2305.18290), the log ratios
divided by the tokens of their answers unless the recipe says otherwise (specs/tune.md).

Everything here is binary64 in a stated order. Exponentials and logarithms are those of `decimal` to
60 digits, rounded once, because those of C libraries differ in their last bit.

Shape suffixes: B rows, T targets of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sevenfold.core.hashing import Json
from sevenfold.recipe.schema import PreferenceSpec

_CONTEXT = Context(prec=60)
# Beyond it, the loss is the margin and the slope is 1 or 0, to the last bit of binary64.
_FAR = 700.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A pair in a row: nats of both answers with the model, and with the reference.

    Attributes:
        row: of the micro-batch.
        segments: numbers of the chosen and of the rejected answer in the row.
        tokens: of the chosen and of the rejected answer.
        nats: of the chosen and of the rejected answer, then both with the reference.
    """

    row: int
    segments: tuple[int, int]
    tokens: tuple[int, int]
    nats: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def margin(self, spec: PreferenceSpec) -> float:
        """Return beta * (the log ratio of the chosen answer - that of the rejected one)."""
        chosen, rejected, before_chosen, before_rejected = self.nats
        ratios = [before_chosen - chosen, before_rejected - rejected]
        if spec.normalised:
            ratios = [ratio / n for ratio, n in zip(ratios, self.tokens, strict=True)]
        return spec.beta * (ratios[0] - ratios[1])

    def slopes(self, spec: PreferenceSpec) -> tuple[float, float]:
        """Return the derivative of the loss by the nats of each answer."""
        slope = spec.beta * sigmoid(-self.margin(spec))
        if spec.normalised:
            return slope / self.tokens[0], -(slope / self.tokens[1])
        return slope, -slope


def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(-x)), rounded once."""
    if abs(x) > _FAR:
        return float(x > 0)
    return float(_CONTEXT.divide(1, _CONTEXT.add(1, _CONTEXT.exp(Decimal(-x)))))


def pair_loss(margin: float) -> float:
    """Return ln(1 + exp(-margin)), rounded once."""
    if abs(margin) > _FAR:
        return max(-margin, 0.0)
    return float(_CONTEXT.ln(_CONTEXT.add(1, _CONTEXT.exp(Decimal(-margin)))))


def pairs_of(segments_BT: NDArray[np.float32]) -> list[Pair]:
    """Return the pairs of rows in order. Segments 2k + 1 and 2k + 2 of a row are a pair, chosen first;
    0 belongs to none.
    """
    found = []
    for row, segments in enumerate(segments_BT.astype(np.int64)):
        counts = np.bincount(segments)
        for chosen in range(1, len(counts) - 1, 2):
            tokens = int(counts[chosen]), int(counts[chosen + 1])
            found.append(Pair(row=row, segments=(chosen, chosen + 1), tokens=tokens))
    return found


def are_pairs(segments_BT: NDArray[np.float32]) -> bool:
    """Return whether every row has segments from 1 to an even number, each with a token."""
    width = segments_BT.shape[1]
    if not bool(((segments_BT >= 0) & (segments_BT <= width)).all()):
        return False
    counts = [np.bincount(row)[1:] for row in segments_BT.astype(np.int64)]
    return all(len(count) % 2 == 0 and bool(count.all()) for count in counts)


def measured(pairs: Sequence[Pair], segments_BT: Tensor, nats_BT: Tensor, before_BT: Tensor) -> list[Pair]:
    """Return the pairs with their nats: the FP32 losses of an answer's tokens, added in order in
    binary64.
    """
    segments = segments_BT.numpy().astype(np.int64)
    sides = nats_BT.cpu().numpy().astype(np.float64), before_BT.cpu().numpy().astype(np.float64)

    def nats(side: NDArray[np.float64], pair: Pair, segment: int) -> float:
        return float(np.add.accumulate(side[pair.row][segments[pair.row] == segment])[-1])

    found = []
    for pair in pairs:
        own = [nats(side, pair, segment) for side in sides for segment in pair.segments]
        found.append(replace(pair, nats=(own[0], own[1], own[2], own[3])))
    return found


def token_factors(pairs: Sequence[Pair], spec: PreferenceSpec, segments_BT: Tensor, weight: float) -> Tensor:
    """Return the derivative of weight * the sum of the losses by the nats of each token, [B, T]
    float32.
    """
    segments = segments_BT.numpy().astype(np.int64)
    factors = np.zeros(segments.shape, np.float32)
    for pair in pairs:
        for segment, slope in zip(pair.segments, pair.slopes(spec), strict=True):
            factors[pair.row][segments[pair.row] == segment] = np.float32(weight * slope)
    return torch.from_numpy(factors)


def pair_fields(numbers: Sequence[int], pairs: Sequence[Pair], spec: PreferenceSpec) -> dict[str, Json]:
    """Return what a row of metrics says of the pairs of a step.

    `pairs` holds for each its number in the file of samples, its tokens, its nats and its margin, so
    the contribution of any pair can be computed from the row.
    """
    margins = [pair.margin(spec) for pair in pairs]
    rows = [
        [number, *pair.tokens, *pair.nats, margin]
        for number, pair, margin in zip(numbers, pairs, margins, strict=True)
    ]
    return {"pairs": rows, "margin": sum(margins) / len(margins)}
