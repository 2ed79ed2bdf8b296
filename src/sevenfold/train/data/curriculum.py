"""The context curriculum (C5): the length of a sequence by step, as data.

Without a `context` block a run has one stage. With one it starts at `train.sequence` with unscaled
positions. After the share `extend_at_tokens` of its steps it goes on at `target_stage1` with
`model.rope_scaling`. A step has the same number of tokens in both stages, so steps, tokens and
learning rate do not depend on stages. The step number remains the only data cursor. Each stage cuts
the stream into windows of its own and counts its batches from its first step.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import RecipeError
from sevenfold.recipe.schema import Recipe, RopeScaling
from sevenfold.train.data.windows import BatchSource
from sevenfold.train.schedule import n_steps


@dataclass(frozen=True, kw_only=True)
class ContextStage:
    """The steps from `first_step` on, with `batch_sequences` rows of `sequence` tokens and positions
    scaled by `rope_scaling`.
    """

    first_step: int
    sequence: int
    batch_sequences: int
    rope_scaling: RopeScaling


def context_stages(recipe: Recipe) -> tuple[ContextStage, ...]:
    """Return the stages of a recipe, in order.

    Raises:
        RecipeError: the context block does not fit the run.
    """
    train, context = recipe.train, recipe.context
    scaling = recipe.model.rope_scaling
    if context is None:
        return (
            ContextStage(
                first_step=0,
                sequence=train.sequence,
                batch_sequences=train.batch_sequences,
                rope_scaling=scaling,
            ),
        )
    switch = round(context.extend_at_tokens * n_steps(train))
    _check(recipe, switch)
    longer = ContextStage(
        first_step=switch,
        sequence=context.target_stage1,
        batch_sequences=train.batch_sequences * train.sequence // context.target_stage1,
        rope_scaling=scaling,
    )
    if switch == 0:
        return (longer,)
    base = ContextStage(
        first_step=0,
        sequence=train.sequence,
        batch_sequences=train.batch_sequences,
        rope_scaling=RopeScaling(),
    )
    return (base, longer)


def _check(recipe: Recipe, switch: int) -> None:
    train, context = recipe.train, recipe.context
    if context is None:
        return
    findings = {
        "context.train_base": (
            context.train_base != train.sequence,
            f"training starts at {context.train_base}, but train.sequence is {train.sequence}",
        ),
        "context.target_stage1": (
            bool(train.batch_sequences * train.sequence % context.target_stage1),
            f"a step of {train.batch_sequences} x {train.sequence} tokens is not whole sequences of "
            f"{context.target_stage1}",
        ),
        "context.extend_at_tokens": (
            switch >= n_steps(train),
            f"{context.extend_at_tokens} of {n_steps(train)} steps leaves none at target_stage1",
        ),
    }
    for where, (is_wrong, what) in findings.items():
        if is_wrong:
            raise RecipeError(what, where=where, remedy="make the context block and the train section agree")


def stage_at(stages: Sequence[ContextStage], step: int) -> ContextStage:
    """Return the stage that step 0, 1, ... belongs to."""
    return stages[bisect.bisect_right([stage.first_step for stage in stages], step) - 1]


class StagedBatches:
    """The batches of a curriculum; each stage is read from a source of its own."""

    def __init__(self, stages: Sequence[ContextStage], source: Callable[[ContextStage], BatchSource]) -> None:
        self.stages = tuple(stages)
        self.sources = {stage: source(stage) for stage in self.stages}

    def _at(self, step: int) -> tuple[BatchSource, int]:
        stage = stage_at(self.stages, step)
        return self.sources[stage], step - stage.first_step

    @property
    def sequence(self) -> int:
        """Return the tokens of a row of the first stage."""
        return self.stages[0].sequence

    @property
    def batch_sequences(self) -> int:
        """Return the rows of a step of the first stage."""
        return self.stages[0].batch_sequences

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return int64 [batch_sequences, sequence + 1] of the stage of the step."""
        source, own = self._at(step)
        return source.batch(own)

    def domains(self, step: int) -> list[str]:
        """Return the domain of each row."""
        source, own = self._at(step)
        return source.domains(own)

    def counted(self, step: int) -> NDArray[np.float32] | None:
        """Return which targets count; None when all do."""
        source, own = self._at(step)
        return source.counted(own)

    def spans(self, step: int) -> list[tuple[str, int, int]]:
        """Return the domain, first token and end of each window."""
        source, own = self._at(step)
        return source.spans(own)

    def items(self, _step: int) -> list[int]:
        """Return nothing, because windows are no samples."""
        return []

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how often a run of `n_steps` steps goes through each domain, all stages together."""
        ends = [*(stage.first_step for stage in self.stages[1:]), n_steps]
        total: Counter[str] = Counter()
        for stage, end in zip(self.stages, ends, strict=True):
            total.update(self.sources[stage].epochs(end - stage.first_step))
        return dict(total)
