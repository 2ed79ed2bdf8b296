"""Partial trust: parts, tensors and ranges proved alone, and a file proved while it comes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_attacks import Parts, sample_input, sample_tensor
from hypothesis import example, given
from hypothesis import strategies as st
from packing import CHUNK, merkle, pack_file, pack_record, pack_sealed, sha, two_tensors

from sevenfold.artifact import (
    Artifact,
    StreamVerifier,
    build_contents,
    errors,
    header_only,
    layout,
    open_artifact,
    parse_artifact,
    training_tensor,
    training_values,
    verify,
    verify_part,
    verify_range,
    write_artifact,
)
from sevenfold.artifact.seal import chunk_size, parse_seal
from sevenfold.core.errors import ArtifactError, UsageError

EXPERTS = [
    sample_tensor(f"layers.00.ffn.experts.{e}.{name}.weight", (130, 1024), 3 * e)
    for e in (0, 1)
    for name in ("a", "b")
]
STACK = [sample_tensor("experts.2.layers.00.ffn.down_proj.weight", (3, 70000), 5)]
FLOATS = {
    "embedding.weight": np.array([[1.5, -0.0], [np.nan, np.float32(1e-45)]], np.float32),
    "lm_head.weight": np.linspace(-1, 1, 52500, dtype=np.float32).reshape(525, 100),
    "final_norm.weight": np.array([np.inf, 3], np.float32),
}


def routed(**changes: Any) -> bytes:
    """A model with a trunk, two routed experts and an expert stack, as bytes."""
    tensors = [*sample_input().tensors, *EXPERTS, *STACK, *changes.pop("more", [])]
    from sevenfold.artifact.writer import pack

    return b"".join(pack(build_contents(sample_input(tensors=tensors, **changes)))[1])


DATA = routed(more=[training_tensor(name, values) for name, values in FLOATS.items()])
MODEL = parse_artifact(DATA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.s7l").write_bytes(DATA)
    return tmp_path / "model.s7l"


def flip(path: Path, *offsets: int) -> Artifact:
    """The file opened after bytes of FIELD were changed: opening does not look at them."""
    data = bytearray(DATA)
    for offset in offsets:
        data[offset] ^= 0x40
    path.write_bytes(data)
    return open_artifact(path)


def test_parts_are_those_of_the_page() -> None:
    assert MODEL.seal is not None
    assert list(MODEL.seal.parts) == ["expert.0", "expert.1", "expert.2", "training", "trunk"]
    pieces = {piece.name: piece for lane in MODEL.seal.lanes for piece in lane.pieces}
    for part, root in MODEL.seal.parts.items():
        leaves = []
        for name, record in MODEL.records.items():
            if layout.part_of(name) == part:
                raw = DATA[record.start : record.offset + record.numel]
                assert pieces[name].n_bytes == len(raw)
                leaves.append(merkle([sha(raw[i : i + CHUNK]) for i in range(0, len(raw), CHUNK)]))
        assert root == merkle(leaves).hex()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("layers.00.ffn.experts.12.gate_proj.weight.rows", "expert.12"),
        ("experts.3.layers.01.attn.q_proj.weight", "expert.3"),
        ("router.experts", "trunk"),
        ("my_experts.3.x", "trunk"),
        ("experts.x.weight", "trunk"),
        ("training.experts.3.layers.01.attn.q_proj.weight", "training"),
        ("trainings.x", "trunk"),
    ],
)
def test_part_of_a_name(name: str, part: str) -> None:
    assert layout.part_of(name) == part


def test_a_part_is_proved_without_the_rest(path: Path) -> None:
    inside = MODEL.records["layers.00.ffn.experts.1.b.weight"].offset + 70000
    for offset in (MODEL.records["experts.2.layers.00.ffn.down_proj.weight"].offset + 9, inside):
        opened = flip(path, offset)
        assert verify_part(opened, "expert.0").n_chunks == 6
        assert verify_part(opened, "trunk").n_bytes == sum(
            2 + len(n) + 1 + 4 * len(r.dims) + 4 + r.numel
            for n, r in MODEL.records.items()
            if layout.part_of(n) == "trunk"
        )
        with pytest.raises(errors.LaneDigestError, match=r"lane 2 \(FIELD\)"):
            opened.prove()
    with pytest.raises(errors.ChunkError) as caught:
        verify_part(opened, "expert.1")
    chunk = MODEL.records["layers.00.ffn.experts.1.b.weight"].start + CHUNK
    assert f"offset {chunk} of 'layers.00.ffn.experts.1.b.weight'" in str(caught.value)
    with pytest.raises(errors.ChunkError, match=f"offset {chunk} "):
        verify_part(opened, "layers.00.ffn.experts.1.b.weight")
    assert verify_part(opened, "layers.00.ffn.experts.1.a.weight").n_chunks == 3
    assert verify_part(opened, "training").what == "training"


def test_a_range_is_proved_without_the_rest(path: Path) -> None:
    record = MODEL.records["layers.00.ffn.experts.0.a.weight"]
    opened = flip(path, record.offset + 2 * CHUNK)
    before = record.start + 2 * CHUNK
    assert verify_range(opened, record.start, before).n_chunks == 2
    assert verify_range(opened, 0, 40).n_chunks == 0
    assert verify_range(opened, before - 1, before).n_chunks == 1
    assert verify_range(opened, opened.n_bytes - 1, opened.n_bytes).n_chunks == 0
    for first, last in ((before, before + 1), (0, opened.n_bytes), (before - 1, before + 1)):
        with pytest.raises(errors.ChunkError, match=f"offset {before} "):
            verify_range(opened, first, last)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 200000), st.integers(0, len(DATA) - 1))
def test_a_range_with_a_changed_byte_is_never_proved(first: int, length: int, changed: int) -> None:
    from sevenfold.artifact.reader import _parse

    last = min(first + length, len(DATA))
    data = bytearray(DATA)
    data[changed] ^= 1
    try:
        proved = verify_range(_parse(bytes(data), Path("memory")), first, last)
    except ArtifactError:
        return
    assert proved.n_bytes == last - first
    assert not first <= changed < last


def test_what_is_no_part_and_no_range(path: Path) -> None:
    with pytest.raises(UsageError, match=r"expert\.9.*expert\.0, expert\.1"):
        verify_part(MODEL, "expert.9")
    for first, last in ((5, 5), (9, 8), (0, len(DATA) + 1)):
        with pytest.raises(UsageError, match="no range"):
            verify_range(MODEL, first, last)


def test_a_file_without_a_seal_has_no_parts() -> None:
    bare = parse_artifact(pack_file([(2, two_tensors())]))
    with pytest.raises(errors.SealError, match="no seal"):
        verify_part(bare, "trunk")
    with pytest.raises(errors.SealError, match="no seal"):
        verify_range(bare, 0, 9)


def test_a_seal_of_other_lanes_proves_nothing() -> None:
    parts = Parts.sample()
    parts.seal_patch = lambda seal: seal["lanes"][0].update(sha256="ee" * 32)
    with pytest.raises(errors.RootError, match="not the one that the seal lists"):
        parse_artifact(parts.pack())


def test_opening_reads_no_weights_and_tensors_are_proved_first(path: Path) -> None:
    opened = flip(path, MODEL.records["embedding.weight"].offset)
    assert list(opened.records) == list(MODEL.records)
    with pytest.raises(errors.LaneDigestError, match=str(path)):
        _ = opened.tensors
    with pytest.raises(errors.LaneDigestError):
        verify(opened)


def test_released_pages_come_back(path: Path) -> None:
    opened = open_artifact(path)
    before = opened.tensors["lm_head.weight"].data.copy()
    opened.release()
    assert np.array_equal(opened.tensors["lm_head.weight"].data, before)
    MODEL.release()  # bytes in memory have no pages to give


# Training weights.


def test_training_weights_come_back_bit_for_bit() -> None:
    for name, values in FLOATS.items():
        found = training_values(MODEL.tensors[f"training.{name}"])
        assert found.shape == values.shape
        assert found.tobytes() == values.tobytes()


def test_training_weights_have_lanes_of_their_own_and_change_no_other() -> None:
    without = parse_artifact(routed())
    fields = [lane for lane in MODEL.lanes if lane.name == "FIELD"]
    assert [lane.sha256 for lane in without.lanes if lane.name == "FIELD"] == [fields[0].sha256]
    small = parse_artifact(
        routed(lane_limit=210100, more=[training_tensor(name, values) for name, values in FLOATS.items()])
    )
    starts = [
        min(r.start for r in small.records.values() if r.start > lane.offset)
        for lane in small.lanes
        if lane.id == 2
    ]
    first = [next(n for n, r in small.records.items() if r.start == start) for start in starts]
    assert first.count("training.embedding.weight") == 1
    assert sum(name.startswith("training.") for name in first) == 2  # the second begins with lm_head
    assert not [row for row in verify(small).rows if row.status == "fail"]


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros(3, np.float16)])
def test_training_weights_of_another_type_are_refused(values: Any) -> None:
    with pytest.raises(errors.ContentsError, match="float32 was expected"):
        training_tensor("x", values)


def test_a_training_record_of_another_shape_is_refused() -> None:
    record = pack_record(b"training.x", [2], 1.0, b"\1\2")
    with pytest.raises(errors.RankError, match=r"training\.x"):
        training_values(parse_artifact(pack_file([(2, two_tensors() + record)])).tensors["training.x"])


# Streams.


def stream(
    data: bytes, step: int = 1000, root: str | None = None, *, published: bool = False
) -> StreamVerifier:
    verifier = StreamVerifier(root, published=published)
    for start in range(0, len(data), step):
        verifier.update(data[start : start + step])
    return verifier


def feed(verifier: StreamVerifier, data: bytes, *, end: bool = False) -> None:
    for start in range(0, len(data), 1000):
        verifier.update(data[start : start + 1000])
    if end:
        verifier.finish()


def test_a_stream_gives_the_root_and_its_progress() -> None:
    verifier = StreamVerifier(MODEL.root.upper())
    verifier.update(DATA[:39])
    assert (verifier.n_bytes, verifier.n_bytes_total) == (0, None)
    seal = MODEL.lanes[0]
    verifier.update(DATA[39 : seal.end])
    assert (verifier.n_bytes, verifier.n_bytes_total) == (seal.end, len(DATA))
    verifier.update(DATA[seal.end :])
    assert verifier.n_bytes == len(DATA)
    assert verifier.finish() == MODEL.root


@given(st.integers(100, 300000))
def test_where_a_stream_is_cut_does_not_matter(step: int) -> None:
    assert stream(DATA, step).finish() == MODEL.root


@example(42, 1)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_changed_byte_stops_the_stream_within_its_chunk(position: int, mask: int) -> None:
    data = bytearray(DATA)
    data[position] ^= mask
    verifier = StreamVerifier()
    # The first lane, the seal, is taken whole; behind it nothing is taken past the chunk.
    told, taken = max(position + CHUNK, MODEL.lanes[0].end) + 1000, max(position, MODEL.lanes[0].end)
    # Another length of the seal: it is waited for, and the end of the file comes.
    if 41 <= position < 45:
        told = taken = len(data)
    with pytest.raises(ArtifactError):
        feed(verifier, bytes(data[:told]), end=told == len(data))
    assert verifier.n_bytes <= taken


def test_a_changed_byte_of_a_stream_is_named() -> None:
    record = MODEL.records["layers.00.ffn.experts.0.a.weight"]
    data = bytearray(DATA)
    data[record.offset + CHUNK] ^= 1
    with pytest.raises(errors.ChunkError, match=f"offset {record.start + CHUNK} of '{record.name}'"):
        stream(bytes(data))


def test_a_stream_that_ends_early() -> None:
    cuts = [0, 3, 39, *(lane.offset + i for lane in MODEL.lanes for i in (0, 3, 6)), len(DATA) - 1]
    for cut in set(cuts) - {40}:
        with pytest.raises(errors.TruncatedError):
            stream(DATA[:cut]).finish()
    with pytest.raises(errors.RootError):
        stream(DATA[:40]).finish()
    with pytest.raises(errors.RootError, match="does not list this lane"):
        stream(DATA + struct.pack(">BI", 3, 0) + sha(b"")).finish()


def test_a_stream_of_another_model_stops_at_its_header() -> None:
    verifier = StreamVerifier("00" * 32)
    with pytest.raises(errors.RootError, match="was asked for"):
        verifier.update(DATA[:40])


def test_a_stream_without_a_seal_is_proved_by_lanes() -> None:
    for data in (
        pack_file([(2, two_tensors()), (4, b'{"kind":"graph"}')]),
        pack_file([(4, b'{"kind":"graph"}'), (2, two_tensors())]),
        pack_file([(4, b"opaque"), (4, b""), (2, two_tensors())], version=2, class_=2, flags=5),
        pack_file([]),
    ):
        with pytest.raises(errors.PublishedError, match="--published"):
            stream(data, 7)
        verifier = stream(data, 7, published=True)
        assert verifier.finish() == data[8:40].hex()
        assert verifier.n_bytes_total is None
    bad = bytearray(pack_file([(2, two_tensors()), (3, b"")]))
    bad[60] ^= 1
    with pytest.raises(errors.LaneDigestError, match=r"lane 0 \(FIELD\)"):
        stream(bytes(bad), published=True)
    with pytest.raises(errors.RootError, match="root in the header"):
        stream(pack_file([(2, two_tensors())], root=bytes(32)), published=True).finish()


def test_a_stream_of_version_3_begins_with_its_seal() -> None:
    for lanes in ([(1, b"{}")], [(4, b'{"kind":"graph"}')]):
        with pytest.raises(errors.SealError, match="seal"):
            stream(pack_file(lanes, version=3))
    parts = Parts.sample()
    parts.order.append(parts.order.pop(0))
    with pytest.raises(errors.SealError, match="begins with the seal"):
        stream(parts.pack())
    with pytest.raises(errors.HeaderOnlyError, match="no model"):
        stream(header_only(2)).finish()
    with pytest.raises(UsageError, match="leave out --published"):
        stream(pack_sealed([(1, b"{}")]), published=True)


def test_a_stream_holds_no_more_than_a_chunk() -> None:
    verifier = StreamVerifier()
    for start in range(0, len(DATA), 1000):
        verifier.update(DATA[start : start + 1000])
        assert start < MODEL.lanes[0].end or len(verifier._pending) <= CHUNK


# The shape of a seal.

GOOD = Parts.sample()
GOOD.pack()
MISSHAPEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "no header": lambda seal: seal.pop("header"),
    "header is a number": lambda seal: seal.update(header=5),
    "no chunk size": lambda seal: seal.pop("chunk_bytes"),
    "chunk size 0": lambda seal: seal.update(chunk_bytes=0),
    "chunk size 65535": lambda seal: seal.update(chunk_bytes=65535),
    "chunk size 2048": lambda seal: seal.update(chunk_bytes=2048),
    "chunk size past the cap": lambda seal: seal.update(chunk_bytes=1 << 25),
    "chunk size true": lambda seal: seal.update(chunk_bytes=True),
    "no lanes": lambda seal: seal.pop("lanes"),
    "lanes an object": lambda seal: seal.update(lanes={}),
    "a lane a number": lambda seal: seal["lanes"].append(7),
    "lane id 9": lambda seal: seal["lanes"][0].update(id=9),
    "lane id 0": lambda seal: seal["lanes"][0].update(id=0),
    "no kind": lambda seal: seal["lanes"][0].pop("kind"),
    "digest too short": lambda seal: seal["lanes"][0].update(sha256="ee"),
    "digest no hex": lambda seal: seal["lanes"][0].update(sha256="zz" * 32),
    "length below zero": lambda seal: seal["lanes"][0].update(n_bytes=-1),
    "length past a lane": lambda seal: seal["lanes"][0].update(n_bytes=1 << 32),
    "pieces do not add up": lambda seal: seal["lanes"][0]["pieces"].pop(),
    "piece without a name": lambda seal: seal["lanes"][1]["pieces"][0].pop("name"),
    "piece with a name not ASCII": lambda seal: seal["lanes"][1]["pieces"][0].update(name="\u00e9"),
    "a digest too many": lambda seal: seal["lanes"][0]["pieces"][0].update(chunks="ee" * 64),
    "parts a list": lambda seal: seal.update(parts=[]),
    "part without a root": lambda seal: seal["parts"].update(trunk=None),
}


@pytest.mark.parametrize("name", MISSHAPEN)
def test_a_seal_of_another_shape_is_an_error_and_not_an_exception(name: str) -> None:
    parts = Parts.sample()
    parts.seal_patch = MISSHAPEN[name]
    data = parts.pack()
    with pytest.raises((errors.SealError, errors.RootError), match="seal"):
        parse_artifact(data)
    with pytest.raises(ArtifactError):
        stream(data).finish()


def test_chunk_size_grows_with_the_model() -> None:
    assert chunk_size(0) == chunk_size(4 << 30) == layout.CHUNK_BYTES
    for n_bytes in (10 << 30, 100 << 30, 1000 << 30):
        size = chunk_size(n_bytes)
        assert n_bytes // size * 64 <= layout.MAX_JSON_BYTES // 2
        parse_seal({"header": "", "chunk_bytes": size, "lanes": [], "parts": {}}, "seal")


def test_written_and_opened_from_disk(tmp_path: Path) -> None:
    contents = build_contents(sample_input(tensors=[*sample_input().tensors, *EXPERTS], padded=True))
    write_artifact(tmp_path / "padded.s7l", contents)
    opened = open_artifact(tmp_path / "padded.s7l")
    for part in ("trunk", "expert.0", "expert.1"):
        assert verify_part(opened, part).n_bytes
    assert stream((tmp_path / "padded.s7l").read_bytes()).finish() == opened.root
