"""`s7 reproduce FILE`: the recipe that a sealed file carries run again, and a statement beside the
file that it gave the same root (specs/statements.md).

Whoever has the file alone needs what its recipe reads: sources with absolute paths or pinned packages,
the recipe's own file where paths are relative to it, or a run directory whose corpus and token files
have the sealed roots. Cost: that of `s7 make`, without the stages that are given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sevenfold import pipeline
from sevenfold.artifact import Artifact
from sevenfold.audit.full import TAKEN, audit_full
from sevenfold.core.hashing import Json
from sevenfold.core.log import Progress
from sevenfold.recipe.schema import Recipe
from sevenfold.release.statements import REPRODUCTION, reproduction, write_statement
from sevenfold.release.target import sealed_file
from sevenfold.runs.job import Job
from sevenfold.runs.machine import inventory


def reproduce(
    path: Path,
    given: Recipe | None,
    recipe_dir: Path | None,
    progress: Progress,
    work: Path | None = None,
    *,
    taken: Path | None = None,
    trunk: Path | None = None,
    key: Any = None,
) -> dict[str, Json]:
    """Make the model again, compare the root, and when it is equal say so beside the file.

    Args: as `audit.full.audit_full` has them; `key` is a private key that signs the statement.

    Returns:
        The outcome of a full audit, with `given` (stages that were taken) and `statement`, the path
        of what was written; null when the root is another one.

    Raises: as `audit_full`.
    """
    written: list[Path] = []

    def finish(job: Job, artifact: Artifact) -> None:
        manifests = [job.manifest(stage.name) for stage in pipeline.STAGES if stage.name != "seal"]
        predicate = reproduction(
            recipe={"recipe": job.recipe.name, "recipeDigest": job.recipe.digest},
            root=artifact.root,
            stages={manifest.stage: manifest.root for manifest in manifests},
            given=list(TAKEN) if taken else [],
            tools={m.stage: m.tools for m in manifests if not taken or m.stage not in TAKEN},
            machine=inventory(),
            law=job.manifest("train").tools.get("arithmetic", "unrecorded"),
        )
        written.append(write_statement(artifact.path, artifact.root, REPRODUCTION, predicate, key))

    # A damaged file is refused before an hour of work.
    sealed_file(path)
    value = audit_full(path, given, recipe_dir, progress, work, taken=taken, trunk=trunk, finish=finish)
    return value | {
        "audit": "reproduce",
        "given": list(TAKEN) if taken else [],
        "statement": str(written[0]) if written else None,
    }
