"""The digest that binds checkpoints to a run, so that no run resumes from the state of another."""

from __future__ import annotations

from sevenfold.core.hashing import canonical_json, digest
from sevenfold.core.run_files import TRAIN_TOKENS
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.train.phases import TrainingPhase
from sevenfold.train.precision import law


def run_key(job: Job, phase: TrainingPhase, base: str = "") -> str:
    """Return the digest of what decides the bits of a phase besides the code.

    That is the recipe, the data, and `base`, the root of the weights that it starts from.
    """
    return key_of(job.recipe, phase, job.manifest("tokenizer").root, base)


def key_of(recipe: Recipe, phase: TrainingPhase, tokens_root: str, base: str = "") -> str:
    """Return the same digest from a recipe and the root of its token files."""
    sections = [recipe.model.model_dump_json(), phase.spec.model_dump_json()]
    if recipe.context is not None:
        sections.append(recipe.context.model_dump_json())
    if phase.tune is not None:
        sections.append(phase.tune.model_dump_json())
    more = [phase.name, base, canonical_json(dict(phase.mix)).decode()] if phase.name or phase.mix else []
    more += law(phase.spec.precision)
    return digest("sevenfold/run/1", *sections, tokens_root, TRAIN_TOKENS, *more)
