"""Compute two Merkle roots: that of RFC 6962 (section 2.1) over byte leaves, and the plain pairing
of the published container.

    root([])      = SHA-256("")
    root([d])     = SHA-256(0x00 || d)
    root(D[0:n])  = SHA-256(0x01 || root(D[0:k]) || root(D[k:n])), k the largest power of two below n

The plain pairing has no tags and pairs an odd node with itself. So a list with its last leaf
doubled, or with a leaf that is the concatenation of two digests, has the root of another list. A
reader of such a root has to know the list of leaves from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from sevenfold.core.hashing import sha256

# The plain pairing of an empty list.
NO_DIGESTS = bytes(32)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the 32-byte root of the leaves, in the order given."""
    if not leaves:
        return sha256(b"")
    return _fold([sha256(b"\x00" + leaf) for leaf in leaves])


def paired_root(digests: Sequence[bytes]) -> bytes:
    """Return the plain 32-byte root of 32-byte digests: SHA-256(left || right), an odd node
    with itself, 32 zeros for none.
    """
    level = list(digests)
    while len(level) > 1:
        level += level[-1:] if len(level) % 2 else []
        level = [sha256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0] if level else NO_DIGESTS


def _fold(level: list[bytes]) -> bytes:
    # Pairing neighbours and carrying an odd last node upwards is the split of the RFC, without
    # recursion.
    while len(level) > 1:
        paired = [sha256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + (level[-1:] if len(level) % 2 else [])
    return level[0]
