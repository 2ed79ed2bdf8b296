"""The manifest that ends a stage: its inputs, its outputs, and its tools.

A stage writes its outputs into its directory and this file last. A directory without it is
incomplete. `key` decides whether the stage has to run again. It covers the sections of the recipe
that the stage reads, the roots of its inputs and the version of the stage. The file ends with a
digest of its contents, so a manifest with changed bytes is recognised as damaged and never used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json, digest, sha256_file
from sevenfold.core.merkle import merkle_root
from sevenfold.core.run_files import MANIFEST

MANIFEST_FORMAT = 3
_DIGEST = "sha256"


class ManifestError(StorageError):
    """A manifest that is damaged, or of another version of this program."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file of a stage, by its path relative to the stage directory.

    `content` is a digest of the contents, for a file whose bytes depend on a library; "" means the
    bytes themselves. Roots are over contents, and damage is found by bytes.
    """

    path: str
    n_bytes: int
    sha256: str
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of a finished stage.

    `facts` holds its own figures, for reports and for the seal.
    """

    stage: str
    key: str
    recipe_digest: str
    recipe_name: str
    inputs: Mapping[str, str]
    outputs: tuple[Output, ...]
    root: str
    tools: Mapping[str, str]
    seed: int
    facts: Mapping[str, Json] = field(default_factory=dict)
    format: int = MANIFEST_FORMAT


def hash_outputs(
    directory: Path, paths: list[str], contents: Mapping[str, str] | None = None
) -> tuple[Output, ...]:
    """Return size and SHA-256 of each output, sorted by path. `contents` holds digests of the
    contents of some of them, by path. Raises StorageError.
    """
    with storage():
        return tuple(
            Output(
                path=path,
                n_bytes=(directory / path).stat().st_size,
                sha256=sha256_file(directory / path),
                content=(contents or {}).get(path, ""),
            )
            for path in sorted(paths)
        )


def output_root(outputs: tuple[Output, ...]) -> str:
    """Return the hex Merkle root over (path, digest) of the outputs."""
    return merkle_root([f"{o.path}\0{o.content or o.sha256}".encode() for o in outputs]).hex()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest; call it last. Raises StorageError."""
    said = asdict(manifest)
    write_json(directory / MANIFEST, said | {_DIGEST: _digest(said)})


def _digest(said: Json) -> str:
    return digest("sevenfold/manifest/1", canonical_json(said))


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a finished stage, or None when the stage has not finished.

    Raises:
        ManifestError: the file is there and is not a manifest of this version, or it is damaged.
        StorageError: it cannot be read.
    """
    path = directory / MANIFEST
    if not path.is_file():
        return None
    data = read_bytes(path)
    try:
        raw = json.loads(data)
        if raw["format"] != MANIFEST_FORMAT:
            raise ValueError(f"format {raw['format']}, this version reads {MANIFEST_FORMAT}")
        if raw.pop(_DIGEST, None) != _digest(raw):
            raise ValueError("it does not have its digest: it was altered")
        return Manifest(**{**raw, "outputs": tuple(Output(**o) for o in raw["outputs"])})
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ManifestError(
            f"not a stage manifest: {error}",
            where=str(path),
            remedy="run the same stage again: the stage will run again from its inputs",
        ) from error


def damaged_output(directory: Path, manifest: Manifest) -> str | None:
    """Return the path of the first output that is missing or changed since the manifest was
    written.
    """
    for output in manifest.outputs:
        path = directory / output.path
        if not path.is_file() or path.stat().st_size != output.n_bytes or sha256_file(path) != output.sha256:
            return output.path
    return None
