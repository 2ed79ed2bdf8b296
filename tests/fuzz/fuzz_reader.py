"""Coverage-guided fuzzing of the reader, the verifier, partial and streaming verification.

    python tests/fuzz/fuzz_reader.py -max_total_time=60 CORPUS_DIR     (libFuzzer flags; needs atheris)

Any bytes are an `Artifact` or an `ArtifactError`. Because a random change never survives a digest,
every input is also read a second time with its digests, its seal and its root put right, so that
the code behind them is reached.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from sources import fuzz, use_sources

use_sources()

with atheris.instrument_imports(include=["sevenfold"]):
    from sevenfold.artifact import (
        StreamVerifier,
        header_only,
        parse_artifact,
        verify,
        verify_part,
        verify_range,
    )
    from sevenfold.core.errors import ArtifactError, SevenfoldError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "attacks"))
from build_attacks import ATTACKS, Parts, build
from build_refused import REFUSED
from packing import pack_file, pack_sealed, two_tensors


def streams(data: bytes) -> bool:
    """Whether the stream verifier takes the file, in two blocks, as what its header says it is."""
    stream = StreamVerifier(published=int.from_bytes(data[4:6], "big") < 3)
    try:
        stream.update(data[:50])
        stream.update(data[50:])
        stream.finish()
    except ArtifactError:
        return False
    return True


def read(data: bytes) -> None:
    """Everything that takes a hostile file; what holds by one way of
    reading must hold by the other.
    """
    streamed = streams(data)
    try:
        artifact = parse_artifact(data)
    except ArtifactError:
        return
    verification = verify(artifact)
    for row in verification.rows:
        if not row.detail.isprintable():
            raise AssertionError(f"{row.id} prints {row.detail!r}")
    if not streamed and (verification.ok or (artifact.published and not artifact.header_only)):
        raise AssertionError("the stream refuses what the reader takes")
    if verification.ok and artifact.seal is None:
        raise AssertionError("rules hold for a file that no seal binds")
    for check in (verify_part, "trunk"), (verify_range, 41, 47):
        try:
            check[0](artifact, *check[1:])
        except SevenfoldError:
            if verification.ok:
                raise


def lanes_of(data: bytes) -> list[tuple[int, bytes]]:
    """Cut any bytes into lanes: id, u16 length, payload."""
    lanes, offset = [], 0
    while offset + 3 <= len(data) and len(lanes) < 12:
        n_bytes = int.from_bytes(data[offset + 1 : offset + 3], "big")
        lanes.append((data[offset], data[offset + 3 : offset + 3 + n_bytes]))
        offset += 3 + n_bytes
    return lanes


def one(data: bytes) -> None:
    """One input: as a file, and as lanes behind a header that is right."""
    read(data)
    if len(data) > 2:
        version, class_ = 1 + data[0] % 3, 1 + data[1] % 2
        flags = 5 if class_ == 2 else 1
        lanes = lanes_of(data[2:])
        read(
            pack_file(
                lanes, version=version, class_=class_, flags=flags | (data[1] & 0x80 if version == 3 else 0)
            )
        )
        read(pack_sealed(lanes, class_=class_, flags=flags | data[1] & 0x80))


def as_lanes(data: bytes) -> bytes:
    """A file in the form that `lanes_of` cuts."""
    artifact = parse_artifact(data)
    lanes = [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.lanes]
    head = bytes([artifact.version - 1, artifact.class_ - 1 | artifact.flags & 0x80])
    return head + b"".join(bytes([i]) + len(p).to_bytes(2, "big") + p for i, p in lanes)


def seeds() -> list[bytes]:
    """Where the search begins: a whole file, its lanes, every attack, and what only the seal binds."""
    files = [header_only(1), Parts.sample().pack(), pack_file([(2, two_tensors())], version=1)]
    files += [build(name) for name in ATTACKS]
    return [*files, *(refused() for _, refused in REFUSED.values()), *map(as_lanes, files)]


if __name__ == "__main__":
    fuzz(one, seeds())
