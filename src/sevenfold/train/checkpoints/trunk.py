"""Find the state that a run goes on from (`train.from`), compare its root, and make it the first
checkpoint of the run.

A trunk is a run like any other. Another run may branch off at any step whose checkpoint exists. It
continues the step numbers of the trunk, also in the data, and its records begin with those of the
trunk. So the chain of its trace, and with it the seal, reaches back to the first step of the trunk.
Cost: the state of the trunk is read twice and written once.

A sealed parent (`train.from` without a step) gives only weights, by `runs.parent`. They replace the
draw from the seed. Steps, moments and trace begin anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load as load_tensors
from torch import Tensor

from sevenfold.core.errors import RecipeError, StorageError, UsageError, storage
from sevenfold.core.files import read_bytes, read_json, write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json, digest, sha256
from sevenfold.core.manifest import read_manifest
from sevenfold.core.run_files import METRICS, RECIPE, TRACE, WEIGHTS
from sevenfold.recipe.schema import Recipe, Trunk
from sevenfold.recipe.sizing import tensors
from sevenfold.runs.job import Job
from sevenfold.runs.parent import parent_facts, parent_file
from sevenfold.train.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
    save_checkpoint,
    state_root,
)
from sevenfold.train.checkpoints.run_key import key_of
from sevenfold.train.phases import training_phases

# The description of the trunk. It is an output of stage `train`, so the seal binds it.
TRUNK = "trunk.json"


@dataclass(frozen=True, kw_only=True)
class TrunkState:
    """The state of a trunk in a run directory.

    Attributes:
        key: the key of the trunk's run, which recipe and token files decide.
        rows: the records of the trunk up to the state, by file name.
        recipe: the recipe of the trunk.
        tokens: the root of the token files that it read.
    """

    checkpoint: Checkpoint
    key: str
    rows: dict[str, bytes]
    recipe: Recipe
    tokens: str

    @property
    def root(self) -> str:
        """Return the digest of the state together with recipe, data and every recorded step."""
        state = self.checkpoint
        records = {name: [len(rows), sha256(rows).hex()] for name, rows in self.rows.items()}
        return digest(
            "sevenfold/trunk/1",
            self.key,
            str(state.step),
            state.chain,
            canonical_json(records),
            state_root(state.step, state.model, state.optimizer),
        )


def find_state(run: Path, step: int) -> TrunkState:
    """Return the state after `step` steps of the run, or of the trunk that the run went on from.

    Raises:
        StorageError: there is no such checkpoint, or its records differ from those that it binds.
    """
    directory = run / "train"
    path = checkpoint_path(directory, step)
    if step not in checkpoint_steps(directory):
        kept = ", ".join(map(str, checkpoint_steps(directory))) or "none"
        raise StorageError(
            f"there is no checkpoint of step {step}; these are kept: {kept}", where=str(directory)
        )
    checkpoint = read_checkpoint(path)
    rows = {}
    for name, bound in sorted(checkpoint.records.items()):
        n_bytes, expected = bound
        rows[name] = read_bytes(directory / name)[:n_bytes]
        if sha256(rows[name]).hex() != expected:
            raise StorageError(
                "rows before the checkpoint are missing or damaged", where=str(directory / name)
            )
    key, recipe, tokens = _origin(run, step, checkpoint.key)
    if key_of(recipe, training_phases(recipe)[0], tokens) != key:
        raise StorageError(
            "its recipe or its token files are not those that it was trained with", where=str(run)
        )
    return TrunkState(checkpoint=checkpoint, key=key, rows=rows, recipe=recipe, tokens=tokens)


def _origin(run: Path, step: int, key: str) -> tuple[str, Recipe, str]:
    """Return the key, the recipe and the root of the tokens of the run that made a state. Raises
    StorageError.
    """
    own = run / "train" / TRUNK
    said = read_json(own) if own.is_file() else None
    if not isinstance(said, dict) or said.get("step") != step:
        tokenizer = read_manifest(run / "tokenizer")
        said = {"key": key, "recipe": read_json(run / RECIPE), "tokens": tokenizer.root if tokenizer else ""}
    try:
        return (
            str(said["key"]),
            Recipe.model_validate_json(canonical_json(said["recipe"])),
            str(said["tokens"]),
        )
    except (KeyError, ValueError) as error:
        raise StorageError("it does not record how it was trained", where=str(run)) from error


def _places(job: Job, trunk: Trunk) -> Iterator[Path]:
    yield from (job.out, *job.trunks)
    yield job.out.parent / trunk.name


def _found(job: Job, trunk: Trunk) -> TrunkState:
    """Return the state that the recipe names, from the first run that has it. Raises StorageError."""
    wrong = []
    for place in _places(job, trunk):
        try:
            found = find_state(place, trunk.step)
        except StorageError as error:
            wrong.append(f"{place}: {error.what}")
            continue
        if found.root == trunk.root:
            return found
        wrong.append(f"{place}: its state of step {trunk.step} has the root {found.root}")
    raise StorageError(
        f"the state of {trunk.name} after step {trunk.step} with the root {trunk.root} is missing"
        f" ({'; '.join(wrong)})",
        where="train.from",
        remedy=f"train {trunk.name} to that step with `s7 train RECIPE --out DIR --to-step {trunk.step}`,"
        " and name DIR with --trunk",
    )


def adopt(job: Job, directory: Path, key: str) -> None:
    """Write the state of the trunk to `directory` as a checkpoint with this key, with its records and
    its description. The checkpoint is written last.

    Raises:
        StorageError: no run has the state that the recipe names.
        RecipeError: the trunk has another shape, batch, or other token files.
    """
    trunk = job.recipe.train.trunk
    if trunk is None:
        raise UsageError("the recipe continues no trunk", where="train.from")
    found = _found(job, trunk)
    _check_fit(job, trunk, found)
    for name in (METRICS, TRACE):
        write_bytes(directory / name, found.rows.get(name, b""))
    write_json(directory / TRUNK, facts_of(found))
    with storage(directory):
        save_checkpoint(directory, replace(found.checkpoint, key=key), first=trunk.step)
    job.progress.note(f"train: continues from step {trunk.step} of {trunk.name}, root {trunk.root[:16]}")


def facts_of(found: TrunkState) -> dict[str, Json]:
    """Return the description of a trunk's state that a run keeps."""
    return {
        "step": found.checkpoint.step,
        "root": found.root,
        "key": found.key,
        "chain": found.checkpoint.chain,
        "tokens": found.tokens,
        "recipe": found.recipe.resolved(),
    }


