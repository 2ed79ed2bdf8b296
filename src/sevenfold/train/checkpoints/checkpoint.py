"""Checkpoints in safetensors: weights, optimiser, RNG and data cursor, written whole or not at all.

One rank writes one file. Several ranks write a directory together (`sharded_checkpoint`). Any number
of ranks reads either form, and each rank gets its own rows. `key` binds a checkpoint to its recipe
and data, so a run never resumes from the state of another. A checkpoint holds a digest over all its
tensors and facts. It is damaged when its bytes changed or its name states another step. It also
binds the records (`metrics.jsonl`, `trace.jsonl`) up to its step. The last two checkpoints are
kept. When the newest is damaged, the run uses the one before and prints a note. `train.keep_every`
keeps more, which makes an audit of the middle cheap.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import remove_partials, write_bytes
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.train.checkpoints.tensor_digest import DAMAGE, StoredTensors, tensors_digest
from sevenfold.train.distributed import sharded_checkpoint
from sevenfold.train.distributed.ranks import Ranks

KEPT = 2
_META, _DIGEST = "sevenfold", "sevenfold.sha256"
_META_FIELDS = ("key", "step", "chain", "seed", "losses", "environment", "records")
_RNG = "rng.state"
_NAME = re.compile(r"checkpoint-(\d{8,})\.(safetensors|sharded)")


class DamagedCheckpointError(StorageError):
    """A checkpoint whose bytes changed after they were written."""


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Turn the errors of the libraries on damaged bytes into DamagedCheckpointError."""
    try:
        yield
    except DAMAGE as error:
        raise DamagedCheckpointError(
            f"a damaged checkpoint: {' '.join(str(error).split())[:200] or type(error).__name__}",
            where=str(path),
            remedy="run `s7 train` again: it resumes from the checkpoint before",
        ) from error


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after `step` steps. The step is also the cursor of the data (see `batches`)."""

    key: str
    step: int
    # The last link of the gradient trace.
    chain: str
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rng: Tensor
    seed: int
    # The losses of the last steps, which `LossGuard` needs.
    losses: tuple[float, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    # See `records.record_digests`.
    records: Mapping[str, Json] = field(default_factory=dict)


def _file(directory: Path, step: int) -> Path:
    return directory / f"checkpoint-{step:08d}.safetensors"


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return the path of the checkpoint after `step` steps: a file, or a directory of shards."""
    shards = sharded_checkpoint.path_of(directory, step)
    return shards if shards.is_dir() else _file(directory, step)


def checkpoint_steps(directory: Path) -> list[int]:
    """Return the steps that have a checkpoint, ascending."""
    return sorted({step for step, _ in _found(directory)})


def _found(directory: Path) -> list[tuple[int, Path]]:
    """Return the step and path of each checkpoint: files of tensors, and directories of shards."""
    found = []
    for path in directory.glob("checkpoint-*"):
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir() == (match.group(2) == "sharded"):
            found.append((int(match.group(1)), path))
    return sorted(found)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def prune(directory: Path, newest: int, keep_every: int, first: int = 0) -> None:
    """Keep `newest`, the one before it, each multiple of `keep_every` (unless that is 0), and
    `first`, the state of the trunk, from which an audit of this run's first steps begins.

    A checkpoint past `newest` belongs to an earlier run of another recipe in the same directory. If
    it were kept, it would displace a checkpoint of this run. Raises StorageError.
    """
    steps = checkpoint_steps(directory)
    last = [step for step in steps if step <= newest][-KEPT:]
    for step in steps:
        is_kept = step in (*last, first) or (keep_every and step % keep_every == 0)
        if step > newest or not is_kept:
            with storage(directory):
                _remove(checkpoint_path(directory, step))


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    tensors = {f"model.{n}": t for n, t in checkpoint.model.items()}
    tensors |= {f"optimizer.{n}": t for n, t in checkpoint.optimizer.items()}
    return tensors | {_RNG: checkpoint.rng}


def _meta(checkpoint: Checkpoint) -> dict[str, Json]:
    return {name: getattr(checkpoint, name) for name in _META_FIELDS}


def _digest(tensors: Mapping[str, Tensor], meta: bytes) -> str:
    return tensors_digest("sevenfold/checkpoint/1", tensors, meta)


