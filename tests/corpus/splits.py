"""The split of a document by the sentence of specs/dataset.md, apart from the stage's arrays."""

from __future__ import annotations


def split_of(document_id: str, holdout: int) -> str:
    """Return the split of an id: held out when its first 32 bits are a multiple of `holdout`."""
    return "heldout" if int(document_id[:8], 16) % holdout == 0 else "train"
