"""Errors of the memory, one class for each cause."""

from __future__ import annotations

from sevenfold.core.errors import ArtifactError, StorageError


class DamagedMemoryError(ArtifactError):
    """A page, a segment or the manifest of a memory does not have its digest, or cannot be read."""


class ForeignMemoryError(ArtifactError):
    """A memory whose root is not the expected one."""


class NoMemoryError(StorageError):
    """The directory holds no memory, or it holds something else."""
