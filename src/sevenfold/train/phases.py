"""The phases of a training run: one for most recipes; the trunk and each expert for expert stacks
(B1); those of a tuning, each over the weights of the one before.

A phase is an independent job with its own directory, seed streams, checkpoints and records. An
expert needs the weights of the trunk and nothing of other experts. Experts may run in any order, or
at once in several processes, and give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.recipe.schema import (
    ExpertStacks,
    Phase,
    PreferenceSpec,
    Recipe,
    TrainSpec,
    TunePhase,
    TuneSpec,
)
from sevenfold.recipe.sizing import expert_of

TRUNK, EXPERTS = "trunk", "experts"


@dataclass(frozen=True, kw_only=True)
class TrainingPhase:
    """One phase of a training run.

    Attributes:
        name: the directory of the phase below train/; "" for a run of one phase.
        spec: section `train` of the recipe, with the tokens and the batch of this phase.
        mix: the share of each domain in the training data.
        trains: "all", "trunk" or "experts".
        stack: the number of the expert stack that it trains, or None.
        base: the phase whose weights this one needs: the trunk, for an expert; the phase before, in a
            tuning.
        tune: what a tuning trains on.
    """

    name: str
    spec: TrainSpec
    mix: Mapping[str, float]
    trains: str = "all"
    stack: int | None = None
    base: TrainingPhase | None = None
    tune: TuneSpec | None = None

    @property
    def preferences(self) -> PreferenceSpec | None:
        """Return the loss of pairs of answers that the phase trains on; None for another phase."""
        return self.tune.preferences if isinstance(self.tune, TunePhase) else None

    @property
    def path(self) -> str:
        """Return the name of the phase after a slash, or "" for a run of one phase."""
        return f"/{self.name}" if self.name else ""

    @property
    def is_partial(self) -> bool:
        """Return whether the phase leaves some parameters unchanged."""
        return self.trains != "all"

    def trained(self, names: Iterable[str]) -> frozenset[str]:
        """Return the parameters that this phase trains. The others are frozen."""
        if not self.is_partial:
            return frozenset(names)
        return frozenset(name for name in names if expert_of(name) == self.stack)


def training_phases(recipe: Recipe) -> tuple[TrainingPhase, ...]:
    """Return the phases of a run in order; the trunk comes before the experts. Raises RecipeError."""
    train, moe = recipe.train, recipe.model.moe
    if not isinstance(moe, ExpertStacks):
        if train.phases:
            raise RecipeError(
                "this version trains phases of expert stacks only",
                where=f"{recipe.name}: train.phases",
                remedy=(
                    "leave the phases out (a `context` block makes sequences longer on the way), or plan with"
                    " `s7 plan`"
                ),
            )
        return _tuning_phases(recipe)
    if recipe.context is not None:
        raise RecipeError(
            "a context curriculum with expert stacks is not defined: each phase has its own sequence",
            where=f"{recipe.name}: context",
            remedy="leave the context block out",
        )
    if [phase.trains for phase in train.phases] != [TRUNK, EXPERTS]:
        raise RecipeError(
            "expert stacks are trained in two phases",
            where=f"{recipe.name}: train.phases",
            remedy="one phase that trains trunk, then one that trains experts",
        )
    trunk, experts = train.phases
    phases = [
        TrainingPhase(
            name=trunk.name, spec=_spec(train, trunk, trunk.tokens), mix=recipe.corpus.mix, trains=TRUNK
        )
    ]
    for stack, expert in enumerate(moe.experts):
        spec = _spec(train, experts, experts.tokens_per_expert[expert])
        name = f"{experts.name}/{expert}"
        phases.append(
            TrainingPhase(
                name=name, spec=spec, mix={expert: 1.0}, trains=EXPERTS, stack=stack, base=phases[0]
            )
        )
    return tuple(phases)


def _tuning_phases(recipe: Recipe) -> tuple[TrainingPhase, ...]:
    """Return the phases of a tuning, each over the one before; one phase for other recipes."""
    train, mix = recipe.train, recipe.corpus.mix
    if not isinstance(recipe.tune, tuple):
        return (TrainingPhase(name="", spec=train, mix=mix, tune=recipe.tune),)
    phases: list[TrainingPhase] = []
    for tune in recipe.tune:
        changes = {"tokens": tune.tokens, "learning_rate": tune.learning_rate or train.learning_rate}
        spec = train.model_copy(update=changes)
        base = phases[-1] if phases else None
        phases.append(TrainingPhase(name=tune.name, spec=spec, mix=mix, base=base, tune=tune))
    return tuple(phases)


def _spec(train: TrainSpec, phase: Phase, tokens: int) -> TrainSpec:
    micro = train.micro_batch_sequences
    if micro is not None and phase.batch_sequences % micro:
        raise RecipeError(
            f"micro batches of {micro} do not divide the batch of {phase.batch_sequences} of phase"
            f" {phase.name}",
            where="train.micro_batch_sequences",
            remedy="choose a number that divides the batch of every phase",
        )
    return train.model_copy(
        update={
            "tokens": tokens,
            "batch_sequences": phase.batch_sequences,
            "sequence": phase.sequence,
            "phases": (),
        }
    )


def find_training_phase(recipe: Recipe, phase: str, expert: str | None) -> TrainingPhase:
    """Return the phase with this name, or the phase of one of its experts. Raises UsageError."""
    phases = training_phases(recipe)
    name = f"{phase}/{expert}" if expert else phase
    for candidate in phases:
        if candidate.name == name and name:
            return candidate
    known = ", ".join(known.name.replace("/", " --expert ") for known in phases if known.name)
    raise UsageError(
        f"{recipe.name} has no phase {name!r}",
        remedy=f"phases: --phase {known}" if known else "this recipe trains in one phase: leave --phase out",
    )
