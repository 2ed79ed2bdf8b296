"""Checkpoints in safetensors: weights, optimiser, RNG and data cursor; written whole or not at all.

`key` ties a checkpoint to its recipe and its data, so a run never resumes from somebody else's state. The last two are
kept: a damaged newest one falls back to the one before. `train.keep_every` keeps more, so that an audit of the middle is cheap.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sevenfold.core.errors import storage
from sevenfold.core.files import read_bytes, remove_partials, write_bytes
from sevenfold.core.hashing import canonical_json

KEPT = 2
_META = "sevenfold"
_META_FIELDS = ("key", "step", "chain", "seed", "losses", "environment")
_RNG = "rng.state"
_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")


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


def checkpoint_path(directory: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps stands."""
    return directory / f"checkpoint-{step:08d}.safetensors"


def checkpoint_steps(directory: Path) -> list[int]:
    """Steps that have a checkpoint file, ascending."""
    found = (_NAME.fullmatch(path.name) for path in directory.glob("checkpoint-*.safetensors"))
    return sorted(int(match.group(1)) for match in found if match)


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
                checkpoint_path(directory, step).unlink()


def save_checkpoint(directory: Path, checkpoint: Checkpoint, keep_every: int = 0) -> Path:
    """Write atomically, then drop what `prune` does not keep. Raises StorageError."""
    tensors = {f"model.{n}": t for n, t in checkpoint.model.items()}
    tensors |= {f"optimizer.{n}": t for n, t in checkpoint.optimizer.items()}
    tensors[_RNG] = checkpoint.rng
    meta = canonical_json({name: getattr(checkpoint, name) for name in _META_FIELDS}).decode()
    path = checkpoint_path(directory, checkpoint.step)
    write_bytes(path, save_tensors({n: t.contiguous() for n, t in tensors.items()}, {_META: meta}))
    prune(directory, checkpoint.step, keep_every)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file. Raises StorageError, or SafetensorError, ValueError, KeyError, struct.error when it is damaged."""
    data = read_bytes(path)
    (length,) = struct.unpack_from("<Q", data)
    meta = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_META])
    tensors = load_tensors(data)

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


def latest_checkpoint(directory: Path, key: str) -> Checkpoint | None:
    """Newest readable checkpoint of this run, or None. Damaged ones and those of another run are passed over."""
    if not directory.is_dir():
        return None
    remove_partials(directory)
    for path in sorted(directory.glob("checkpoint-*.safetensors"), reverse=True):
        try:
            checkpoint = read_checkpoint(path)
        except (SafetensorError, ValueError, KeyError, struct.error):
            continue
        if checkpoint.key == key:
            return checkpoint
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
