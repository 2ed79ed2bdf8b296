"""The processes that train one model together, and their collective operations.

`torchrun` starts them and gives each its rank in the environment. A single process is a group of
one and never uses `torch.distributed`. There are two groups. Weights and gradients use the group of
`mesh` (NCCL between GPUs, gloo between CPUs). There every rank takes about as long as the others,
so a rank that does not answer for `S7_RANK_TIMEOUT` seconds is lost. Waiting for work that the
first rank does alone (hashing, writing) uses the group `control`, which has a long timeout. A rank
that dies closes its connections and is noticed at once.

The first rank runs the stage, reads and writes its files, and announces each phase that it trains.
The other ranks follow.
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
# The timeout of a collective in seconds. With the default and that of torchrun, a lost rank is
# found within 30 s.
COLLECTIVE_TIMEOUT = "S7_RANK_TIMEOUT"
DEFAULT_SILENCE = 25
CONTROL_TIMEOUT = timedelta(hours=1)
# "cpu" or "cuda". Unset means CUDA where it is available.
DEVICE = "S7_DEVICE"
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection|[Tt]imed? ?out|peer|TCPStore|Broken pipe")


def local_device() -> torch.device:
    """Return the device on which this process computes. Raises UsageError when it is not available."""
    asked = os.environ.get(DEVICE, "")
    if asked not in ("", "cpu", "cuda") or (asked == "cuda" and not torch.cuda.is_available()):
        raise UsageError(
            f"{DEVICE}={asked}: no such device here", remedy="cpu or cuda; leave it out to choose"
        )
    if asked == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS is deterministic only with this workspace, and reads the variable when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process in its group. It is alone unless `process_group` set up a group."""

    device: torch.device
    rank: int = 0
    size: int = 1
    # The one-dimensional mesh of the computing group.
    mesh: DeviceMesh | None = None
    control: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Return whether this process runs the stage and writes its files."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Return whether this process trains alone."""
        return self.size == 1

    def rows(self, n_rows: int) -> slice:
        """Return which rows of a tensor with `n_rows` this rank holds, by the rule of torch.chunk,
        which FSDP2 follows.
        """
        each = -(-n_rows // self.size)
        return slice(min(self.rank * each, n_rows), min((self.rank + 1) * each, n_rows))

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Add a tensor over all ranks (all-reduce).

        Every element is non-zero on at most one rank, so the sum is exact.
        """
        if not self.is_alone:
            dist.all_reduce(values, group=None if self.mesh is None else self.mesh.get_group())
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the value is true on any rank."""
        return bool(self.all_reduce_sum(torch.tensor([float(flag)], device=self.device)).item())

    def barrier(self) -> None:
        """Wait until every rank has called this. The first rank may take long."""
        if not self.is_alone:
            dist.barrier(group=self.control)

    def broadcast_object(self, value: T | None) -> T:
        """Return the `value` of the first rank on every rank."""
        box = [value]
        if not self.is_alone:
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]  # type: ignore[return-value]  # the first rank's is a T

    def all_gather_object(self, value: T) -> list[T]:
        """Return the value of each rank, in the order of the ranks."""
        if self.is_alone:
            return [value]
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found  # type: ignore[return-value]  # each rank has put a T


def ranks_recorded(spec: TrainSpec, ranks: Ranks) -> dict[str, int]:
    """Return what manifests and checkpoints record about the number of ranks; nothing where it
    decides no bit.
    """
    return {"n_ranks": ranks.size} if spec.reduction == "fast" else {}


_joined: Ranks | None = None


def here() -> Ranks:
    """Return the group of this process."""
    return _joined or Ranks(device=local_device())


def dismiss() -> None:
    """Tell the other ranks to stop.

    The first rank calls this when no more phases are trained, and continues alone.
    """
    global _joined
    if _joined is not None:
        if _joined.is_first:
            # A follower comes here because the first rank told it to stop.
            _joined.broadcast_object(None)
        _joined.barrier()
        dist.destroy_process_group()
        _joined = None


def _silence() -> float:
    text = os.environ.get(COLLECTIVE_TIMEOUT, str(DEFAULT_SILENCE))
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{COLLECTIVE_TIMEOUT}={text}", remedy="a whole number of seconds")
    return int(text)


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the processes that torchrun started into one group for this block; without torchrun,
    this process alone.

    Raises:
        TrainingError: another rank is lost.
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
        dist.init_process_group("gloo", timeout=CONTROL_TIMEOUT)
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
            remedy=(
                "torchrun --max-restarts N starts again from the last checkpoint; or run the same command"
                " again"
            ),
        ) from error
