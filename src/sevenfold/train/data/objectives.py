"""The objectives of a loss, L_next + fim * L_fim + cot * L_cot (D3), and the metrics of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.core.hashing import Json
from sevenfold.recipe.schema import PreferenceSpec
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.windows import BatchSource
from sevenfold.train.tuning.preferences import Pair, pair_fields

NEXT = "next"
# In a tuning: the answers of conversations; pairs of answers.
ANSWERS = "answers"
PREFERENCES = "preferences"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One objective: its weight in the loss, its rows, and the split that they were cut from.

    With `preferences`, `source.counted` gives the segments of `preferences.pairs_of`.
    """

    name: str
    weight: float
    source: BatchSource
    split: IndexedTokens
    preferences: PreferenceSpec | None = None


@dataclass(frozen=True, kw_only=True)
class ObjectiveLoss:
    """The result of a step for one objective: the mean over the tokens that count, and the sum of
    each row, in nats.

    For `preferences`, the mean over the pairs, and the pairs; `n_tokens` is their number.
    """

    objective: Objective
    loss: float
    rows: Sequence[float]
    n_tokens: int
    pairs: Sequence[Pair] = ()


def metric_fields(losses: Sequence[ObjectiveLoss], step: int) -> dict[str, Json]:
    """Return the extra fields of a row of metrics for several objectives or domains.

    `objectives` is the loss of each objective, when there are several. `domains` is the mean loss
    of the next-token rows of each domain, when rows have one. A domain without a row in this step
    is left out.
    """
    fields: dict[str, Json] = {}
    for loss in losses:
        if loss.objective.preferences is not None:
            numbers = loss.objective.source.items(step)
            fields |= pair_fields(numbers, loss.pairs, loss.objective.preferences)
    if len(losses) > 1:
        fields["objectives"] = {loss.objective.name: loss.loss for loss in losses}
    first = losses[0]
    names = first.objective.source.domains(step)
    if any(names):
        fields["domains"] = {name: _mean(first, names, name) for name in sorted(set(names))}
    return fields


def _mean(loss: ObjectiveLoss, names: Sequence[str], wanted: str) -> float:
    rows = [nats for nats, name in zip(loss.rows, names, strict=True) if name == wanted]
    return sum(rows) / (len(rows) * loss.n_tokens / len(loss.rows))
