"""Merkle root over byte leaves, with the leaf and node tags of RFC 6962 (section 2.1).

root([])      = SHA-256("")
root([d])     = SHA-256(0x00 || d)
root(D[0:n])  = SHA-256(0x01 || root(D[0:k]) || root(D[k:n])), k the largest power of two below n
"""

from __future__ import annotations

from collections.abc import Sequence

from sevenfold.core.hashing import sha256


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """32-byte root of the leaves, in the order given."""
    if not leaves:
        return sha256(b"")
    return _fold([sha256(b"\x00" + leaf) for leaf in leaves])


def _fold(level: list[bytes]) -> bytes:
    # Pairing neighbours and carrying an odd last node upwards is the RFC's split, without recursion.
    while len(level) > 1:
        paired = [sha256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + (level[-1:] if len(level) % 2 else [])
    return level[0]
