"""The table of stages, and the protocol that the module of a stage implements.

A stage reads the directories of the stages that it needs and writes its own. Stages exchange files
and never objects.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sevenfold.core.errors import UsageError
from sevenfold.runs.job import Job, StageResult


class StageModule(Protocol):
    """The functions that the module of a stage defines."""

    def check_job(self, job: Job) -> None:
        """Refuse what the stage cannot do, before any stage runs. Raises SevenfoldError."""

    def fingerprint(self, job: Job) -> str:
        """Return what decides the outputs besides the recipe's sections and the input roots."""

    def run(self, job: Job) -> StageResult:
        """Do the work and write the outputs, without the manifest. Raises SevenfoldError."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the table. Raise `version` when a change of code changes the bytes a stage writes."""

    name: str
    module: str
    needs: tuple[str, ...]
    # Sections of the recipe; "*" is all of it.
    sections: tuple[str, ...]
    # Whether the files of an unfinished run stay, because the next run goes on from them.
    keeps: bool = False
    # Keys of its section that later stages read and that decide no output of this one.
    passes_on: tuple[str, ...] = ()
    version: int = 1


STAGES = (
    # Each shard of an unfinished corpus has a key of its own, so shards may stay.
    Stage(
        name="corpus",
        module="sevenfold.corpus.stage",
        needs=(),
        sections=("corpus",),
        keeps=True,
        passes_on=("mix",),
        version=9,
    ),
    Stage(
        name="tokenizer",
        module="sevenfold.tokenizer.stage",
        needs=("corpus",),
        sections=("tokenizer", "model"),
        version=3,
    ),
    Stage(
        name="train",
        module="sevenfold.train.stage",
        needs=("tokenizer",),
        sections=("model", "train", "context"),
        keeps=True,
        version=5,
    ),
    Stage(
        name="quantize",
        module="sevenfold.quantize.stage",
        needs=("tokenizer", "train"),
        sections=("model", "train", "context", "quantize"),
        version=3,
    ),
    Stage(
        name="seal",
        module="sevenfold.quantize.seal",
        needs=("corpus", "tokenizer", "train", "quantize"),
        sections=("*",),
        version=4,
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def find_stage(name: str) -> Stage:
    """Return the stage of that name. Raises UsageError."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise UsageError(f"no stage {name!r}", remedy=f"stages are {', '.join(STAGE_NAMES)}")


def stage_module(stage: Stage) -> StageModule:
    """Import the module of a stage, with the libraries it needs, and return it."""
    module: StageModule = importlib.import_module(stage.module)
    return module


if TYPE_CHECKING:
    import sevenfold.corpus.stage as corpus_stage
    import sevenfold.quantize.seal as seal_stage
    import sevenfold.quantize.stage as quantize_stage
    import sevenfold.tokenizer.stage as tokenizer_stage
    import sevenfold.train.stage as train_stage

    # The type checker compares each module with the protocol. Nothing is imported when the program
    # runs.
    _MODULES: tuple[StageModule, ...] = (
        corpus_stage,
        tokenizer_stage,
        train_stage,
        quantize_stage,
        seal_stage,
    )
