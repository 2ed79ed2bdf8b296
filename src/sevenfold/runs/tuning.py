"""The samples of a tuning, as files of the run: cut by `tune.prepare`, read by stage `train`."""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_json
from sevenfold.core.hashing import Json, sha256_file
from sevenfold.core.run_files import TUNE, TUNE_FACTS
from sevenfold.runs.job import Job

_REMEDY = "run `s7 tune` again, which cuts the samples"


def tuning_facts(job: Job) -> dict[str, Json]:
    """Return what is said of the samples: template, counts, sources, and the digests of `files`.

    Raises StorageError.
    """
    path = job.directory(TUNE) / TUNE_FACTS
    said = read_json(path) if path.is_file() else None
    if not isinstance(said, dict) or not isinstance(said.get("files"), dict):
        raise StorageError("the samples of the tuning are not in this run", where=str(path), remedy=_REMEDY)
    return said


def tuning_file(job: Job, name: str) -> Path:
    """Return the path of a file of samples after comparing its bytes. Raises StorageError."""
    path = job.directory(TUNE) / name
    if not path.is_file() or sha256_file(path) != tuning_facts(job)["files"].get(name):
        raise StorageError(
            "it is missing, or its bytes are not those that were cut", where=str(path), remedy=_REMEDY
        )
    return path


def changed_tuning(job: Job) -> list[tuple[str, str, str]]:
    """Return the samples of a run that are not those that its training names: file, digest expected,
    digest found.

    Raises StorageError.
    """
    if job.recipe.tune is None:
        return []
    own = job.directory("train") / TUNE_FACTS
    said = read_json(own) if own.is_file() else tuning_facts(job)
    wanted = dict(said["files"])
    if own.is_file():
        wanted[TUNE_FACTS] = sha256_file(own)
    found = {}
    for name in wanted:
        path = job.directory(TUNE) / name
        found[name] = sha256_file(path) if path.is_file() else "missing"
    return [(name, wanted[name], found[name]) for name in wanted if found[name] != wanted[name]]
