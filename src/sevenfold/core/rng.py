"""Randomness is passed in: seeds for each purpose derived from the recipe's one seed.

Streams for different purposes never overlap, and adding a purpose does not move the others.
"""

from __future__ import annotations

from sevenfold.core.hashing import digest


def derive_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for `purpose` ("init", "batches", ...), from the recipe's seed."""
    return int(digest("sevenfold/seed/1", str(seed), purpose)[:16], 16) >> 1
