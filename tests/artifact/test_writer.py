"""The writer: golden bytes, both packings, an independent reader,
atomicity, modes, and what it refuses.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import plain_reader
import pytest
from annotated_example import GOLDEN, example_bytes, golden_bytes, golden_contents
from build_attacks import replay, sample_input
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.artifact import (
    Contents,
    LaneId,
    Tensor,
    build_contents,
    header_only,
    parse_artifact,
    read_artifact,
    verify,
    verify_file,
    write_artifact,
)
from sevenfold.artifact.errors import ContentsError, ExistingArtifactError
from sevenfold.core.errors import StorageError


def test_golden_bytes() -> None:
    assert golden_bytes() == bytes.fromhex(GOLDEN.read_text(encoding="ascii"))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("class_", [1, 2])
def test_round_trip(tmp_path: Path, padded: bool, class_: int) -> None:
    model = sample_input(padded=padded, class_=class_)
    path = tmp_path / "new" / "model.s7l"
    sealed = write_artifact(path, build_contents(model))
    artifact = read_artifact(path)
    assert (
        (artifact.root, artifact.n_bytes)
        == (sealed.root, path.stat().st_size)
        == (sealed.root, sealed.n_bytes)
    )
    assert (artifact.version, artifact.class_, artifact.padded) == (3, class_, padded)
    assert artifact.dictionary == model.dictionary
    assert list(artifact.tensors) == sorted(tensor.name for tensor in model.tensors)
    for tensor in model.tensors:
        read = artifact.tensors[tensor.name]
        assert (read.dims, read.scale, read.numel) == (tensor.dims, tensor.scale, tensor.data.size)
        assert np.array_equal(read.data, tensor.data)
        assert path.read_bytes()[read.offset :][: read.numel] == tensor.data.tobytes()
    assert artifact.trace["rows"] == model.trace
    assert artifact.batch["rows"] == model.batch
    assert artifact.graph["operations"] == model.graph["operations"]
    assert artifact.provenance["identity"]["facts"] == model.identity.facts
    verification = verify(artifact, replay)
    assert verification.ok, verification.rows
    assert [lane.kind or lane.name for lane in artifact.lanes] == (
        ["seal", "DICT", "FIELD", "trace", "control", "graph", "provenance", "gradient_trace"]
    )


def test_data_is_a_read_only_view_of_the_file(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.s7l", build_contents(sample_input()))
    data = read_artifact(tmp_path / "a.s7l").tensors["embedding.weight"].data
    assert not data.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        data[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        data.flags.writeable = True


@pytest.mark.parametrize("padded", [False, True])
def test_independent_reader_reads_what_we_write(tmp_path: Path, padded: bool) -> None:
    model = sample_input(padded=padded)
    sealed = write_artifact(tmp_path / "a.s7l", build_contents(model))
    found = plain_reader.read((tmp_path / "a.s7l").read_bytes())
    assert found["root"] == sealed.root
    assert found["flags"] == (0x81 if padded else 0x01)
    assert found["tensors"] == {
        t.name: {"dims": list(t.dims), "scale": t.scale, "data": t.data.reshape(-1).tolist()}
        for t in model.tensors
    }
    assert found["dictionary"] == model.dictionary
    assert found["json"]["trace"]["rows"] == model.trace
    assert set(found["json"]) == {"seal", "trace", "control", "graph", "provenance", "gradient_trace"}


def test_independent_reader_is_short_and_independent() -> None:
    source = Path(plain_reader.__file__).read_text(encoding="ascii")
    assert len(source.splitlines()) <= 180
    imports = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"hashlib", "json", "math", "pathlib", "re", "struct", "sys"}


def test_independent_reader_refuses_a_changed_byte() -> None:
    data = bytearray(example_bytes())
    data[-1] ^= 1
    with pytest.raises(plain_reader.RefusedError):
        plain_reader.read(bytes(data))


tensor_shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(
    names=st.sets(
        st.from_regex(r"[!-.0-\[\]-~]{1,20}", fullmatch=True).filter(lambda n: n not in (".", "..")),
        max_size=5,
    ),
    padded=st.booleans(),
    draw=st.data(),
)
def test_any_tensors_survive_both_packings(names: set[str], padded: bool, draw: st.DataObject) -> None:
    tensors = []
    for name in sorted(names | {"embedding.weight", "lm_head.weight"}, reverse=True):
        dims = draw.draw(tensor_shapes)
        codes = draw.draw(st.binary(min_size=int(np.prod(dims)), max_size=int(np.prod(dims))))
        scale = draw.draw(st.floats(width=32, allow_nan=False, allow_infinity=False))
        tensors.append(Tensor(name, dims, scale, np.frombuffer(codes, np.int8)))
    from sevenfold.artifact.writer import pack

    data = b"".join(pack(Contents(class_=1, padded=padded, dictionary=b"", tensors=tensors))[1])
    read = parse_artifact(data).tensors
    found = plain_reader.read(data)["tensors"]
    assert list(read) == sorted(t.name for t in tensors) == list(found)
    for tensor in tensors:
        assert (read[tensor.name].dims, read[tensor.name].scale) == (tensor.dims, tensor.scale)
        assert np.array_equal(read[tensor.name].data.reshape(-1), tensor.data)
        assert found[tensor.name]["data"] == tensor.data.tolist()


def test_tensors_past_a_lane_go_into_several(tmp_path: Path) -> None:
    contents = build_contents(sample_input(lane_limit=60))
    write_artifact(tmp_path / "a.s7l", contents)
    artifact = read_artifact(tmp_path / "a.s7l")
    assert sum(lane.id == LaneId.FIELD for lane in artifact.lanes) == 3
    assert list(artifact.tensors) == ["embedding.weight", "final_norm.weight", "lm_head.weight"]
    assert verify(artifact, replay).ok
    with pytest.raises(ContentsError, match="lane holds 30"):
        build_contents(sample_input(lane_limit=30))


def test_same_contents_same_bytes_in_any_order(tmp_path: Path) -> None:
    model = sample_input()
    turned = sample_input(tensors=list(reversed(model.tensors)), graph=dict(reversed(model.graph.items())))
    roots = {
        write_artifact(tmp_path / f"{i}.s7l", build_contents(m)).root
        for i, m in enumerate((model, turned, model))
    }
    assert len(roots) == 1
    assert (tmp_path / "0.s7l").read_bytes() == (tmp_path / "1.s7l").read_bytes()


def test_mode_is_read_only(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.s7l", build_contents(sample_input()))
    assert stat.S_IMODE((tmp_path / "a.s7l").stat().st_mode) == 0o444


def test_another_root_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.s7l"
    first = write_artifact(path, build_contents(sample_input()))
    assert write_artifact(path, build_contents(sample_input())) == first
    other = build_contents(sample_input(dictionary=b"{}"))
    with pytest.raises(ExistingArtifactError, match=first.root):
        write_artifact(path, other)
    assert read_artifact(path).root == first.root
    assert write_artifact(path, other, replace=True).root == read_artifact(path).root != first.root


def test_a_file_that_is_no_artifact_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"my notes")
    for replace in (False, True):
        with pytest.raises(ExistingArtifactError, match="not an artifact"):
            write_artifact(tmp_path / "notes.txt", build_contents(sample_input()), replace=replace)
    assert (tmp_path / "notes.txt").read_bytes() == b"my notes"


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk_leaves_the_old_file_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    path = tmp_path / "a.s7l"
    if existing:
        write_artifact(path, build_contents(sample_input()))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left") as caught:
        write_artifact(path, build_contents(sample_input(dictionary=b"{}")), replace=True)
    assert str(path) in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_header_only_file(tmp_path: Path) -> None:
    (tmp_path / "h.s7l").write_bytes(header_only(1))
    artifact = read_artifact(tmp_path / "h.s7l")
    assert artifact.header_only
    assert (artifact.n_bytes, len(artifact.tensors), artifact.graph) == (40, 0, {})
    rows = verify_file(tmp_path / "h.s7l").rows
    assert {row.status for row in rows} == {"fail"}
    assert all("header-only" in row.detail for row in rows)
    assert not read_artifact_of(golden_contents(), tmp_path).header_only


def read_artifact_of(contents: Contents, directory: Path) -> Any:
    write_artifact(directory / "contents.s7l", contents)
    return read_artifact(directory / "contents.s7l")


ONE = np.array([1], np.int8)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor("a/b", (1,), 1.0, ONE), "printable ASCII"),
        (Tensor("", (1,), 1.0, ONE), "printable ASCII"),
        (Tensor("..", (1,), 1.0, ONE), "printable ASCII"),
        (Tensor("n\u00e9", (1,), 1.0, ONE), "printable ASCII"),
        (Tensor("x" * 256, (1,), 1.0, ONE), "1 to 255"),
        (Tensor("x", (), 1.0, ONE), "rank 0"),
        (Tensor("x", (1,) * 9, 1.0, ONE), "rank 9"),
        (Tensor("x", (0,), 1.0, ONE[:0]), "not all between"),
        (Tensor("x", (2,), 1.0, ONE), "1 values"),
        (Tensor("x", (1,), 1.0, ONE.astype(np.int16)), "int16"),  # type: ignore[arg-type]
        (Tensor("x", (1,), float("nan"), ONE), "not a finite"),
        (Tensor("x", (1,), 1e39, ONE), "not a finite"),
        (Tensor("embedding.weight", (1,), 1.0, ONE), "twice"),
    ],
)
def test_tensors_that_no_record_holds(tensor: Tensor, text: str) -> None:
    model = sample_input()
    with pytest.raises(ContentsError, match=text):
        build_contents(sample_input(tensors=[*model.tensors, tensor]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class_": 3}, "class 3"),
        ({"trace": {"rows": [float("nan")]}}, "V0"),
        ({"trace": [1]}, "object was expected"),
        ({"graph": {"kind": "control"}}, "kind"),
        ({"graph": {"x": object()}}, "canonical JSON"),
        ({"tensors": []}, "embedding.weight"),
    ],
)
def test_contents_that_cannot_be_sealed(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    contents = Contents(
        **({"class_": 1, "padded": False, "dictionary": b"{}", "tensors": sample_input().tensors} | change)
    )
    with pytest.raises(ContentsError, match=text):
        write_artifact(tmp_path / "a.s7l", contents)
    assert not list(tmp_path.iterdir())


def test_json_deeper_than_the_cap_is_not_sealed(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ContentsError, match="deeper"):
        write_artifact(tmp_path / "a.s7l", build_contents(sample_input(trace=[deep])))


def test_operations_are_needed() -> None:
    with pytest.raises(ContentsError, match="operations"):
        build_contents(sample_input(graph={"operations": "none"}))
