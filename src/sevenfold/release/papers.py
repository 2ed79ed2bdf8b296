"""The papers of a sealed file, from the file alone (specs/papers.md)."""

from __future__ import annotations

from pathlib import Path

from sevenfold.artifact import Artifact
from sevenfold.core.hashing import sha256_file
from sevenfold.release.documents import write_papers
from sevenfold.release.lineage import lineage


def papers(artifact: Artifact, directory: Path | None = None) -> list[Path]:
    """Write the model card, the bill of materials and the notice of sources. Return their paths.

    Args:
        artifact: the sealed file.
        directory: where they go; None is beside the file.

    Raises:
        ArtifactError: the file does not say where it comes from.
        StorageError: they cannot be written.
    """
    value = lineage(artifact)
    value["seal"]["sha256"] = sha256_file(artifact.path)
    return write_papers(directory or artifact.path.parent, artifact.path.stem, value)
