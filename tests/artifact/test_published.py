"""Files of the published contract, by an independent writer: versions 1 and 2, `mini.s7l`,
and 0 to 5 lanes by its root.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import plain_reader
import pytest
from build_attacks import Parts
from build_refused import node_for_lanes, with_header
from packing import pack_file

from sevenfold.artifact import (
    Artifact,
    StreamVerifier,
    errors,
    open_artifact,
    parse_artifact,
    verify,
    verify_part,
    verify_range,
    write_artifact,
)
from sevenfold.artifact.binding import NOT_BOUND, seal_value
from sevenfold.artifact.bundle import write_bundle
from sevenfold.artifact.writer import Contents, pack
from sevenfold.audit.diff import diff
from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.engine.session import Model, open_model

# The published header-only file: 40 bytes, version 1, class 1, root zero.
MINI = Path(__file__).with_name("mini.s7l").read_bytes()


# An independent writer of the contract: nothing of the package, and nothing of the other builders.


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def published_root(payloads: list[bytes]) -> bytes:
    """Written out for each count, so that no loop is trusted."""
    d = [digest(payload) for payload in payloads]
    match len(d):
        case 0:
            return bytes(32)
        case 1:
            return d[0]
        case 2:
            return digest(d[0] + d[1])
        case 3:
            return digest(digest(d[0] + d[1]) + digest(d[2] + d[2]))
        case 4:
            return digest(digest(d[0] + d[1]) + digest(d[2] + d[3]))
        case _:
            last = digest(d[4] + d[4])
            four = digest(digest(d[0] + d[1]) + digest(d[2] + d[3]))
            return digest(four + digest(last + last))


def record(name: str, dims: tuple[int, ...], codes: bytes, padded: bool) -> bytes:
    raw = name.encode()
    head = struct.pack(">H", len(raw)) + raw + bytes([len(dims)])
    head += b"".join(struct.pack(">I", dim) for dim in dims) + struct.pack(">f", 0.25) + codes
    return head + bytes((32 - len(codes) % 32) % 32 if padded else 0)


def tensors(padded: bool) -> bytes:
    names = ("embedding.weight", "lm_head.weight")
    return b"".join(record(name, (3, 2), b"\x01\x02\x03\xff\xfe\xfd", padded) for name in names)


def published(version: int, lanes: list[tuple[int, bytes]]) -> bytes:
    class_, flags = (2, 0x05) if version == 2 else (1, 0x01)
    body = b"".join(bytes([i]) + struct.pack(">I", len(p)) + p + digest(p) for i, p in lanes)
    return (
        struct.pack(">4sHBB", b"S7LM", version, class_, flags) + published_root([p for _, p in lanes]) + body
    )


def five(version: int) -> list[tuple[int, bytes]]:
    """The lanes of the published packers: version 1 has empty ones behind, version 2
    text and bytes that are no JSON.
    """
    if version == 1:
        return [(1, b'{"<unk>": 0, "\xc3\xa9": 1}'), (2, tensors(False)), (3, b""), (4, b""), (5, b"")]
    dictionary = b"".join(struct.pack(">H", 1) + c + struct.pack(">I", i) for i, c in enumerate((b"a", b"b")))
    return [
        (1, dictionary),
        (2, tensors(True)),
        (3, b"generation stream"),
        (4, bytes(range(160))),
        (5, b"compute"),
    ]


WHOLE = {version: published(version, five(version)) for version in (1, 2)}


def test_mini_is_the_published_file() -> None:
    assert struct.unpack(">4sHBB32s", MINI) == (b"S7LM", 1, 1, 1, bytes(32))
    artifact = parse_artifact(MINI)
    assert (artifact.header_only, artifact.published, artifact.root) == (True, True, "00" * 32)
    assert plain_reader.read(MINI)["lanes"] == []
    assert parse_artifact(with_header(MINI, at7=0)).header_only  # a header without the INT8 bit says no less


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_lanes_of_any_number_have_the_published_root(version: int, count: int) -> None:
    lanes = five(version)[:count]
    data = published(version, lanes)
    artifact = parse_artifact(data)
    assert [(lane.id, bytes(artifact.payload(lane))) for lane in artifact.lanes] == lanes
    assert artifact.root == plain_reader.read(data)["root"] == data[8:40].hex()
    stream = StreamVerifier(artifact.root, published=True)
    stream.update(data)
    assert (stream.finish(), stream.n_lanes) == (artifact.root, count)
    if count:
        for at in (8, 39):
            with pytest.raises(errors.RootError, match="root"):
                parse_artifact(with_header(data, **{f"at{at}": data[at] ^ 1}))


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_published_file_holds(version: int) -> None:
    artifact = parse_artifact(WHOLE[version])
    assert (artifact.version, artifact.class_, artifact.padded) == (version, version, version == 2)
    assert artifact.tensors["lm_head.weight"].data.tolist() == [[1, 2], [3, -1], [-2, -3]]
    assert artifact.tensors["embedding.weight"].scale == 0.25
    assert artifact.dictionary == five(version)[0][1]
    assert (artifact.json, artifact.seal, artifact.anonymous) == ({}, None, True)
    found = plain_reader.read(WHOLE[version])["tensors"]["embedding.weight"]
    assert found == {"dims": [3, 2], "scale": 0.25, "data": [1, 2, 3, -1, -2, -3]}


def test_the_version_says_how_records_are_packed() -> None:
    for version in (1, 2):
        lanes = [(2, tensors(version == 1))]
        with pytest.raises(errors.RecordError):
            parse_artifact(published(version, lanes))
        with pytest.raises(plain_reader.RefusedError):
            plain_reader.read(published(version, lanes))


@pytest.mark.parametrize("version", [1, 2])
def test_every_bit_that_their_root_covers_is_proved(version: int) -> None:
    data = WHOLE[version]
    for position in range(8, len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x10
        # An id may change under the published root, and is then reported, not proved.
        try:
            artifact = parse_artifact(bytes(changed))
        except ArtifactError:
            continue
        assert position in {lane.offset for lane in artifact.lanes}
        assert not verify(artifact).ok


@pytest.mark.parametrize("version", [1, 2])
def test_verification_says_what_is_not_bound_and_holds_no_rule(version: int) -> None:
    verification = verify(parse_artifact(WHOLE[version]), lambda _: [])
    assert not verification.ok
    assert {row.id: row.status for row in verification.rows} == {
        "V0": "pass", **{f"V{i}": "fail" for i in range(1, 8)}
    }  # fmt: skip
    assert f"published contract, version {version}" in verification.notes[0]
    assert [note.removeprefix("not bound: ") for note in verification.notes[1:]] == list(NOT_BOUND)
    assert verification.as_json()["notes"] == list(verification.notes)
    assert "notes" not in verify(parse_artifact(Parts.sample().pack())).as_json()


def test_a_published_file_is_taken_only_by_name() -> None:
    for data in (*WHOLE.values(), MINI):
        with pytest.raises(errors.PublishedError, match="--published"):
            StreamVerifier().update(data)
    with pytest.raises(UsageError, match="leave out"):
        StreamVerifier(published=True).update(Parts.sample().pack())


def test_no_part_of_it_can_be_proved_alone(tmp_path: Path) -> None:
    artifact = parse_artifact(WHOLE[2])
    with pytest.raises(errors.SealError, match="no seal"):
        verify_part(artifact, "trunk")
    with pytest.raises(errors.SealError, match="no seal"):
        verify_range(artifact, 0, 40)
    (tmp_path / "theirs.s7l").write_bytes(WHOLE[2])
    with pytest.raises(ArtifactError, match="rule V1"):
        write_bundle(tmp_path / "theirs.s7l", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("leave", [False, True])
def test_it_does_not_run(tmp_path: Path, leave: bool) -> None:
    path = tmp_path / "theirs.s7l"
    for data in (*WHOLE.values(), with_header(node_for_lanes(), at5=1)):
        path.write_bytes(data)
        with pytest.raises(errors.PublishedError, match="no graph"):
            open_model(path, allow_anonymous=leave)
    path.write_bytes(MINI)
    with pytest.raises(errors.HeaderOnlyError, match="zero tensors"):
        Model.open(path, allow_anonymous=leave)


def test_a_file_of_the_same_root_and_other_bytes_is_not_the_same(tmp_path: Path) -> None:
    lanes = five(2)
    last = published(2, lanes)
    doubled = pack_file([*lanes, lanes[-1]], version=2, class_=2, flags=5)
    other_id = pack_file([(5, lanes[0][1]), *lanes[1:]], version=2, class_=2, flags=5)
    files: list[Artifact] = [parse_artifact(data) for data in (last, doubled, other_id)]
    assert {artifact.root for artifact in files} == {files[0].root}
    for artifact in files[1:]:
        assert diff(files[0], artifact)["equal"] is False
    assert diff(files[0], parse_artifact(last))["equal"] is True


def test_the_writer_does_not_take_a_file_of_the_same_root_for_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.s7l"
    contents = Contents(
        class_=1, padded=False, dictionary=b"v", tensors=list(parse_artifact(WHOLE[1]).tensors.values())
    )
    root, _ = pack(contents)
    payload = next(p for _, p in five(1))
    forged = b"S7LM\0\1\1\1" + root + published(1, [(1, payload)])[40:]
    path.write_bytes(forged)
    with pytest.raises(errors.ExistingArtifactError, match="another file"):
        write_artifact(path, contents)
    assert path.read_bytes() == forged
    path.unlink()
    write_artifact(path, contents)
    assert write_artifact(path, contents).root == open_artifact(path).root  # its own is as good as written


def test_a_seal_in_disguise_is_seen_however_it_is_spelled() -> None:
    for key in ('"kind"', r'"\u006bind"', r'"k\u0069n\u0064"', r'"\u006b\u0069\u006E\u0064"'):
        for value in ('"seal"', r'"s\u0065al"', r'"\u0073\u0065\u0061\u006C"'):
            for colon in (":", " : ", "\t\r\n:\n"):
                payload = f'{{"a": "\\u00e9", {key}{colon}{value}}}'.encode()
                assert seal_value(payload, "lane 1", 10**6) == {"a": "\u00e9", "kind": "seal"}
    for text in (
        '{"kind": "graph", "seal": "kind"}',
        '{"seal": "kind"}',
        r'{"kind": "\\u0073eal"}',
        '"kind": "seal"',
    ):
        assert seal_value(text.encode(), "lane 1", 10**6) == {}
