"""Find the subject of an audit: a run directory, or a sealed file alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sevenfold.artifact import Artifact, read_artifact
from sevenfold.core.errors import ArtifactError, StorageError
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import ARTIFACT


@dataclass(frozen=True, kw_only=True)
class Target:
    """The subject of an audit. `out` is None when only a file was named. `artifact` is None when
    the run is not sealed yet.
    """

    out: Path | None
    artifact: Artifact | None


def find_target(path: Path) -> Target:
    """Return the run in the directory `path`, or the sealed file `path`.

    Raises:
        StorageError: `path` does not exist.
        ArtifactError: the sealed file is refused.
    """
    if not path.is_dir():
        return Target(out=None, artifact=read_artifact(path))
    sealed = path / ARTIFACT
    return Target(out=path, artifact=read_artifact(sealed) if sealed.is_file() else None)


def sealed_file(path: Path) -> Artifact:
    """Return the sealed file `path`, or that of the run directory `path`. Raises StorageError or
    ArtifactError.
    """
    subject = find_target(path)
    if subject.artifact is None:
        raise StorageError(
            f"no {ARTIFACT} in this directory",
            where=str(path),
            remedy="name a sealed file, or a run directory that `s7 make` has finished",
        )
    return subject.artifact


def identity_of(artifact: Artifact) -> dict[str, Json]:
    """Return the sealed identity, with `facts` as an object. Raises ArtifactError for a file
    without one.
    """
    identity = artifact.provenance.get("identity")
    if not isinstance(identity, dict):
        raise ArtifactError(
            "the file does not say where it comes from",
            where=str(artifact.path),
            remedy="only files that `s7 seal` wrote carry their lineage",
        )
    facts = identity.get("facts")
    return {**identity, "facts": facts if isinstance(facts, dict) else {}}
