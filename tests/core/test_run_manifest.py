"""Manifests: what was written is what is read, damage is found, and anything else is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold.core.errors import StorageError
from sevenfold.core.manifest import (
    Manifest,
    damaged_output,
    hash_outputs,
    output_root,
    read_manifest,
    write_manifest,
)
from sevenfold.core.merkle import merkle_root
from sevenfold.core.run_files import MANIFEST


@pytest.fixture
def stage(tmp_path: Path) -> Manifest:
    """A finished stage in tmp_path."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.bin").write_bytes(b"bytes")
    (tmp_path / "a.json").write_bytes(b"{}\n")
    (tmp_path / "sub" / "empty").write_bytes(b"")
    outputs = hash_outputs(tmp_path, ["sub/empty", "b.bin", "a.json"])
    manifest = Manifest(
        stage="corpus",
        key="ab" * 32,
        recipe_digest="cd" * 32,
        recipe_name="demo",
        inputs={"corpus": "ef" * 32},
        outputs=outputs,
        root=output_root(outputs),
        tools={"numpy": "2"},
        seed=7,
        facts={"documents": 3, "ratio": 0.5, "nested": {"x": [1, None]}},
    )
    write_manifest(tmp_path, manifest)
    return manifest


def test_round_trip(stage: Manifest, tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == stage


def test_a_root_is_over_contents_and_damage_is_of_bytes(tmp_path: Path) -> None:
    roots = []
    for data in (b"bytes of one version", b"bytes of another"):
        (tmp_path / "a").write_bytes(data)
        roots.append(output_root(hash_outputs(tmp_path, ["a"], {"a": "ab" * 32})))
    assert roots[0] == roots[1]
    assert output_root(hash_outputs(tmp_path, ["a"], {"a": "cd" * 32})) != roots[0]
    assert output_root(hash_outputs(tmp_path, ["a"])) != roots[0]


def test_outputs_are_sorted_and_hashed(stage: Manifest) -> None:
    assert [o.path for o in stage.outputs] == ["a.json", "b.bin", "sub/empty"]
    assert stage.outputs[1].n_bytes == 5
    assert stage.outputs[1].sha256 == hashlib.sha256(b"bytes").hexdigest()
    leaves = [f"{o.path}\0{o.sha256}".encode() for o in stage.outputs]
    assert stage.root == merkle_root(leaves).hex()


def test_the_root_binds_paths_and_bytes(stage: Manifest) -> None:
    first = stage.outputs[0]
    for other in (replace(first, path="c.json"), replace(first, sha256="00" * 32)):
        assert output_root((other, *stage.outputs[1:])) != stage.root


def test_a_stage_that_has_not_finished(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None


def test_undamaged(stage: Manifest, tmp_path: Path) -> None:
    assert damaged_output(tmp_path, stage) is None


@pytest.mark.parametrize("path", ["a.json", "b.bin", "sub/empty"])
def test_damage_is_found(stage: Manifest, tmp_path: Path, path: str) -> None:
    original = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(original + b"!")
    assert damaged_output(tmp_path, stage) == path
    if original:
        (tmp_path / path).write_bytes(bytes([original[0] ^ 1]) + original[1:])
        assert damaged_output(tmp_path, stage) == path
    (tmp_path / path).unlink()
    assert damaged_output(tmp_path, stage) == path
    (tmp_path / path).mkdir()
    assert damaged_output(tmp_path, stage) == path


def test_an_output_that_is_not_there_cannot_be_hashed(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        hash_outputs(tmp_path, ["absent"])


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"format": 4},
        {"seed": 8},
        {"root": "00" * 32},
        {"sha256": ...},
        {"format": None},
        {"unknown": 1},
        {"outputs": None},
        {"outputs": [{"path": "a"}]},
        {"outputs": [3]},
        {"stage": ...},
        {"format": ...},
    ],
)
def test_other_manifests_are_refused(stage: Manifest, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / MANIFEST
    value = json.loads(path.read_bytes()) | change
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not ...}))
    with pytest.raises(StorageError, match="not a stage manifest") as caught:
        read_manifest(tmp_path)
    assert str(path) in str(caught.value)
    assert "the stage will run again" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"7", b"{", b'"text"'])
def test_files_that_are_no_manifest(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(raw)
    with pytest.raises(StorageError):
        read_manifest(tmp_path)
