"""Take the weights, the vocabulary and the lineage of a sealed model into a run (`train.from`).

The sealed file is found by its root, so its place decides no byte. The whole file is read, so a
changed byte is refused. Its integers become the floats that they stand for. Cost: one pass over the
file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from sevenfold.artifact import Artifact, open_artifact
from sevenfold.core.errors import ArtifactError, RecipeError, StorageError, storage
from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json, canonical_json, sha256, sha256_file
from sevenfold.core.run_files import ARTIFACT, PARENT, PARENT_FACTS, TOKENIZER, WEIGHTS, sealed_name
from sevenfold.core.shipped_models import model_path
from sevenfold.quantize.dequantize import Dequantized
from sevenfold.recipe.schema import Recipe, Trunk
from sevenfold.recipe.sizing import tensors
from sevenfold.release.lineage import ancestors
from sevenfold.release.target import identity_of
from sevenfold.runs.job import Job

# The stages that read the files of the parent.
READERS = ("tokenizer", "train")
# Keys that may differ from those of the parent's recipe. `pretrained` says where a model came from,
# which is no part of its shape. The others say how the text for a vocabulary was chosen, and the
# vocabulary is taken as it is.
_NOT_COMPARED = {"model": {"pretrained"}, "tokenizer": {"training_mix", "eval_metrics"}}


def _places(job: Job, parent: Trunk) -> Iterator[Path]:
    """Yield the paths where the file may lie: the paths that the command names, the directory of the
    parent's run beside this one, files beside the run and the recipe, and models that ship.
    """
    for named in job.trunks:
        yield named / ARTIFACT if named.is_dir() else named
    yield job.out.parent / parent.name / ARTIFACT
    yield job.out.parent / sealed_name(parent.name)
    yield job.recipe_dir / sealed_name(parent.name)
    try:
        yield model_path(parent.name)
    except StorageError:
        return


def _opened(job: Job, parent: Trunk) -> Artifact:
    """Return the sealed file that the recipe names, every byte of it compared. Raises StorageError."""
    wrong = []
    for place in _places(job, parent):
        if not place.is_file():
            continue
        try:
            artifact = open_artifact(place)
            if artifact.root == parent.root:
                artifact.prove()
                return artifact
            wrong.append(f"{place}: its root is {artifact.root}")
        except ArtifactError as error:
            wrong.append(f"{place}: refused, {error.what}")
    raise StorageError(
        f"the sealed model {parent.name} with the root {parent.root} is not there"
        + (f" ({'; '.join(wrong)})" if wrong else ""),
        where="train.from",
        remedy=f"name the file: s7 make RECIPE --trunk FILE; or put {parent.name}.s7l beside the recipe",
    )


def _recipe_of(artifact: Artifact) -> Recipe:
    facts = identity_of(artifact)["facts"]
    try:
        return Recipe.model_validate_json(json.dumps(facts["recipe"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise StorageError(
            "it does not hold its recipe in the form of this version, so its float shape is not known",
            where=str(artifact.path),
            remedy="continue from a file that this version sealed",
        ) from error


def _check_fit(job: Job, parent: Trunk, artifact: Artifact) -> Dequantized:
    """Return the weights; refuse a model of another shape or vocabulary. Raises RecipeError."""
    theirs, ours = _recipe_of(artifact).resolved(), job.recipe.resolved()
    for section, left_out in _NOT_COMPARED.items():
        for key in sorted((theirs[section].keys() | ours[section].keys()) - left_out):
            here, there = (value[section].get(key) for value in (ours, theirs))
            if here != there:
                raise RecipeError(
                    f"the sealed model {parent.name} has {section}.{key} {_shown(there)}, this recipe"
                    f" {_shown(here)}",
                    where=f"{job.recipe.name}: {section}.{key}",
                    remedy=f"take the value that `s7 lineage {artifact.path} --recipe` prints",
                )
    floats = Dequantized(artifact, job.recipe.model)
    for name, shape in tensors(job.recipe.model).items():
        if floats.shape(name) != shape:
            raise StorageError(
                f"its weight {name} has the shape {floats.shape(name)}, its recipe asks for {shape}",
                where=str(artifact.path),
                remedy="seal the model again",
            )
    return floats


def _shown(value: Json) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else text[:57] + "..."


def check_parent(job: Job) -> None:
    """Refuse a parent that is missing or does not fit, before hours of work. A recipe without a
    parent passes.

    Raises StorageError, RecipeError.
    """
    parent = job.recipe.train.parent
    if parent is not None:
        _check_fit(job, parent, _opened(job, parent))


def parent_files(job: Job) -> dict[str, bytes]:
    """Return the files of the parent by name, made from its sealed file, `PARENT_FACTS` last. A
    recipe without a parent has none.

    Raises StorageError, RecipeError.
    """
    parent = job.recipe.train.parent
    if parent is None:
        return {}
    # The base install has no safetensors, and its `s7 plan` imports this module.
    from safetensors.numpy import save as save_arrays

    artifact = _opened(job, parent)
    floats = _check_fit(job, parent, artifact)
    weights = save_arrays({name: floats.read(name) for name in sorted(tensors(job.recipe.model))})
    files = {WEIGHTS: weights, TOKENIZER: artifact.dictionary}
    said: dict[str, Json] = {
        "name": parent.name,
        "root": parent.root,
        "files": {name: sha256(data).hex() for name, data in files.items()},
        "parents": ancestors(parent.name, artifact),
    }
    return files | {PARENT_FACTS: canonical_json(said) + b"\n"}


def unpack_parent(job: Job) -> None:
    """Write the files of the parent into the run, if the recipe has a parent.

    Raises StorageError, RecipeError.
    """
    files, directory = parent_files(job), job.directory(PARENT)
    if not files:
        return
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / PARENT_FACTS).unlink(missing_ok=True)
    for name, data in files.items():
        write_bytes(directory / name, data)
    origin = job.recipe.train.origin
    if origin is not None:
        job.progress.note(f"parent: the weights of {origin.name}, root {origin.root[:16]}")


def changed_parent(job: Job) -> list[tuple[str, str, str]]:
    """Return the files of the parent in this run that differ from those that its sealed file gives:
    file, digest expected, digest found.

    Raises StorageError, RecipeError.
    """
    changed = []
    for name, data in parent_files(job).items():
        path = job.directory(PARENT) / name
        found = sha256_file(path) if path.is_file() else "missing"
        if found != sha256(data).hex():
            changed.append((name, sha256(data).hex(), found))
    return changed
