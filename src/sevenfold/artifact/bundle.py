"""Read and write bundles (D6): a model as a directory of plain files.

The sealed file can be made again from a bundle, byte for byte.

    model.safetensors   the tensors: I8 codes, F32 training weights; scales in the metadata
    config.json         the graph
    tokenizer.json      the DICT payload
    metadata.json       version, header, root, provenance, control, traces
    SHA256SUMS          every other file, as `sha256sum -c` reads it

A bundle is verified as a sealed file is. First the sums are compared. Then the sealed file is built
in memory, its root is compared, and V0 to V7 run. Cost: twice the size of the model in memory. The
`safetensors` package is required.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.artifact import layout
from sevenfold.artifact.errors import AnonymousError, BundleError, ContentsError, ExistingArtifactError
from sevenfold.artifact.frames import SEAL_AGAIN
from sevenfold.artifact.json_lane import parse_json, shown
from sevenfold.artifact.reader import Artifact, open_artifact, parse_artifact
from sevenfold.artifact.records import Tensor, training_tensor, training_values
from sevenfold.artifact.verify import Verification, verify
from sevenfold.artifact.writer import SEALED_MODE, Contents, pack
from sevenfold.core.errors import ArtifactError, storage
from sevenfold.core.files import read_bytes, sync_directory, write_bytes
from sevenfold.core.hashing import Json, canonical_json

WEIGHTS, CONFIG, TOKENIZER, METADATA, SUMS = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "metadata.json",
    "SHA256SUMS",
)
BUNDLE_VERSION = 1
_SCALES = "sevenfold.scales"
# Fields of `Contents` that metadata.json holds under the same names.
_PARTS = ("control", "provenance", "trace", "batch")
AGAIN = "get the bundle again from its source, or write it again from the sealed file"


def write_bundle(sealed: Path, out: Path) -> Path:
    """Write the sealed file `sealed` as a new directory `out`. Its files have mode 0444.

    Raises:
        ArtifactError: the file is refused, or a rule does not hold.
        ExistingArtifactError: `out` exists.
        StorageError: the directory cannot be written; nothing is left behind.
    """
    artifact = open_artifact(sealed)
    refuse_unverified(verify(artifact))
    if out.exists():
        raise ExistingArtifactError("the path is there already", where=str(out), remedy="choose another path")
    with storage(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".partial"))
        try:
            files = _files(artifact)
            sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
            for name, data in {**files, SUMS: sums.encode()}.items():
                write_bytes(partial / name, data, SEALED_MODE)
            partial.chmod(0o755)
            partial.rename(out)
            sync_directory(out.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return out


def refuse_unverified(verification: Verification) -> None:
    """Refuse a bundle that does not verify. Raises ArtifactError for the first rule that fails."""
    failed = [row for row in verification.rows if row.status == "fail"]
    if failed:
        raise ArtifactError(
            f"rule {failed[0].id} does not hold: {failed[0].detail}",
            where=verification.path,
            remedy="`s7 verify` shows every rule; get the file again from its maker",
        )


def _files(artifact: Artifact) -> dict[str, bytes]:
    from safetensors.numpy import save

    tensors = artifact.tensors.values()
    scales = {tensor.name: tensor.scale for tensor in tensors}
    metadata: dict[str, Json] = {
        "bundle_version": BUNDLE_VERSION,
        "format_version": artifact.version,
        "class": artifact.class_,
        "padded": artifact.padded,
        "root": artifact.root,
        **{name: getattr(artifact, name) for name in _PARTS},
    }
    return {
        WEIGHTS: save(
            {t.name: training_values(t) if t.training else t.data for t in tensors},
            {_SCALES: canonical_json(scales).decode()},
        ),
        CONFIG: canonical_json(artifact.graph),
        TOKENIZER: artifact.dictionary,
        METADATA: canonical_json(metadata),
    }


def is_bundle(path: Path) -> bool:
    """Return whether `path` is a directory that holds weights or sums of a bundle."""
    return any((path / name).is_file() for name in (SUMS, WEIGHTS))


def open_bundle(directory: Path, *, allow_anonymous: bool = False) -> Artifact:
    """Return a proved artifact made from a bundle.

    Args:
        directory: a directory that `write_bundle` or another program wrote.
        allow_anonymous: accept a bundle without sums and provenance (metadata.json), which proves
            nothing.

    Raises:
        BundleError: a file is missing, changed or added, or the root differs.
        AnonymousError: the bundle does not name its origin.
        StorageError: a file cannot be read.
    """
    anonymous = not (directory / METADATA).exists()
    if anonymous and not allow_anonymous:
        raise AnonymousError(
            f"no {METADATA}: the bundle does not say where it comes from (rule D6)",
            where=str(directory),
            remedy="--allow-anonymous runs it all the same",
        )
    if not anonymous or (directory / SUMS).exists():
        _check_sums(directory)
    metadata = {} if anonymous else _json(directory / METADATA)
    if not anonymous and metadata.get("format_version") != layout.VERSION:
        raise BundleError(
            f"format_version {shown(repr(metadata.get('format_version')))} in {METADATA}, this one reads"
            f" {layout.VERSION}",
            where=str(directory),
            remedy=f"{SEAL_AGAIN}; then write the bundle again",
        )
    try:
        contents = Contents(
            class_=metadata.get("class", layout.ModelClass.DENSE),
            padded=metadata.get("padded", False) is True,
            dictionary=read_bytes(directory / TOKENIZER),
            tensors=_tensors(directory / WEIGHTS),
            graph=_json(directory / CONFIG),
            **{name: metadata.get(name, {}) for name in _PARTS},
        )
        _, chunks = pack(contents)
    except (ContentsError, TypeError) as error:
        raise BundleError(f"it holds no model: {error}", where=str(directory), remedy=AGAIN) from error
    artifact = parse_artifact(b"".join(chunks), directory)
    if not anonymous and artifact.root != metadata.get("root"):
        raise BundleError(
            f"its files give the root {artifact.root}, not the one in {METADATA}",
            where=str(directory),
            remedy=AGAIN,
        )
    return artifact


def _json(path: Path) -> dict[str, Json]:
    if path.exists() and path.stat().st_size > layout.MAX_JSON_BYTES:
        raise BundleError(f"more than {layout.MAX_JSON_BYTES} bytes", where=str(path), remedy=AGAIN)
    return parse_json(read_bytes(path), str(path))


def _check_sums(directory: Path) -> None:
    listed: dict[str, str] = {}
    for line in read_bytes(directory / SUMS).decode("ascii", "replace").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    with storage(directory):
        held = {path.name for path in directory.iterdir()} - {SUMS}
    for name in sorted(held ^ listed.keys()):
        what = f"it is not in {SUMS}" if name in held else f"{SUMS} lists it, and it is not there"
        raise BundleError(what, where=str(directory / name), remedy=AGAIN)
    for name, digest in listed.items():
        if hashlib.sha256(read_bytes(directory / name)).hexdigest() != digest:
            raise BundleError(
                f"it does not hash to what {SUMS} lists", where=str(directory / name), remedy=AGAIN
            )


def _tensors(path: Path) -> list[Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with storage(path), safe_open(path, framework="np") as file:
            scales = json.loads((file.metadata() or {}).get(_SCALES, "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError, TypeError) as error:
        raise BundleError(f"no safetensors file: {error}", where=str(path), remedy=AGAIN) from error
    return [_tensor(name, array, scales) for name, array in arrays.items()]


def _tensor(name: str, array: NDArray[Any], scales: Mapping[str, Json]) -> Tensor:
    if name.startswith(layout.TRAINING_PREFIX) and array.dtype == np.float32:
        return training_tensor(name.removeprefix(layout.TRAINING_PREFIX), array)
    scale = scales.get(name, 1.0) if isinstance(scales, dict) else 1.0
    if array.dtype != np.int8 or not isinstance(scale, float | int):
        raise BundleError(
            f"tensor {name!r} is {array.dtype} with the scale {scale!r}, not int8", remedy=AGAIN
        )
    return Tensor(name, array.shape, float(scale), array)