def _check_fit(job: Job, trunk: Trunk, found: TrunkState) -> None:
    """Refuse a trunk that this run cannot go on from. Raises RecipeError."""
    theirs = found.recipe
    model, train = job.recipe.model, job.recipe.train
    shapes = {name: tuple(tensor.shape) for name, tensor in found.checkpoint.model.items()}
    wanted = {name: tuple(shape) for name, shape in tensors(model).items()}
    compared = {
        "model": (theirs.model.model_dump() == model.model_dump() and shapes == wanted, "another shape"),
        "train.batch_sequences": (
            (theirs.train.batch_sequences, theirs.train.sequence) == (train.batch_sequences, train.sequence),
            "another batch",
        ),
        "train.optimizer": (theirs.train.optimizer == train.optimizer, "another optimizer"),
        "tokenizer": (found.tokens == job.manifest("tokenizer").root, "other token files"),
    }
    for key, (fits, what) in compared.items():
        if not fits:
            raise RecipeError(
                f"the trunk {trunk.name} has {what}",
                where=f"{job.recipe.name}: {key}",
                remedy="let both recipes extend one file that sets it",
            )


def has_state(job: Job, step: int) -> bool:
    """Return whether the run has a checkpoint of this step."""
    return step in checkpoint_steps(job.directory("train"))


def branch_point(job: Job, step: int) -> str:
    """Return the line of a recipe that continues this run after `step`. Raises StorageError."""
    found = find_state(job.out, step)
    return f'from: {{name: {job.recipe.name}, step: {step}, root: "{found.root}"}}'


def history(job: Job) -> dict[str, Json]:
    """Return the sealed facts about the trunk or parent of a run. Without one there are none.

    Raises StorageError.
    """
    origin = job.recipe.train.origin
    if origin is None:
        return {}
    return {"trunk": {"name": origin.name, **read_json(job.directory("train") / TRUNK)}}


def parent_weights(job: Job) -> dict[str, Tensor]:
    """Return the weights of the sealed model that a run begins with. Without one there are none.

    Raises StorageError when the files of the run are not those of the sealed model.
    """
    if job.recipe.train.parent is None:
        return {}
    weights: dict[str, Tensor] = load_tensors(read_bytes(parent_file(job, WEIGHTS)))
    return weights


def write_parent(job: Job, directory: Path) -> None:
    """Write the root and the lineage of a sealed parent, if there is one, for the seal to bind.

    Raises StorageError.
    """
    if job.recipe.train.parent is not None:
        said = parent_facts(job)
        write_json(directory / TRUNK, {"step": 0, "root": said["root"], "parents": said["parents"]})
