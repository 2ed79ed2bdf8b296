"""Merkle roots against RFC 6962 (its definition, written recursively, and published roots);
the plain pairing, written out.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.core.merkle import merkle_root, paired_root

# Leaves and roots of the Certificate Transparency test suite (the tree over the
# first 1 .. 8 of these leaves).
LEAVES = [
    bytes.fromhex(h)
    for h in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def rfc6962(leaves: list[bytes]) -> bytes:
    """Section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + rfc6962(leaves[:k]) + rfc6962(leaves[k:])).digest()


def test_no_leaves() -> None:
    assert merkle_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("count", range(1, 9))
def test_published_roots(count: int) -> None:
    assert merkle_root(LEAVES[:count]).hex() == ROOTS[count - 1]


@pytest.mark.parametrize("count", range(70))
def test_every_small_size(count: int) -> None:
    leaves = [bytes([i]) * (i % 5) for i in range(count)]
    assert merkle_root(leaves) == rfc6962(leaves)


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_any_leaves(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == merkle_root(tuple(leaves)) == rfc6962(leaves)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=12), st.data())
def test_any_change_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root = merkle_root(leaves)
    assert merkle_root([*leaves[:index], leaves[index] + b"x", *leaves[index + 1 :]]) != root
    assert merkle_root([*leaves, b""]) != root
    assert merkle_root(leaves[:index] + leaves[index + 1 :]) != root


def test_a_node_cannot_pass_for_a_leaf() -> None:
    left, right = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b"))
    assert merkle_root([left + right]) != merkle_root([b"a", b"b"])


# The plain pairing of the published container.


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


A, B, C, D, E = (digest(bytes([i])) for i in range(5))


def test_plain_pairs_written_out() -> None:
    assert paired_root([]) == bytes(32)
    assert paired_root([A]) == A
    assert paired_root([A, B]) == digest(A + B)
    assert paired_root([A, B, C]) == digest(digest(A + B) + digest(C + C))
    assert paired_root((A, B, C, D)) == digest(digest(A + B) + digest(C + D))
    last = digest(E + E)
    assert paired_root([A, B, C, D, E]) == digest(paired_root([A, B, C, D]) + digest(last + last))


def test_plain_pairs_of_constants() -> None:
    # Three leaves, SHA-256 of "a", "b", "c", by coreutils: printf, sha256sum and xxd.
    leaves = [digest(letter) for letter in (b"a", b"b", b"c")]
    assert paired_root(leaves).hex() == "d31a37ef6ac14a2db1470c4316beb5592e6afd4465022339adafda76a18ffabe"


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20))
def test_what_plain_pairs_leave_open(digests: list[bytes]) -> None:
    if len(digests) % 2 and len(digests) > 1:
        assert paired_root([*digests, digests[-1]]) == paired_root(digests)
    if len(digests) == 2:
        assert paired_root([digest(digests[0] + digests[1])]) == paired_root(digests)
    before = list(digests)
    assert paired_root(digests) == paired_root(before)
    assert digests == before  # the list that was given stays as it was
