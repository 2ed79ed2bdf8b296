"""The objectives of a loss, L_next + fim * L_fim + cot * L_cot (D3), and how each is logged apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.core.hashing import Json
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.windows import BatchSource

NEXT = "next"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One objective: its share in the loss, the rows that it is computed on and the split that they
    were cut from.
    """

    name: str
    weight: float
    source: BatchSource
    split: IndexedTokens


@dataclass(frozen=True, kw_only=True)
class ObjectiveLoss:
    """What a step gave: the mean over the tokens that count, and the sum of each row, in nats."""

    objective: Objective
    loss: float
    rows: Sequence[float]
    n_tokens: int


def metric_fields(parts: Sequence[ObjectiveLoss], step: int) -> dict[str, Json]:
    """Return the fields that a row of metrics has for more than one objective or domain.

    `objectives` is the loss of each objective, when there are several. `domains` is the mean loss of
    the next-token rows of each domain, when rows have one; a domain without a row in this step is
    left out.
    """
    fields: dict[str, Json] = {}
    if len(parts) > 1:
        fields["objectives"] = {part.objective.name: part.loss for part in parts}
    first = parts[0]
    names = first.objective.source.domains(step)
    if any(names):
        fields["domains"] = {name: _mean(first, names, name) for name in sorted(set(names))}
    return fields


def _mean(part: ObjectiveLoss, names: Sequence[str], wanted: str) -> float:
    rows = [nats for nats, name in zip(part.rows, names, strict=True) if name == wanted]
    return sum(rows) / (len(rows) * part.n_tokens / len(part.rows))
