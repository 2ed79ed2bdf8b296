"""`s7 reproduce FILE`: run the recipe of a sealed file again, and write a statement beside the file
if the root is the same (specs/statements.md).

With the file alone, the inputs of its recipe are needed as well: sources with absolute paths or
pinned packages, the file of the recipe where paths are relative to it, or a run directory whose
corpus and token files have the sealed roots. Cost: that of `s7 make`, without the given stages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sevenfold import pipeline
from sevenfold.artifact import Artifact
from sevenfold.audit.full import TAKEN, audit_full
from sevenfold.core.hashing import Json
from sevenfold.core.process.log import Progress
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
    """Make the model again and compare the root. If it is equal, write a statement beside the file.

    The arguments are those of `audit.full.audit_full`; `key` is a private key that signs the
    statement. Raises what `audit_full` raises.

    Returns:
        The outcome of a full audit, with `given` (the stages that were taken) and `statement` (the
        path of the written statement, or null when the root differs).
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
