"""Checkpoints in safetensors: weights, optimiser, RNG and data cursor; written whole or not at all.

A rank alone writes one file; several write a directory together (`checkpoint_shards`). Both are read by any number of ranks, each
of which gets its own rows. `key` ties a checkpoint to its recipe and its data, so a run never resumes from somebody else's state.
The last two are kept: a damaged newest one falls back to the one before. `train.keep_every` keeps more, so that an audit of the
middle is cheap.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from sevenfold.core.errors import storage
from sevenfold.core.files import remove_partials, write_bytes
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.train.distributed import sharded_checkpoint
from sevenfold.train.distributed.ranks import Ranks

KEPT = 2
_META = "sevenfold"
_META_FIELDS = ("key", "step", "chain", "seed", "losses", "environment")
_RNG = "rng.state"
_NAME = re.compile(r"checkpoint-(\d{8,})\.(safetensors|sharded)")
# What reading a damaged checkpoint raises.
DAMAGE = (SafetensorError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State after `step` steps. The cursor of the data is the step (see `batches`)."""

    key: str
    step: int
    chain: str  # last link of the gradient trace
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rng: Tensor
    seed: int
    losses: tuple[float, ...] = ()  # of the last steps, for the rule about spikes
    environment: Mapping[str, str] = field(default_factory=dict)


def _file(directory: Path, step: int) -> Path:
    return directory / f"checkpoint-{step:08d}.safetensors"


def checkpoint_path(directory: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps stands: the file, or the directory of shards where there is one."""
    shards = sharded_checkpoint.path_of(directory, step)
    return shards if shards.is_dir() else _file(directory, step)


def checkpoint_steps(directory: Path) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    found = (_NAME.fullmatch(path.name) for path in directory.glob("checkpoint-*"))
    return sorted({int(match.group(1)) for match in found if match})


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def prune(directory: Path, newest: int, keep_every: int) -> None:
    """Keep `newest`, the one before it, and each multiple of `keep_every` (unless that is 0).

    What lies past `newest` is of a run that is no more (another recipe in the same directory): kept, it would push
    this run's own out. Raises StorageError.
    """
    steps = checkpoint_steps(directory)
    last = [step for step in steps if step <= newest][-KEPT:]
    for step in steps:
        if step > newest or not (step in last or (keep_every and step % keep_every == 0)):
            with storage(directory):
                _remove(checkpoint_path(directory, step))


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    tensors = {f"model.{n}": t for n, t in checkpoint.model.items()}
    tensors |= {f"optimizer.{n}": t for n, t in checkpoint.optimizer.items()}
    return tensors | {_RNG: checkpoint.rng}


def _meta(checkpoint: Checkpoint) -> dict[str, Json]:
    return {name: getattr(checkpoint, name) for name in _META_FIELDS}


def save_checkpoint(directory: Path, checkpoint: Checkpoint, keep_every: int = 0) -> Path:
    """Write one file atomically, then drop what `prune` does not keep. Raises StorageError."""
    path = _file(directory, checkpoint.step)
    tensors = {n: t.contiguous() for n, t in _tensors(checkpoint).items()}
    write_bytes(path, save_tensors(tensors, {_META: canonical_json(_meta(checkpoint)).decode()}))
    with storage(directory):
        _remove_shards(directory, checkpoint.step)
    prune(directory, checkpoint.step, keep_every)
    return path


def _remove_shards(directory: Path, step: int) -> None:
    shards = sharded_checkpoint.path_of(directory, step)
    if shards.is_dir():
        shutil.rmtree(shards)


def save_shards(directory: Path, checkpoint: Checkpoint, ranks: Ranks, keep_every: int = 0) -> None:
    """Write a directory with all ranks, each its own rows; a collective. Raises StorageError."""
    sharded_checkpoint.write(directory, checkpoint.step, _tensors(checkpoint), _meta(checkpoint), ranks)
    if ranks.is_first:
        prune(directory, checkpoint.step, keep_every)
    ranks.wait()


def _read_file(path: Path, ranks: Ranks | None) -> tuple[dict[str, Json], dict[str, Tensor]]:
    """Meta and tensors of a file; of a rank among several, its rows, which are all that is read."""
    with storage(path), safe_open(path, framework="pt") as file:
        meta = json.loads((file.metadata() or {})[_META])
        names = file.keys()
        if ranks is None or ranks.is_alone:
            return meta, {name: file.get_tensor(name) for name in names}
        return meta, {name: _own(file, name, ranks) for name in names}


def _own(file: Any, name: str, ranks: Ranks) -> Tensor:
    part = file.get_slice(name)
    shape = part.get_shape()
    return part[ranks.rows(shape[0])] if shape and name != _RNG else file.get_tensor(name)


def read_checkpoint(path: Path, ranks: Ranks | None = None) -> Checkpoint:
    """Read one checkpoint: this rank's rows of each tensor; a collective where there are several.

    Raises StorageError, or one of DAMAGE when it is damaged.
    """
    read = sharded_checkpoint.read if path.is_dir() else _read_file
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
    )


def latest_checkpoint(directory: Path, key: str, ranks: Ranks | None = None) -> Checkpoint | None:
    """Newest readable checkpoint of this run, or None. Damaged ones and those of another run are passed over."""
    if ranks is None or ranks.is_alone:
        return _latest(directory, key)
    # The first rank looks, so that all go on from the same one.
    path = ranks.told(_usable(directory, key) if ranks.is_first else None)
    return None if path is None else read_checkpoint(path, ranks)


def _clean(directory: Path) -> None:
    remove_partials(directory)
    sharded_checkpoint.remove_partials(directory)


def _candidates(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    _clean(directory)
    return [checkpoint_path(directory, step) for step in reversed(checkpoint_steps(directory))]


def _latest(directory: Path, key: str) -> Checkpoint | None:
    for path in _candidates(directory):
        try:
            checkpoint = read_checkpoint(path)
        except DAMAGE:
            continue
        if checkpoint.key == key:
            return checkpoint
    return None


def _usable(directory: Path, key: str) -> Path | None:
    for path in _candidates(directory):
        try:
            if path.is_dir():
                meta = sharded_checkpoint.checked(path)
            else:
                with safe_open(path, framework="pt") as file:
                    meta = json.loads((file.metadata() or {})[_META])
        except DAMAGE:
            continue
        if meta["key"] == key:
            return path
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """Optimiser state as flat tensors, by parameter name."""
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
