"""The samples of a tuning, as files of the run: cut by `tune.prepare`, read by stage `train`."""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_json
from sevenfold.core.hashing import Json, sha256_file
from sevenfold.core.run_files import TUNE, TUNE_FACTS
from sevenfold.recipe.schema import TunePhase
from sevenfold.runs.job import Job

_REMEDY = "run `s7 tune` again, which cuts the samples"


def tuning_directory(job: Job, phase: str = "") -> Path:
    """Return where the samples of a phase are; "" is the phase of a tuning that has one."""
    return job.directory(TUNE) / phase


def tuning_facts(job: Job, phase: str = "") -> dict[str, Json]:
    """Return what is said of the samples: template, counts, sources, and the digests of `files`.

    Raises StorageError.
    """
    path = tuning_directory(job, phase) / TUNE_FACTS
    said = read_json(path) if path.is_file() else None
    if not isinstance(said, dict) or not isinstance(said.get("files"), dict):
        raise StorageError("the samples of the tuning are not in this run", where=str(path), remedy=_REMEDY)
    return said


def tuning_file(job: Job, name: str, phase: str = "") -> Path:
    """Return the path of a file of samples after comparing its bytes. Raises StorageError."""
    path = tuning_directory(job, phase) / name
    if not path.is_file() or sha256_file(path) != tuning_facts(job, phase)["files"].get(name):
        raise StorageError(
            "it is missing, or its bytes are not those that were cut", where=str(path), remedy=_REMEDY
        )
    return path


def changed_tuning(job: Job) -> list[tuple[str, str, str]]:
    """Return the samples of a run that are not those that its training names: file, digest expected,
    digest found.

    Raises StorageError.
    """
    changed = []
    for tune in job.recipe.tunings:
        phase = tune.name if isinstance(tune, TunePhase) else ""
        own = job.directory("train") / phase / TUNE_FACTS
        said = read_json(own) if own.is_file() else tuning_facts(job, phase)
        wanted = dict(said["files"])
        if own.is_file():
            wanted[TUNE_FACTS] = sha256_file(own)
        for name, expected in wanted.items():
            path = tuning_directory(job, phase) / name
            found = sha256_file(path) if path.is_file() else "missing"
            if found != expected:
                changed.append((f"{phase}/{name}" if phase else name, expected, found))
    return changed
