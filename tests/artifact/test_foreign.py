"""Files of other writers: every version, class and packing, lanes that are
empty, and sizes that are claimed.
"""

from __future__ import annotations

import json
import struct
import tracemalloc
from itertools import product
from pathlib import Path

import plain_reader
import pytest
from build_attacks import sample_input, sample_tensor
from packing import pack_file, pack_record, pack_sealed

from sevenfold.artifact import (
    StreamVerifier,
    build_contents,
    errors,
    header_only,
    layout,
    open_artifact,
    parse_artifact,
    read_artifact,
    verify,
    write_artifact,
)
from sevenfold.artifact.seal import Seal
from sevenfold.core.errors import ArtifactError

DICT, FIELD, LANE, EDGE, BATCH = 1, 2, 3, 4, 5


def tensors(padded: bool) -> bytes:
    return b"".join(
        pack_record(name, [2, 3], 0.5, bytes(range(6)), padded)
        for name in (b"embedding.weight", b"lm_head.weight")
    )


FORMS = [(1, 1, False), (1, 2, False), (2, 2, True), *product((3,), (1, 2), (False, True))]


def flags_of(version: int, class_: int, padded: bool) -> int:
    return (5 if class_ == 2 else 1) | (0x80 if version == 3 and padded else 0)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(("version", "class_", "padded"), FORMS)
def test_a_file_of_another_writer_loads(version: int, class_: int, padded: bool, empty: bool) -> None:
    opaque = [(LANE, b"step 1\n"), (EDGE, b"\0\1graph"), (BATCH, b"\xff")]
    objects = [
        (LANE, b'{"kind": "trace"}'),
        (EDGE, b'{"kind":"graph", "x":"\xc3\xa9"}'),
        (BATCH, b'{"kind":"gradient_trace"}'),
    ]
    others = [(lane, b"") for lane in (LANE, EDGE, BATCH)] if empty else objects if version == 3 else opaque
    flags = flags_of(version, class_, padded)
    pack = pack_sealed if version == 3 else pack_file
    data = pack(
        [(DICT, b"v"), (FIELD, tensors(padded)), *others], version=version, class_=class_, flags=flags
    )
    artifact = parse_artifact(data)
    assert (artifact.version, artifact.class_, artifact.padded) == (version, class_, padded)
    assert artifact.tensors["lm_head.weight"].data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert artifact.anonymous
    assert (artifact.seal is None) is artifact.published is (version < 3)
    found = plain_reader.read(data)
    assert (found["version"], found["class"], found["flags"]) == (version, class_, flags)
    stream = StreamVerifier(published=version < 3)
    stream.update(data)
    assert stream.finish() == artifact.root == found["root"]
    rows = {row.id: row for row in verify(artifact).rows}
    assert rows["V7"].status == "fail"
    assert ("anonymous" if version == 3 else "no seal") in rows["V7"].detail


@pytest.mark.parametrize(("version", "class_"), [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2)])
def test_a_header_alone_loads_and_holds_nothing(version: int, class_: int) -> None:
    data = pack_file([], version=version, class_=class_, flags=flags_of(version, class_, False))
    assert len(data) == 40
    artifact = parse_artifact(data)
    assert artifact.header_only
    assert not artifact.tensors
    assert plain_reader.read(data)["lanes"] == []
    assert {row.status for row in verify(artifact).rows} == {"fail"}
    if version == 3:
        assert data == header_only(class_)


def test_lanes_in_any_order_load() -> None:
    lanes = [(FIELD, tensors(False)), (DICT, b"v"), (EDGE, b""), (EDGE, b""), (LANE, b"")]
    for turn in range(len(lanes)):
        for pack in (pack_file, pack_sealed):
            assert len(parse_artifact(pack(lanes[turn:] + lanes[:turn])).tensors) == 2


# What a reader may take: memory by what is there, not by what is claimed.


def claims() -> dict[str, bytes]:
    """A kilobyte that claims gigabytes, at every place that holds a size."""
    head = header_only(1)
    huge = 0xFFFFFFFF
    name = struct.pack(">H", 16) + b"embedding.weight"
    seal = {
        "kind": "seal",
        "header": head[:8].hex(),
        "chunk_bytes": 4096,
        "lanes": [
            {
                "id": 2,
                "kind": "",
                "n_bytes": huge,
                "sha256": "00" * 32,
                "pieces": [{"name": "", "n_bytes": huge, "chunks": ""}],
            }
        ],
        "parts": {},
    }
    return {
        **{f"lane {lane}": head + struct.pack(">BI", lane, huge) for lane in range(1, 6)},
        "dims": pack_file([(FIELD, name + struct.pack(">BIIf", 2, huge, huge, 1.0))]),
        "rank 8": pack_file([(FIELD, name + struct.pack(">B8If", 8, *[huge] * 8, 1.0))]),
        "name": pack_file([(FIELD, struct.pack(">H", 0xFFFF) + b"x" * 800)]),
        "seal": pack_file([(EDGE, json.dumps(seal).encode()), (FIELD, tensors(False))], version=3),
    }


def read_whole(path: Path) -> Seal | None:
    return read_artifact(path).seal


@pytest.mark.parametrize("name", claims())
def test_a_kilobyte_that_claims_gigabytes_costs_a_kilobyte(tmp_path: Path, name: str) -> None:
    path = tmp_path / "claim.s7l"
    data = claims()[name]
    path.write_bytes(data if name in ("dims", "rank 8", "name", "seal") else data.ljust(1024, b"\0"))
    assert path.stat().st_size < 2048
    verify(parse_artifact(pack_file([])))  # what is imported and compiled at first use is not the file's
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError):
            read_whole(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    "payload",
    [
        b'{"kind":"graph","x":[' + b"[]," * 300_000 + b"0]}",
        b'{"kind":"graph","x":[' + b"0," * 600_000 + b"0]}",
        b'{"kind":"graph","x":{' + b",".join(b'"%d":{}' % i for i in range(300_000)) + b"}}",
    ],
)
def test_json_that_grows_when_it_is_read_is_refused_before(payload: bytes) -> None:
    data = pack_sealed([(EDGE, payload)])
    tracemalloc.start()
    try:
        with pytest.raises(errors.LimitError, match="more JSON"):
            parse_artifact(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data)


def test_json_past_its_cap_is_not_read() -> None:
    data = header_only(1) + struct.pack(">BI", EDGE, layout.MAX_JSON_BYTES + 1) + bytes(100)
    with pytest.raises(errors.LimitError, match="cap"):
        parse_artifact(data)


def test_reading_and_verifying_take_no_copy_of_the_weights(tmp_path: Path) -> None:
    big = [sample_tensor(f"layers.{i:02d}.weight", (2000, 2000), i) for i in range(8)]
    path = tmp_path / "big.s7l"
    write_artifact(path, build_contents(sample_input(tensors=[*sample_input().tensors, *big])))
    size = path.stat().st_size
    assert size > 32_000_000
    tracemalloc.start()
    try:
        opened = open_artifact(path)
        _, opening = tracemalloc.get_traced_memory()
        verification = verify(opened)
        assert opened.tensors["layers.07.weight"].data.nbytes == 4_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert verification.ok
    assert opening < size / 50
    assert peak < size / 10  # beside the map of the file, of which there is one: far below three times
