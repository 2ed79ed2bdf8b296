"""Derive seeds for each purpose from the one seed of the recipe.

Random generators are passed as arguments, and no module has one of its own. Streams for different
purposes never overlap, and a new purpose does not change the others.
"""

from __future__ import annotations

from sevenfold.core.hashing import digest


def derive_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for `purpose` ("init", "batches", ...) from the seed of the recipe."""
    return int(digest("sevenfold/seed/1", str(seed), purpose)[:16], 16) >> 1
