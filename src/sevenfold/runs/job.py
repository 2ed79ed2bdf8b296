"""The input and the result of a stage.

Stages exchange files: a stage reads `job.directory(other)`, writes `job.directory(itself)`, and
returns what the manifest needs. `sevenfold.pipeline` writes that manifest last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import Manifest, read_manifest
from sevenfold.core.process.log import Progress, Silent
from sevenfold.recipe.schema import Recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one recipe in one directory."""

    recipe: Recipe
    out: Path
    # Relative source paths in the recipe start here.
    recipe_dir: Path = Path()
    progress: Progress = field(default_factory=Silent)
    # Number of workers that make the corpus. They change no byte.
    workers: int | Literal["ray"] = 1
    # Whether integers that miss the gate of the recipe are accepted. The seal records it.
    accept_quality: bool = False
    # Whether the sealed file also holds the FP32 weights.
    with_training_weights: bool = False
    # More directories and sealed files in which to look for what `train.from` names.
    trunks: tuple[Path, ...] = ()
    # Whether the sealed file may replace one with another root.
    replace: bool = False

    def directory(self, stage: str) -> Path:
        """Return the directory of a stage's files."""
        return self.out / stage

    def manifest(self, stage: str) -> Manifest:
        """Return the manifest of a stage that must have finished.

        Raises StorageError when it has not.
        """
        manifest = read_manifest(self.directory(stage))
        if manifest is None:
            raise StorageError(
                f"stage {stage!r} has not finished here",
                where=str(self.directory(stage)),
                remedy=f"run `s7 make RECIPE --out {self.out} --until {stage}` first",
            )
        return manifest


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """Files written (paths relative to the stage directory), figures for
    reports, tools that decide bytes.
    """

    outputs: list[str]
    contents: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
