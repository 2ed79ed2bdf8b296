"""The processes that train one model together: who they are, and how they meet.

`torchrun` starts them and says in the environment who each is; a process alone is a group of one and never touches
`torch.distributed`. There are two groups. Weights and gradients travel over the one of `mesh` (NCCL between GPUs, gloo between
CPUs), where a silence of SILENCE seconds is a lost rank: what every rank does there takes about as long on each. Work that the
first rank does alone (hashing, writing) is waited for over `control`, which is patient. A rank that dies closes its connections,
and is found at once.

The first rank runs the stage, reads and writes its files and announces each part that it trains; the others follow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from sevenfold.core.errors import TrainingError, UsageError
from sevenfold.recipe.schema import TrainSpec

T = TypeVar("T")
SILENCE = "S7_RANK_TIMEOUT"  # seconds that a collective may take; with torchrun's own, the default finds a lost rank within 30
DEFAULT_SILENCE = 25
PATIENCE = timedelta(hours=1)
DEVICE = "S7_DEVICE"  # cpu or cuda; CUDA where it is, if not set
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection|[Tt]imed? ?out|peer|TCPStore|Broken pipe")


def local_device() -> torch.device:
    """Where this process computes. Raises UsageError for a device that is not here."""
    asked = os.environ.get(DEVICE, "")
    if asked not in ("", "cpu", "cuda") or (asked == "cuda" and not torch.cuda.is_available()):
        raise UsageError(
            f"{DEVICE}={asked}: no such device here", remedy="cpu or cuda; leave it out to choose"
        )
    if asked == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS is deterministic with a workspace of its own only, and reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together; alone, unless `joined` says otherwise."""

    device: torch.device
    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None  # of one dimension, the group that computes
    control: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process runs the stage and owns its files."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to talk to."""
        return self.size == 1

    def rows(self, n_rows: int) -> slice:
        """Rows of a tensor with `n_rows` that this rank holds (torch.chunk's rule, which FSDP2 follows)."""
        each = -(-n_rows // self.size)
        return slice(min(self.rank * each, n_rows), min((self.rank + 1) * each, n_rows))

    def merged(self, values: Tensor) -> Tensor:
        """Values of which each was filled in by one rank and is zero on all others: whole, on every rank. Exact."""
        if not self.is_alone:
            dist.all_reduce(values, group=None if self.mesh is None else self.mesh.get_group())
        return values

    def any(self, flag: bool) -> bool:
        """Whether one rank says so."""
        return bool(self.merged(torch.tensor([float(flag)], device=self.device)).item())

    def wait(self) -> None:
        """Until every rank is here, however long the first one works."""
        if not self.is_alone:
            dist.barrier(group=self.control)

    def told(self, value: T | None) -> T:
        """What the first rank says; the others' `value` is not looked at."""
        box = [value]
        if not self.is_alone:
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]  # type: ignore[return-value]  # the first rank's is a T

    def everyones(self, value: T) -> list[T]:
        """What each rank says, in the order of ranks."""
        if self.is_alone:
            return [value]
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found  # type: ignore[return-value]  # each rank has put a T


def ranks_recorded(spec: TrainSpec, ranks: Ranks) -> dict[str, int]:
    """What manifests and checkpoints say of the number of ranks: nothing where it decides no bit."""
    return {"n_ranks": ranks.size} if spec.reduction == "fast" else {}


_joined: Ranks | None = None


def here() -> Ranks:
    """This process's group."""
    return _joined or Ranks(device=local_device())


def dismiss() -> None:
    """Said by the first rank: nothing more is trained, the others may go. From here on it is alone."""
    global _joined
    if _joined is not None:
        if _joined.is_first:
            _joined.told(None)  # a follower is here because it was told so
        _joined.wait()
        dist.destroy_process_group()
        _joined = None


def _silence() -> float:
    text = os.environ.get(SILENCE, str(DEFAULT_SILENCE))
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{SILENCE}={text}", remedy="a whole number of seconds")
    return int(text)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Within this block the processes that torchrun started are one group; without torchrun, this process alone.

    Raises:
        TrainingError: another rank is gone.
    """
    global _joined
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield here()
        return
    device = local_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
        backend = "nccl" if device.type == "cuda" else "gloo"
        group = dist.new_group(backend=backend, timeout=timedelta(seconds=_silence()))
        _joined = Ranks(
            device=device,
            rank=dist.get_rank(),
            size=size,
            mesh=DeviceMesh.from_group(group, device.type),
            control=dist.group.WORLD,
        )
        yield _joined
        dismiss()
    except RuntimeError as error:  # what gloo and NCCL raise has no class of its own
        if not _LOST.search(str(error)):
            raise
        raise TrainingError(
            f"rank {os.environ.get('RANK', '?')} has lost another rank: {str(error).splitlines()[0]}",
            remedy="torchrun --max-restarts N starts again from the last checkpoint; or run the same command again",
        ) from error
