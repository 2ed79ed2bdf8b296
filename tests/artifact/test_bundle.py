"""Bundles: written from a sealed file, made into it again byte for
byte, and refused for any change.
"""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from build_attacks import build, replay, sample_input, sample_tensor

from sevenfold.artifact import build_contents, read_artifact, training_tensor, verify_part, write_artifact
from sevenfold.artifact.bundle import is_bundle, open_bundle, write_bundle
from sevenfold.artifact.errors import AnonymousError, BundleError, ExistingArtifactError
from sevenfold.artifact.verify import verify
from sevenfold.core.errors import ArtifactError, StorageError

FILES = {"model.safetensors", "config.json", "tokenizer.json", "metadata.json", "SHA256SUMS"}


def seal(path: Path, padded: bool = False) -> Path:
    floats = training_tensor("x.weight", np.array([[1.5, np.nan]], np.float32))
    expert = sample_tensor("layers.00.ffn.experts.0.up_proj.weight", (70, 1000), 3)
    model = sample_input(padded=padded, class_=2, tensors=[*sample_input().tensors, floats, expert])
    write_artifact(path, build_contents(model))
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(seal(tmp_path / "model.s7l"), tmp_path / "b" / "bundle")


@pytest.mark.parametrize("padded", [False, True])
def test_a_bundle_is_the_sealed_file_again(tmp_path: Path, padded: bool) -> None:
    sealed = seal(tmp_path / "model.s7l", padded)
    out = write_bundle(sealed, tmp_path / "bundle")
    assert {path.name for path in out.iterdir()} == FILES
    assert is_bundle(out)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in out.iterdir())
    again = open_bundle(out)
    assert bytes(again.raw(0, again.n_bytes)) == sealed.read_bytes()
    assert verify(again, replay).ok
    assert verify_part(again, "expert.0").n_chunks == 2
    assert not list(tmp_path.glob(".*.partial"))


def test_other_programs_read_it(bundle: Path) -> None:
    from safetensors.numpy import load_file

    held = read_artifact(bundle.parents[1] / "model.s7l")
    tensors = load_file(bundle / "model.safetensors")
    assert tensors["embedding.weight"].tolist() == held.tensors["embedding.weight"].data.tolist()
    assert tensors["training.x.weight"].dtype == np.float32
    assert json.loads((bundle / "config.json").read_bytes()) == held.graph
    assert (bundle / "tokenizer.json").read_bytes() == held.dictionary
    metadata = json.loads((bundle / "metadata.json").read_bytes())
    assert metadata["root"] == held.root
    assert metadata["provenance"]["identity"]["training_seed"] == 7
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def resum(bundle: Path) -> None:
    """Sums that are right for what is there now: the change has to be found behind them."""
    names = sorted(path.name for path in bundle.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256((bundle / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    rewrite(bundle / "SHA256SUMS", sums.encode())


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_changed_byte_is_found_and_its_file_named(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(bundle / name, bytes(data))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert caught.value.exit_code == 3
    assert str(bundle) in str(caught.value)
    if name != "SHA256SUMS":
        assert name in str(caught.value)


@pytest.mark.parametrize("name", sorted(FILES - {"metadata.json"}))
def test_a_missing_file_is_found(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises((BundleError, StorageError), match=name):
        open_bundle(bundle)


def test_an_added_file_is_found(bundle: Path) -> None:
    (bundle / "hook.py").write_text("import os")
    with pytest.raises(BundleError, match="not in SHA256SUMS"):
        open_bundle(bundle)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "model.safetensors": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "config.json": lambda data: data.replace(b'"d_model":4', b'"d_model":5'),
    "tokenizer.json": lambda data: data + b" ",
    "metadata.json": lambda data: data.replace(b'"training_seed":7', b'"training_seed":8'),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_with_right_sums_gives_another_root(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    rewrite(bundle / name, CHANGES[name](data))
    assert (bundle / name).read_bytes() != data
    resum(bundle)
    with pytest.raises(BundleError, match="give the root"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
        ("metadata.json", b"[]"),
        ("metadata.json", b"{}"),
        ("metadata.json", b'{"class":"x","root":1}'),
        ("metadata.json", b'{"class":1,"trace":7}'),
        ("config.json", b"nonsense"),
    ],
)
def test_nonsense_with_right_sums_is_one_error(bundle: Path, name: str, data: bytes) -> None:
    rewrite(bundle / name, data)
    resum(bundle)
    with pytest.raises(ArtifactError) as caught:
        open_bundle(bundle)
    assert "\n" not in str(caught.value)


def test_floats_are_no_codes(bundle: Path) -> None:
    from safetensors.numpy import save

    rewrite(bundle / "model.safetensors", save({"embedding.weight": np.zeros(3, np.float32)}))
    resum(bundle)
    with pytest.raises(BundleError, match="float32"):
        open_bundle(bundle)


def test_a_bundle_without_provenance_does_not_load(bundle: Path) -> None:
    (bundle / "metadata.json").unlink()
    (bundle / "SHA256SUMS").unlink()
    with pytest.raises(AnonymousError, match="--allow-anonymous"):
        open_bundle(bundle)
    taken = open_bundle(bundle, allow_anonymous=True)
    assert taken.anonymous
    assert taken.graph["d_model"] == 4


def test_what_is_there_is_not_written_over(bundle: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(ExistingArtifactError):
        write_bundle(tmp_path / "model.s7l", bundle)
    assert {path: path.read_bytes() for path in bundle.iterdir()} == before


def test_a_file_that_breaks_a_rule_gives_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "bad.s7l").write_bytes(build("forged_decide_hash"))
    with pytest.raises(ArtifactError, match="rule V2"):
        write_bundle(tmp_path / "bad.s7l", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(tmp_path / "model.s7l")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="no space"):
        write_bundle(sealed, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["model.s7l"]
