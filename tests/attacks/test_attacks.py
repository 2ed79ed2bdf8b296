"""Each attack breaks exactly its check, or is refused by every reader: all
digests and the root are valid.
"""

from __future__ import annotations

from pathlib import Path

import plain_reader
import pytest
from build_attacks import ATTACKS, Parts, build, main, replay
from build_refused import REFUSED, node_for_lanes, sample, stripped, with_header
from build_refused import main as write_refused
from packing import paired, sha

from sevenfold.artifact import CHECKS, StreamVerifier, parse_artifact, verify
from sevenfold.core.errors import ArtifactError, UsageError


def test_the_parts_pack_to_a_file_that_passes_everything() -> None:
    verification = verify(parse_artifact(Parts.sample().pack()), replay)
    assert [row.status for row in verification.rows] == ["pass"] * 8


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_breaks_exactly_its_check(name: str) -> None:
    broken = ATTACKS[name][0]
    verification = verify(parse_artifact(build(name)), replay)
    assert not verification.ok
    assert {row.id: row.status for row in verification.rows} == {
        check.id: "fail" if check.id == broken else "pass" for check in CHECKS
    }, {row.id: row.detail for row in verification.rows if row.status == "fail"}


def test_every_check_has_an_attack() -> None:
    assert {check for check, _ in ATTACKS.values()} == {check.id for check in CHECKS}


def test_attacks_can_be_written_for_other_readers(tmp_path: Path) -> None:
    main(str(tmp_path))
    assert len(list(tmp_path.glob("v?_*.s7l"))) == len(ATTACKS)


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_the_seal_binds_is_refused_by_every_reader(name: str) -> None:
    text, builder = REFUSED[name]
    data = builder()
    with pytest.raises(ArtifactError) as caught:
        parse_artifact(data)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises((plain_reader.RefusedError, ValueError, KeyError)):
        plain_reader.read(data)


# A stream is not parsed as JSON: of the kinds of its lanes it says nothing.
OF_JSON = ("seal_lists_other_kind", "two_seals")


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in OF_JSON])
def test_what_only_the_seal_binds_is_refused_in_a_stream(name: str) -> None:
    data = REFUSED[name][1]()
    for published in (False, True):
        with pytest.raises((ArtifactError, UsageError)):
            stream_whole(data, published)


def stream_whole(data: bytes, published: bool) -> None:
    stream = StreamVerifier(data[8:40].hex(), published=published)
    stream.update(data)
    stream.finish()


def test_the_root_alone_would_have_taken_them() -> None:
    for name, (_, builder) in REFUSED.items():
        data, offset, digests = builder(), 40, []
        while offset < len(data):
            end = offset + 5 + int.from_bytes(data[offset + 1 : offset + 5], "big")
            assert data[end : end + 32] == sha(data[offset + 5 : end]), name
            digests.append(data[end : end + 32])
            offset = end + 32
        assert paired(digests) == data[8:40], name


def test_a_sealed_file_cannot_pass_for_a_published_one_and_hold_a_rule() -> None:
    # Without its seal it is a file of the published contract under another root:
    # said so, and never proved.
    sealed = parse_artifact(sample()[0])
    bare = parse_artifact(stripped(1)())
    assert bare.root != sealed.root
    # A node of the sealed tree as a leaf keeps even the root.
    node = parse_artifact(with_header(node_for_lanes(), at5=1))
    assert node.root == sealed.root
    for artifact in (bare, node):
        assert (artifact.provenance, artifact.graph, artifact.seal) == ({}, {}, None)
        verification = verify(artifact, replay)
        assert not verification.ok
        assert [row.status for row in verification.rows if row.id != "V0"] == ["fail"] * 7
        assert any("not bound" in note for note in verification.notes)


def test_refused_files_can_be_written_for_other_readers(tmp_path: Path) -> None:
    write_refused(str(tmp_path))
    assert len(list(tmp_path.glob("refused_*.s7l"))) == len(REFUSED)
