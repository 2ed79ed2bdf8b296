"""Open the source of an export: the float weights of a run or an import, or the floats that the
integers of a sealed file represent.

Weights are read on request, one tensor at a time. `provenance` says where they come from, and every
format stores it. An import keeps the metadata of its file (specs/export.md, section 3).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sevenfold.artifact import read_artifact
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.files import read_bytes, read_json
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import read_manifest
from sevenfold.core.run_files import ORIGIN, RECIPE, TOKENIZER, WEIGHTS
from sevenfold.export.names import check_expressible
from sevenfold.export.store import Floats, open_tensors
from sevenfold.quantize.dequantize import Dequantized
from sevenfold.recipe.schema import ModelSpec, Recipe
from sevenfold.recipe.sizing import tensors
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles

# The prefix of our metadata in other formats.
KEY = "sevenfold"


@dataclass(frozen=True, kw_only=True)
class ExportSource:
    """A dense model: its shape, its vocabulary, its weights by our names (float32), and their
    provenance.
    """

    path: Path
    spec: ModelSpec
    tokenizer: bytes
    provenance: dict[str, Json]
    read: Callable[[str], Floats]
    roles: Roles | None = None
    # Settings of the files that this version ignores, one line each. They change no logit.
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the model for display."""
        return str(self.provenance.get("name", self.path.stem))

    def vocabulary(self) -> Tokenizer:
        """Return the tokenizer. Raises StorageError."""
        return Tokenizer.from_json(self.tokenizer, self.roles)


def open_source(path: Path) -> ExportSource:
    """Open a sealed file, a run directory or an import directory.

    Raises:
        StorageError: there is nothing to export, the tokenizer is missing, or the weights do not
            have the recipe's shape.
        ArtifactError: the sealed file is refused.
        UsageError: the model is not a Llama; the error says why, and names the nearest alternative.
    """
    if not path.is_dir():
        return _from_sealed(path)
    if (path / ORIGIN).is_file():
        return _from_import(path)
    return _from_run(path)


def _checked(source: ExportSource, shapes: dict[str, tuple[int, ...]]) -> ExportSource:
    expected = tensors(source.spec)
    for name in sorted(expected.keys() | shapes.keys()):
        if shapes.get(name) != expected.get(name):
            raise StorageError(
                f"tensor {name!r} is {shapes.get(name, 'missing')}, the shape of the model asks for"
                f" {expected.get(name, 'none')}",
                where=str(source.path),
                remedy="export what one recipe trained",
            )
    return check_vocabulary(source)


def check_vocabulary(source: ExportSource) -> ExportSource:
    """Return the source after a check. Raises StorageError when its tokenizer and its embedding
    have different numbers of entries.
    """
    size = source.vocabulary().vocab_size
    if size != source.spec.vocab_size:
        raise StorageError(
            f"its tokenizer has {size} entries, the model {source.spec.vocab_size}",
            where=str(source.path),
            remedy="bring the tokenizer that the weights were trained with",
        )
    return source


def _from_directory(
    path: Path, weights: Path, tokenizer: Path, spec: ModelSpec, provenance: Json, roles: Roles | None
) -> ExportSource:
    check_expressible(spec)
    if not tokenizer.is_file():
        raise StorageError(
            "the tokenizer is missing", where=str(tokenizer), remedy="run `s7 tokenizer` first"
        )
    file = open_tensors(weights)
    source = ExportSource(
        path=path,
        spec=spec,
        tokenizer=read_bytes(tokenizer),
        provenance=provenance,
        read=file.read,
        roles=roles,
    )
    return _checked(source, {name: place.shape for name, place in file.places.items()})


def _from_run(path: Path) -> ExportSource:
    manifest = read_manifest(path / "train")
    if manifest is None:
        raise StorageError(
            "no trained model in this directory",
            where=str(path),
            remedy="name a sealed file, an import, or a run that `s7 make` has trained",
        )
    sealed = read_manifest(path / "seal")
    recipe = _run_recipe(path / RECIPE, manifest.recipe_digest)
    provenance: dict[str, Json] = {
        "name": recipe.name,
        "root": sealed.facts["root"] if sealed and sealed.inputs.get("train") == manifest.root else None,
        "train_root": manifest.root,
        "recipe_digest": recipe.digest,
        "recipe": recipe.resolved(),
    }
    return _from_directory(
        path,
        path / "train" / WEIGHTS,
        path / "tokenizer" / TOKENIZER,
        recipe.model,
        provenance,
        Roles.of(recipe.tokenizer.roles),
    )


def _run_recipe(path: Path, digest: str) -> Recipe:
    try:
        recipe = Recipe.model_validate_json(read_bytes(path))
        if recipe.digest != digest:
            raise ValueError("the directory has another recipe than its training")
    except (StorageError, ValueError) as error:
        raise StorageError(
            f"the recipe of this run is not known: {error}",
            where=str(path),
            remedy=(
                "run `s7 make RECIPE --until train` on it again; stages that are up to date are not repeated"
            ),
        ) from error
    return recipe


def _from_import(path: Path) -> ExportSource:
    origin = read_json(path / ORIGIN)
    try:
        spec = ModelSpec.model_validate_json(json.dumps(origin["model"]))
        provenance = dict(origin["provenance"])
        # Imports of older versions have no such key. The names of their vocabulary decide.
        roles = None if origin.get("roles") is None else Roles.read(origin["roles"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"not an import: {error}", where=str(path / ORIGIN), remedy="run `s7 import` again"
        ) from error
    return _from_directory(path, path / WEIGHTS, path / TOKENIZER, spec, provenance, roles)


def _from_sealed(path: Path) -> ExportSource:
    artifact = read_artifact(path)
    identity = artifact.provenance.get("identity") or {}
    try:
        recipe = Recipe.model_validate_json(json.dumps(identity["facts"]["recipe"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise UsageError(
            "the sealed file does not hold its recipe, so its float shape is not known",
            where=str(path),
            remedy="export the run directory",
        ) from error
    check_expressible(recipe.model)
    provenance: dict[str, Json] = {
        "name": recipe.name,
        "root": artifact.root,
        # The floats that the sealed integers represent.
        "weights": "int8",
        "recipe_digest": recipe.digest,
        "recipe": recipe.resolved(),
    }
    floats = Dequantized(artifact, recipe.model)
    source = ExportSource(
        path=path,
        spec=recipe.model,
        tokenizer=artifact.dictionary,
        provenance=provenance,
        read=floats.read,
        roles=Roles.of(recipe.tokenizer.roles),
    )
    return _checked(source, {name: floats.shape(name) for name in tensors(recipe.model)})
