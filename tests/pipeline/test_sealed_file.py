"""The file that a run seals: any flipped byte is refused and its place is
named; any cut is one clear error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.artifact import Lane, parse_artifact, read_artifact, verify
from sevenfold.core.errors import ArtifactError
from sevenfold.runs.job import Job

HEADER_BYTES = 40


@dataclass(frozen=True)
class Sealed:
    """The file's bytes, out of sight of anything that prints arguments."""

    data: bytes = field(repr=False)


@pytest.fixture(scope="module")
def sealed(dense_run: Job) -> Sealed:
    return Sealed((dense_run.out / "model.s7l").read_bytes())


def place(data: bytes, offset: int) -> Lane:
    """The lane that holds a byte."""
    for lane in parse_artifact(data).lanes:
        if lane.offset <= offset < lane.payload_offset + lane.n_bytes + 32:
            return lane
    raise ValueError(f"offset {offset} is in no lane")


def refusal(data: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        verify(parse_artifact(data))
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize("offset", range(HEADER_BYTES))
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_header_byte_is_bound(offset: int, mask: int, sealed: Sealed) -> None:
    flipped = bytearray(sealed.data)
    flipped[offset] ^= mask
    message = refusal(bytes(flipped)).lower()
    assert any(word in message for word in ("header", "root", "magic", "version", "class", "flag")), message


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 2**32), mask=st.integers(1, 255))
def test_any_flipped_byte_is_refused_and_its_lane_named(position: int, mask: int, sealed: Sealed) -> None:
    offset = HEADER_BYTES + position % (len(sealed.data) - HEADER_BYTES)
    flipped = bytearray(sealed.data)
    flipped[offset] ^= mask
    lane = place(sealed.data, offset)
    message = refusal(bytes(flipped))
    assert f"lane {lane.index}" in message
    assert f"at offset {lane.offset}" in message
    assert lane.name in message or offset == lane.offset  # a flipped id byte changes the name itself


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 2**32))
def test_any_cut_is_refused(position: int, sealed: Sealed) -> None:
    length = position % len(sealed.data)
    assert refusal(sealed.data[:length])


def test_the_header_alone_is_refused_for_its_root(sealed: Sealed) -> None:
    # A header without lanes is a legal file (A11), but this one carries the
    # root of lanes that are gone.
    assert "root" in refusal(sealed.data[:HEADER_BYTES])


def test_bytes_behind_the_end_are_refused(sealed: Sealed) -> None:
    assert refusal(sealed.data + b"\0")


def test_the_whole_file_is_what_was_written(dense_run: Job, sealed: Sealed) -> None:
    artifact = read_artifact(dense_run.out / "model.s7l")
    assert artifact.n_bytes == len(sealed.data)
    assert verify(artifact).ok
