"""The records of a run: metrics (JSONL and TensorBoard) and the gradient trace.

The two JSONL files hold no time and name no machine, so the files of a resumed run equal those of an
uninterrupted run byte for byte. On resume they are cut back to the step of the checkpoint. The
event files of TensorBoard carry wall time. They are a view that is rebuilt from the metrics, and no
output of the stage.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import torch

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.hashing import Json, canonical_json, digest, digest_of, sha256, sha256_file
from sevenfold.core.run_files import METRICS, TENSORBOARD, TRACE
from sevenfold.train.distributed.shards import whole

TRACE_EVERY = 100
CHAIN_START = "0" * 64


def cut_back(path: Path, last_step: int) -> list[Json]:
    """Keep the rows up to `last_step`, without an incomplete last line, and return them."""
    kept = []
    if path.is_file() and last_step:
        for line in read_bytes(path).splitlines():
            try:
                row = json.loads(line)
                if row["step"] > last_step:
                    break
            except (ValueError, KeyError, TypeError, RecursionError):
                break
            kept.append(row)
    write_bytes(path, b"".join(canonical_json(row) + b"\n" for row in kept))
    return kept


def record_digests(directory: Path) -> dict[str, Json]:
    """Return the size and SHA-256 of the current records by name, which a checkpoint binds. Raises
    StorageError.
    """
    return {
        name: [(directory / name).stat().st_size, sha256_file(directory / name)]
        for name in (METRICS, TRACE)
        if (directory / name).is_file()
    }


def damaged_record(directory: Path, bound: Mapping[str, Json]) -> str | None:
    """Return the first record that does not begin with the bytes that a checkpoint bound, or None.
    Raises StorageError.
    """
    for name in (METRICS, TRACE):
        if name not in bound or not (directory / name).is_file():
            return name
        n_bytes, expected = bound[name]
        data = read_bytes(directory / name)[:n_bytes]
        if len(data) != n_bytes or sha256(data).hex() != expected:
            return name
    return None


class Recorder(Protocol):
    """The interface through which a run writes its figures."""

    def metric(self, row: Json) -> None:
        """Record one row for a step."""

    def trace(self, row: Json) -> None:
        """Record one row for a trace point."""

    def flush(self) -> None:
        """Write what is pending; called before each checkpoint."""

    def close(self) -> None:
        """Close the records; called once, at the end."""


class Unrecorded:
    """The recorder of all ranks but the first. It writes nothing."""

    def metric(self, row: Json) -> None:
        """Ignore the row."""

    def trace(self, row: Json) -> None:
        """Ignore the row."""

    def flush(self) -> None:
        """Do nothing: no file is open."""

    def close(self) -> None:
        """Do nothing: no file is open."""


class Records:
    """Appends to the files of one run."""

    def __init__(self, directory: Path, last_step: int) -> None:
        self.directory = directory
        rows = cut_back(directory / METRICS, last_step)
        cut_back(directory / TRACE, last_step)
        if [row["step"] for row in rows] != list(range(1, last_step + 1)):
            raise StorageError(
                f"rows of steps before the checkpoint of step {last_step} are missing",
                where=str(directory / METRICS),
                remedy="put the file back from a copy, or train from the start with --force",
            )
        self._metrics = self._open(METRICS)
        self._trace = self._open(TRACE)
        shutil.rmtree(directory / TENSORBOARD, ignore_errors=True)
        # TensorBoard is imported here, because that takes a second and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self._events: Any = SummaryWriter(str(directory / TENSORBOARD))
        for row in rows:
            self._event(row)

    def _open(self, name: str) -> IO[bytes]:
        path = self.directory / name
        with storage(path):
            return path.open("ab")

    def _event(self, row: Json) -> None:
        for name in ("loss", "learning_rate", "grad_norm"):
            self._events.add_scalar(name, row[name], row["step"])
        for group in ("objectives", "domains"):
            for name, value in row.get(group, {}).items():
                self._events.add_scalar(f"{group}/{name}", value, row["step"])

    def metric(self, row: Json) -> None:
        """Write one row for a step: step, loss, learning_rate, grad_norm, tokens; `objectives` and
        `domains` where a run has several.
        """
        with storage(self.directory / METRICS):
            self._metrics.write(canonical_json(row) + b"\n")
        self._event(row)

    def trace(self, row: Json) -> None:
        """Record one row for a trace point: step, gradient, weights, chain."""
        with storage(self.directory / TRACE):
            self._trace.write(canonical_json(row) + b"\n")

    def flush(self) -> None:
        """Write every row to the file. It is called before each checkpoint, so that no checkpoint
        is ahead of its records.
        """
        with storage(self.directory):
            for file in (self._metrics, self._trace):
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        """Close the three files."""
        with storage(self.directory):
            self._metrics.close()
            self._trace.close()
        self._events.close()


def trace_row(parameters: Mapping[str, torch.Tensor], step: int, chain: str) -> dict[str, Json]:
    """Return the digests of all gradients and all weights after a step, chained to the row before
    (A7, BATCH lane).
    """
    gradient = _hashed("sevenfold/gradient/1", [parameters[name].grad for name in sorted(parameters)])
    weights = weights_digest(parameters)
    return {
        "step": step,
        "gradient": gradient,
        "weights": weights,
        "chain": trace_link(chain, step, gradient, weights),
    }


def _hashed(tag: str, tensors: list[torch.Tensor | None]) -> str:
    return digest_of(tag, (whole(t.detach()).cpu().numpy().tobytes() for t in tensors if t is not None))


def weights_digest(parameters: Mapping[str, torch.Tensor]) -> str:
    """Return the digest of all weights, in the order of their names."""
    return _hashed("sevenfold/weights/1", [parameters[name] for name in sorted(parameters)])


def trace_link(chain: str, step: int, gradient: str, weights: str) -> str:
    """Return the chain link of a trace row from the link of the row before, `chain`."""
    return digest("sevenfold/trace/1", chain, str(step), gradient, weights)


def is_trace_point(step: int, total: int) -> bool:
    """Return whether a run of `total` steps writes a trace row after `step`."""
    return step % TRACE_EVERY == 0 or step == total