def state_root(step: int, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> str:
    """Return the hex digest of the state before a step: its number, weights and moments, each with
    name, dtype and shape. The step counts of the optimiser are left out, because they equal the
    number.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.items()}
    tensors |= {f"optimizer.{n}": t for n, t in optimizer.items() if not n.endswith(".step")}
    return tensors_digest("sevenfold/state/1", tensors, str(step).encode())


def save_checkpoint(directory: Path, checkpoint: Checkpoint, keep_every: int = 0, first: int = 0) -> Path:
    """Write one file atomically, then drop what `prune` does not keep. Raises StorageError."""
    path = _file(directory, checkpoint.step)
    tensors = {n: t.contiguous() for n, t in _tensors(checkpoint).items()}
    meta = canonical_json(_meta(checkpoint))
    write_bytes(path, save_tensors(tensors, {_META: meta.decode(), _DIGEST: _digest(tensors, meta)}))
    with storage(directory):
        _remove_shards(directory, checkpoint.step)
    prune(directory, checkpoint.step, keep_every, first)
    return path


def _remove_shards(directory: Path, step: int) -> None:
    shards = sharded_checkpoint.path_of(directory, step)
    if shards.is_dir():
        shutil.rmtree(shards)


def save_shards(
    directory: Path, checkpoint: Checkpoint, ranks: Ranks, keep_every: int = 0, first: int = 0
) -> None:
    """Write a directory of shards; each rank writes its own rows.

    A collective. Raises StorageError.
    """
    sharded_checkpoint.write(directory, checkpoint.step, _tensors(checkpoint), _meta(checkpoint), ranks)
    if ranks.is_first:
        prune(directory, checkpoint.step, keep_every, first)
    ranks.barrier()


def _read_file(path: Path, ranks: Ranks | None) -> tuple[dict[str, Json], dict[str, Tensor]]:
    """Return the meta and tensors of a file. One of several ranks reads and returns only its rows."""
    with storage(path), safe_open(path, framework="pt") as file:
        meta = json.loads((file.metadata() or {})[_META])
        names = file.keys()
        if ranks is None or ranks.is_alone:
            return meta, {name: file.get_tensor(name) for name in names}
        return meta, {name: _own(file, name, ranks) for name in names}


def _own(file: Any, name: str, ranks: Ranks) -> Tensor:
    part = file.get_slice(name)
    shape = part.get_shape()
    own: Tensor = part[ranks.rows(shape[0])] if shape and name != _RNG else file.get_tensor(name)
    return own


def verified_meta(path: Path) -> dict[str, Json]:
    """Return the facts of a checkpoint after comparing all of its bytes with its digest.

    Raises:
        DamagedCheckpointError: the bytes differ, or the name states another step.
        StorageError: it cannot be read.
    """
    with _refusing_damage(path):
        meta = sharded_checkpoint.checked(path) if path.is_dir() else _checked_file(path)
        match = _NAME.fullmatch(path.name)
        if match and int(match.group(1)) != meta["step"]:
            raise ValueError(f"it is of step {meta['step']}, but its name states another step")
    return meta


def _checked_file(path: Path) -> dict[str, Json]:
    with storage(path), safe_open(path, framework="pt") as file:
        said = file.metadata() or {}
        if _DIGEST not in said:
            raise ValueError("it has no digest")
        if _digest(StoredTensors(file), said[_META].encode()) != said[_DIGEST]:
            raise ValueError("its bytes do not have its digest")
        meta: dict[str, Json] = json.loads(said[_META])
        return meta


def read_checkpoint(path: Path, ranks: Ranks | None = None) -> Checkpoint:
    """Read one checkpoint: the rows of this rank of each tensor. It is a collective with several
    ranks.

    A single rank verifies it. With several ranks, the first has done so (`latest_checkpoint`).

    Raises:
        DamagedCheckpointError: the bytes changed after they were written.
        StorageError: it cannot be read.
    """
    if ranks is None or ranks.is_alone:
        verified_meta(path)
    return _read(path, ranks)


def _read(path: Path, ranks: Ranks | None) -> Checkpoint:
    read = sharded_checkpoint.read if path.is_dir() else _read_file
    with _refusing_damage(path):
        meta, tensors = read(path, ranks)

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        return Checkpoint(
            key=meta["key"],
            step=int(meta["step"]),
            chain=meta["chain"],
            model=part("model."),
            optimizer=part("optimizer."),
            rng=tensors[_RNG],
            seed=int(meta["seed"]),
            losses=tuple(meta["losses"]),
            environment=meta["environment"],
            records=meta["records"],
        )


def latest_checkpoint(
    directory: Path,
    key: str,
    ranks: Ranks | None = None,
    *,
    note: Callable[[str], None] = lambda _text: None,
    damaged_record: Callable[[Mapping[str, Json]], str | None] = lambda _records: None,
) -> Checkpoint | None:
    """Return the newest usable checkpoint of this run, or None. It skips damaged checkpoints and
    those of another run.

    Args:
        note: receives a line for each checkpoint that is passed over, with the reason.
        damaged_record: returns the name of a record that differs from the one that a checkpoint
            binds, or None.

    Raises:
        StorageError: a checkpoint cannot be read. Or none can be used, but one is whole and only its
            records are damaged.
    """
    if ranks is None or ranks.is_alone:
        path = _usable(directory, key, note, damaged_record)
        return None if path is None else _read(path, None)
    # The first rank chooses, so that all ranks resume from the same checkpoint.
    path = ranks.broadcast_object(_usable(directory, key, note, damaged_record) if ranks.is_first else None)
    return None if path is None else _read(path, ranks)


def _clean(directory: Path) -> None:
    remove_partials(directory)
    sharded_checkpoint.remove_partials(directory)


def _usable(
    directory: Path,
    key: str,
    note: Callable[[str], None],
    damaged_record: Callable[[Mapping[str, Json]], str | None],
) -> Path | None:
    if not directory.is_dir():
        return None
    _clean(directory)
    unrecorded: str | None = None
    for _, path in reversed(_found(directory)):
        try:
            meta = verified_meta(path)
        except DamagedCheckpointError as error:
            note(f"{path.name} is skipped: {error.what}")
            continue
        if meta["key"] != key:
            note(f"{path.name} is skipped: it belongs to another recipe or to other data")
            continue
        record = damaged_record(meta["records"])
        if record is None:
            return path
        unrecorded = unrecorded or record
        note(f"{path.name} is skipped: {record} is damaged before its step")
    if unrecorded is not None:
        raise StorageError(
            "rows of steps before every checkpoint are missing or damaged",
            where=str(directory / unrecorded),
            remedy="put the file back from a copy, or train from the start with --force",
        )
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """Return the optimiser state as flat tensors, by parameter name."""
    return {
        f"{names[parameter]}.{slot}": value
        for parameter, state in optimizer.state.items()
        for slot, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str], tensors: dict[str, Tensor]
) -> None:
    """Put saved tensors back into a fresh optimiser over the same parameters."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, _, slot = key.rpartition(".")
        optimizer.state[by_name[name]][slot] = value.clone()
