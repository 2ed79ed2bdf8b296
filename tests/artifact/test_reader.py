"""The reader is total: every changed byte is named, every truncation
refused, one error class per cause.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from build_attacks import Parts, sample_input
from hypothesis import given
from hypothesis import strategies as st
from packing import leaf, merkle, pack_file, pack_record, pack_sealed, two_tensors

from sevenfold.artifact import (
    build_contents,
    errors,
    header_only,
    parse_artifact,
    read_artifact,
    verify,
    write_artifact,
)
from sevenfold.core.errors import ArtifactError, SevenfoldError, StorageError

SAMPLE = Parts.sample().pack()
ARTIFACT = parse_artifact(SAMPLE)
DICT, FIELD, LANE, EDGE, BATCH = 1, 2, 3, 4, 5


def place_of(position: int) -> str:
    """What a message about the byte at `position` has to say."""
    if position < 40:
        return "header"
    lane = max((lane for lane in ARTIFACT.lanes if lane.offset <= position), key=lambda lane: lane.offset)
    return f"lane {lane.index} "


def refusal(data: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        parse_artifact(data)
    return str(caught.value)


def flipped(position: int, mask: int) -> bytes:
    data = bytearray(SAMPLE)
    data[position] ^= mask
    return bytes(data)


@pytest.mark.parametrize("position", range(40))
def test_every_value_of_every_header_byte_is_refused(position: int) -> None:
    for mask in range(1, 256):
        assert "header" in refusal(flipped(position, mask))


def test_every_value_of_every_lane_header_byte_names_the_lane() -> None:
    for lane in ARTIFACT.lanes:
        for position in range(lane.offset, lane.offset + 5):
            for mask in range(1, 256):
                assert f"lane {lane.index} " in refusal(flipped(position, mask))


def test_every_byte_flipped_names_its_lane() -> None:
    for position in range(40, len(SAMPLE)):
        assert place_of(position) in refusal(flipped(position, 0xFF))


@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_any_byte_any_value(position: int, mask: int) -> None:
    assert place_of(position) in refusal(flipped(position, mask))


def test_truncation_at_every_length() -> None:
    for length in range(len(SAMPLE)):
        text = refusal(SAMPLE[:length])
        assert "truncated" in text or "ends" in text, text
        if length >= 40:
            assert "offset" in text


def test_anything_behind_the_last_lane_is_refused() -> None:
    for tail in (b"\0", b"\4" + bytes(4), bytes(37), struct.pack(">BI", 5, 1 << 31), SAMPLE[-64:]):
        assert "lane 8 " in refusal(SAMPLE + tail)


def test_lanes_left_out_added_or_swapped() -> None:
    lanes = parse_artifact(SAMPLE).lanes
    cuts = [SAMPLE[lane.offset : lane.offset + 37 + lane.n_bytes] for lane in lanes]
    for index, cut in enumerate(cuts):
        without = SAMPLE[:40] + b"".join(cuts[:index] + cuts[index + 1 :])
        assert "lane" in refusal(without)
        doubled = SAMPLE[:40] + b"".join([*cuts[: index + 1], cut, *cuts[index + 1 :]])
        assert "lane" in refusal(doubled)
    assert "lane 0 " in refusal(SAMPLE[:40] + b"".join([cuts[1], cuts[0], *cuts[2:]]))
    other = (
        struct.pack(">BI", 1, 2)
        + b"{}"
        + bytes.fromhex("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
    )
    assert "lane 1 " in refusal(SAMPLE[:40] + cuts[0] + other + b"".join(cuts[2:]))


def field(*records: bytes, flags: int = 1) -> Callable[[], bytes]:
    return lambda: pack_file([(FIELD, two_tensors() + b"".join(records))], flags=flags)


def edge(payload: bytes, lane: int = EDGE) -> Callable[[], bytes]:
    return lambda: pack_sealed([(lane, payload)])


def earlier_form(lanes: Sequence[tuple[int, bytes]], version: int, class_: int, flags: int) -> bytes:
    """What sevenfold wrote before version 3: the root of RFC 6962 over header and lanes."""
    data = pack_file(lanes, version=version, class_=class_, flags=flags)
    return data[:8] + merkle([data[:8], *(leaf(*lane) for lane in lanes)]) + data[40:]


GOOD = pack_record(b"x", [1], 1.0, b"\3")
PADDED = b"".join(
    pack_record(name, [1], 1.0, b"\1", padded=True) for name in (b"embedding.weight", b"lm_head.weight")
)
MALFORMED: dict[str, tuple[type[SevenfoldError], str, Callable[[], bytes]]] = {
    "empty file": (errors.TruncatedError, "offset 0", lambda: b""),
    "short header": (errors.TruncatedError, "offset 39", lambda: SAMPLE[:39]),
    "another format": (errors.MagicError, "GGUF", lambda: b"GGUF" + SAMPLE[4:]),
    "version 0": (errors.VersionError, "version 0", lambda: pack_file([], version=0)),
    "version 4": (
        errors.NewerVersionError,
        "version 4, this reader knows 1 to 3",
        lambda: pack_file([], version=4),
    ),
    "version 65535": (errors.NewerVersionError, "newer sevenfold", lambda: pack_file([], version=65535)),
    "class 0": (errors.ClassError, "0x00", lambda: pack_file([], class_=0)),
    "class 3": (errors.ClassError, "0x03", lambda: pack_file([], class_=3)),
    **{
        f"flag bit {bit} of version {version}": (
            errors.FlagError,
            f"bit {bit} has no meaning in format version {version}",
            partial(pack_file, [], version=version, class_=2, flags=5 | 1 << bit),
        )
        for version, bits in ((1, (1, 3, 4, 5, 6, 7)), (2, (1, 3, 4, 5, 6, 7)), (3, (1, 3, 4, 5, 6)))
        for bit in bits
    },
    **{
        f"MoE flag of a dense file, version {version}": (
            errors.FlagError,
            "bit 2 says MoE",
            partial(pack_file, [], version=version, class_=1, flags=5),
        )
        for version in (1, 3)
    },
    "version 3 without INT8": (errors.FlagError, "bit 0 INT8", lambda: pack_file([], version=3, flags=0)),
    "version 3 MoE without its flag": (
        errors.FlagError,
        "bit 2 MoE",
        lambda: pack_file([], version=3, class_=2, flags=1),
    ),
    "version 2 dense": (errors.ClassError, "seal again", lambda: pack_file([], version=2)),
    "version 3 without a seal": (
        errors.SealError,
        "this file has none",
        lambda: pack_file([(DICT, b"{}")], version=3),
    ),
    "the form before version 3": (
        errors.EarlierFormError,
        "seal again",
        lambda: earlier_form([(DICT, b"{}"), (FIELD, two_tensors())], 2, 2, 1),
    ),
    "the form before version 3, header alone": (
        errors.EarlierFormError,
        "seal again",
        lambda: earlier_form([], 1, 1, 0),
    ),
    "root of nothing": (errors.RootError, "root", lambda: pack_file([], root=bytes(31) + b"\1")),
    "lane id 0": (errors.LaneIdError, "lane 0 at offset 40", lambda: pack_file([(0, b"")])),
    "lane id 6": (errors.LaneIdError, "lane 1 at offset 77", lambda: pack_file([(DICT, b""), (6, b"")])),
    "lane past the end": (
        errors.TruncatedError,
        "lane 0 (FIELD) at offset 40",
        lambda: pack_file([]) + struct.pack(">BI", FIELD, 0xFFFFFFFF) + bytes(999),
    ),
    "digest": (errors.LaneDigestError, "lane 0 (DICT)", lambda: pack_file([(DICT, b"{}")])[:-1] + b"\0"),
    "two DICT": (errors.DuplicateLaneError, "lane 1 (DICT)", lambda: pack_file([(DICT, b"a"), (DICT, b"b")])),
    "two LANE": (errors.DuplicateLaneError, "lane 2 (LANE)", lambda: pack_sealed([(LANE, b""), (LANE, b"")])),
    "two BATCH": (
        errors.DuplicateLaneError,
        "lane 2 (BATCH)",
        lambda: pack_sealed([(BATCH, b""), (BATCH, b"")]),
    ),
    "two graphs": (
        errors.DuplicateLaneError,
        "'graph'",
        lambda: pack_sealed([(EDGE, b'{"kind":"graph"}'), (EDGE, b'{"kind":"graph"}')]),
    ),
    "too many lanes": (errors.LimitError, "1024", lambda: pack_file([(EDGE, b"")] * 1025)),
    "name of 0 bytes": (errors.TensorNameError, "0 bytes", field(pack_record(b"", [1], 1.0, b"\0"))),
    "name of 256 bytes": (
        errors.TensorNameError,
        "256 bytes",
        field(pack_record(b"x" * 256, [1], 1.0, b"\0")),
    ),
    "name with a slash": (errors.TensorNameError, "a/b", field(pack_record(b"a/b", [1], 1.0, b"\0"))),
    "name with a backslash": (
        errors.TensorNameError,
        "path separator",
        field(pack_record(b"a\\b", [1], 1.0, b"\0")),
    ),
    "name ..": (errors.TensorNameError, "..", field(pack_record(b"..", [1], 1.0, b"\0"))),
    "name with a newline": (
        errors.TensorNameError,
        "printable",
        field(pack_record(b"a\nb", [1], 1.0, b"\0")),
    ),
    "name with an escape": (
        errors.TensorNameError,
        "printable",
        field(pack_record(b"\x1b[2J", [1], 1.0, b"\0")),
    ),
    "name not ASCII": (errors.TensorNameError, "printable", field(pack_record(b"\xc3\xa9", [1], 1.0, b"\0"))),
    "name twice": (errors.DuplicateTensorError, "'x'", field(GOOD, GOOD)),
    "name twice over lanes": (
        errors.DuplicateTensorError,
        "lane 1 (FIELD)",
        lambda: pack_file([(FIELD, two_tensors()), (FIELD, two_tensors())]),
    ),
    "rank 0": (errors.RankError, "rank 0", field(pack_record(b"x", [], 1.0, b"\0"))),
    "rank 9": (errors.RankError, "rank 9", field(pack_record(b"x", [1] * 9, 1.0, b"\0"))),
    "zero dimension": (errors.DimensionError, "(3, 0)", field(pack_record(b"x", [3, 0], 1.0, b""))),
    "data short": (errors.TruncatedRecordError, "the data of 'x'", field(pack_record(b"x", [2], 1.0, b"\0"))),
    "2**256 values": (
        errors.TruncatedRecordError,
        "the data of 'x'",
        field(pack_record(b"x", [0xFFFFFFFF] * 8, 1.0, b"\0")),
    ),
    "record cut": (errors.TruncatedRecordError, "the scale of 'x'", field(GOOD[:-3])),
    "record cut in its name": (errors.TruncatedRecordError, "a name takes", field(GOOD[:2])),
    "one byte left": (errors.TruncatedRecordError, "a name's length", field(b"\0")),
    "data long": (errors.TruncatedRecordError, "a name's length", field(GOOD + b"\0")),
    "padding not zero": (
        errors.PaddingError,
        "'embedding.weight'",
        lambda: pack_file([(FIELD, PADDED[:30] + b"\1" + PADDED[31:])], version=2, class_=2, flags=5),
    ),
    "padding cut": (
        errors.TruncatedRecordError,
        "the padding of",
        lambda: pack_file([(FIELD, PADDED[:-1])], version=2, class_=2, flags=5),
    ),
    "no lm_head": (
        errors.MissingTensorError,
        "lm_head.weight",
        lambda: pack_file([(FIELD, pack_record(b"embedding.weight", [1], 1.0, b"\0"))]),
    ),
    "empty FIELD": (errors.MissingTensorError, "embedding.weight", lambda: pack_file([(FIELD, b"")])),
    "JSON cut": (errors.JsonError, "lane 1 (EDGE)", edge(b'{"kind":"graph"')),
    "JSON a list": (errors.JsonError, "a JSON list", edge(b"[]")),
    "JSON not UTF-8": (errors.JsonError, "not JSON", edge(b'{"kind":"\xff"}')),
    "JSON NaN": (errors.JsonError, "NaN", edge(b'{"kind":"trace","x":NaN}', LANE)),
    "JSON of 5000 digits": (errors.JsonError, "not JSON", edge(b'{"kind":"graph","x":' + b"9" * 5000 + b"}")),
    "JSON half a surrogate pair": (errors.JsonError, "surrogate", edge(b'{"kind":"graph","x":["\\uD83d"]}')),
    "JSON key with an escape": (errors.DuplicateKeyError, r"\x1b", edge(b'{"\\u001b":1,"\\u001b":2}')),
    "JSON key twice": (errors.DuplicateKeyError, "'a'", edge(b'{"a":1,"a":2,"kind":"graph"}')),
    "JSON too deep": (errors.LimitError, "32", edge(b'{"kind":"graph","x":' + b"[" * 40 + b"]" * 40 + b"}")),
    "JSON far too deep": (
        errors.LimitError,
        "32",
        edge(b'{"kind":"graph","x":' + b"[" * 9000 + b"]" * 9000 + b"}"),
    ),
    "JSON of too many values": (
        errors.LimitError,
        "JSON values",
        edge(b'{"kind":"graph","x":[' + b"0," * 30000 + b"0]}"),
    ),
    "no kind and nothing else": (errors.LaneKindError, "None", edge(b"{}")),
    "no kind": (errors.LaneKindError, "None", edge(b'{"a":1}')),
    "kind of another lane": (errors.LaneKindError, "'trace'", edge(b'{"kind":"trace"}')),
    "kind not a name": (errors.LaneKindError, "[]", edge(b'{"kind":[]}', BATCH)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_one_error_class_per_cause(name: str) -> None:
    error, text, build = MALFORMED[name]
    with pytest.raises(ArtifactError) as caught:
        parse_artifact(build())
    assert type(caught.value) is error
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_error_class_of_the_reader_is_tested() -> None:
    causes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ArtifactError) and not value.__subclasses__()
    }
    elsewhere = {
        errors.ContentsError: "test_writer.py",
        errors.SealError: "test_partial.py",
        errors.ChunkError: "test_partial.py",
        errors.BundleError: "test_bundle.py",
        errors.AnonymousError: "test_bundle.py",
        errors.HeaderOnlyError: "../quantize/test_bootstrap.py",
        errors.PublishedError: "test_published.py",
    }
    for error, file in elsewhere.items():
        assert error.__name__ in (Path(__file__).parent / file).read_text(encoding="ascii")
    causes -= elsewhere.keys()
    assert causes <= {error for error, _, _ in MALFORMED.values()}


def test_what_is_odd_but_allowed() -> None:
    codes = bytes(range(256))
    artifact = parse_artifact(field(pack_record(b"codes", [4, 64], 0.0, codes))())
    assert artifact.tensors["codes"].data.min() == -128
    empty = parse_artifact(
        pack_sealed([(DICT, b""), (FIELD, two_tensors()), (LANE, b""), (EDGE, b""), (BATCH, b"")])
    )
    assert (empty.trace, empty.graph, empty.batch, empty.dictionary) == ({}, {}, {}, b"")
    no_field = parse_artifact(pack_file([(DICT, b"x")]))
    assert not no_field.header_only
    assert not no_field.tensors


def test_a_version_1_file_of_another_writer() -> None:
    lanes = [
        (DICT, b"a\0b"),
        (FIELD, two_tensors()),
        (LANE, b"step 1"),
        (EDGE, b"graph"),
        (EDGE, b"cm1"),
        (BATCH, b"\xff"),
    ]
    artifact = parse_artifact(pack_file(lanes, version=1, class_=2))
    assert (artifact.version, artifact.class_, list(artifact.tensors)) == (
        1,
        2,
        ["embedding.weight", "lm_head.weight"],
    )
    assert [bytes(artifact.payload(lane)) for lane in artifact.lanes] == [payload for _, payload in lanes]
    rows = {row.id: row for row in verify(artifact).rows}
    assert rows["V7"].status == "fail"
    assert "no seal" in rows["V7"].detail


def test_four_gigabytes_claimed_by_a_kilobyte(tmp_path: Path) -> None:
    path = tmp_path / "big.s7l"
    path.write_bytes((header_only(1) + struct.pack(">BI", FIELD, 0xFFFFFFFF)).ljust(1024, b"\0"))
    start = time.perf_counter()
    with pytest.raises(errors.TruncatedError, match="4294967295"):
        read_artifact(path)
    assert time.perf_counter() - start < 0.05


def test_path_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.s7l"
    path.write_bytes(flipped(100, 1))
    with pytest.raises(ArtifactError) as caught:
        read_artifact(path)
    assert str(caught.value).startswith(f"{path}: lane ")
    path.write_bytes(b"")
    with pytest.raises(errors.TruncatedError, match=r"bad\.s7l"):
        read_artifact(path)


def test_places_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        read_artifact(tmp_path / "missing.s7l")
    with pytest.raises(StorageError, match="directory"):
        read_artifact(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        read_artifact(tmp_path / "pipe")


def test_a_file_without_permission_is_not_called_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.s7l"
    write_artifact(path, build_contents(sample_input()))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(StorageError, match="permission denied"):
        read_artifact(path)


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    for prefix in (b"", b"S7LM", b"S7LM\0\1\1\1", b"S7LM\0\2\2\5", b"S7LM\0\3\1\1"):
        with pytest.raises(ArtifactError):
            parse_artifact(prefix + data)


payloads = st.one_of(
    st.binary(max_size=80), st.just(two_tensors()), st.binary(max_size=40).map(lambda b: two_tensors() + b)
)


@given(st.lists(st.tuples(st.integers(0, 6), payloads), max_size=6), st.integers(1, 3))
def test_random_lanes_with_valid_digests(lanes: list[tuple[int, bytes]], version: int) -> None:
    class_ = 2 if version == 2 else 1
    write = pack_sealed if version == 3 else pack_file
    data = write(lanes, version=version, class_=class_, flags=5 if class_ == 2 else 1)
    try:
        artifact = parse_artifact(data)
    except ArtifactError:
        return
    found = [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.lanes]
    assert found[int(version == 3) :] == lanes


def test_surrogate_pairs_are_characters() -> None:
    smile = b'{"kind":"graph","x":"\\ud83d\\ude00"}'
    assert parse_artifact(edge(smile)()).graph["x"] == "\N{GRINNING FACE}"


def test_what_a_file_says_is_printable_and_short() -> None:
    parts = Parts.sample()
    parts.operations[2].update(fold="\x1b[2J" + "x" * 10000)
    detail = verify(parse_artifact(parts.pack())).rows[1].detail
    assert detail.isprintable()
    assert len(detail) < 500
    assert r"\x1b[2J" in detail


def test_the_artifact_room_imports_neither_torch_nor_pydantic() -> None:
    import subprocess

    code = (
        "import sys, sevenfold.artifact;"
        "bad = [m for m in ('torch', 'pydantic', 'yaml', 'tokenizers', 'rich', 'typer') if m in sys.modules];"
        "sys.exit(', '.join(bad) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
