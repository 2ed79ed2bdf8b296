"""Errors of the memory: one class per cause."""

from __future__ import annotations

from sevenfold.core.errors import ArtifactError, StorageError


class DamagedMemoryError(ArtifactError):
    """A page, a segment or the manifest of a memory does not have its digest, or cannot be read."""


class ForeignMemoryError(ArtifactError):
    """A memory whose root is not the expected one."""


class NoMemoryError(StorageError):
    """No memory is in the directory, or something else is."""
