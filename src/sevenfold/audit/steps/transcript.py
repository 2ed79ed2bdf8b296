"""The transcript of a step: hashes of the inputs and outputs of each operator, in the order of the
calls (specs/dispute.md).

The order of independent calls claims nothing. Two transcripts are compared by the inputs of a call.
Cost: a hash of every input and output of a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json, canonical_json, digest, digest_of
from sevenfold.model.kernels.observe import OperatorCall
from sevenfold.train.checkpoints.tensor_digest import tensor_bytes

MOST_ROWS = 2_000_000
_KEYS = {"operator", "settings", "inputs", "outputs"}


def hash_of(value: Tensor | float) -> str:
    """Return the hash of a tensor by dtype, shape and bytes, or of a number by its bits."""
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    parts = (str(tensor.dtype), str(list(tensor.shape)), tensor_bytes(tensor))
    return digest_of("sevenfold/operand/1", parts)


def _plain(value: object) -> Json:
    """Return a setting as JSON; a float as its hexadecimal digits, which are exact."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, str | int | None):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(v) for name, v in dataclasses.asdict(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)


@dataclass(frozen=True)
class TranscriptRow:
    """One call: the operator, its settings, and the hashes of its inputs and outputs, by name."""

    operator: str
    settings: Mapping[str, Json]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def key(self) -> str:
        """Return a digest of everything that decides the outputs."""
        given = canonical_json([dict(self.settings), dict(self.inputs)])
        return digest("sevenfold/call/1", self.operator, given)

    def as_json(self) -> dict[str, Json]:
        """Return the row as JSON values."""
        return {n: dict(v) if isinstance(v, Mapping) else v for n, v in dataclasses.asdict(self).items()}


def rows_of(value: Iterable[Json]) -> list[TranscriptRow]:
    """Return the rows of a transcript that was read. Raises ArtifactError when it is none."""
    rows: list[TranscriptRow] = []
    for row in value:
        named = isinstance(row, dict) and row.keys() == _KEYS and isinstance(row["operator"], str)
        if not named or not all(isinstance(row[k], dict) for k in ("settings", "inputs", "outputs")):
            raise ArtifactError("a transcript with a row of another form")
        hashes = (*row["inputs"].values(), *row["outputs"].values())
        if not all(isinstance(v, str) for v in hashes) or len(rows) == MOST_ROWS:
            raise ArtifactError("a transcript with a hash that is no text, or without end")
        rows.append(TranscriptRow(**row))
    return rows


@dataclass
class Kept:
    """The tensors of one call. Inputs have their values from before the call."""

    call: OperatorCall
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass
class Transcript:
    """Observes a step (`model.kernels.observe`).

    Args:
        wanted: a function of the number and the row of a call that decides whether its tensors are
            kept. Before the call, the row has no outputs yet.
    """

    wanted: Callable[[int, TranscriptRow], bool] = lambda _number, _row: False
    rows: list[TranscriptRow] = field(default_factory=list)
    kept: dict[int, Kept] = field(default_factory=dict)
    _before: TranscriptRow | None = None

    def begin(self, call: OperatorCall) -> None:
        """Hash the inputs before the operator may overwrite them."""
        self._before = TranscriptRow(
            operator=call.operator,
            settings={name: _plain(value) for name, value in call.settings.items()},
            inputs={name: hash_of(tensor) for name, tensor in call.inputs.items()},
            outputs={},
        )
        number = len(self.rows)
        if self.wanted(number, self._before):
            self.kept[number] = Kept(call, {n: _copy(t) for n, t in call.inputs.items()}, {})

    def end(self, call: OperatorCall) -> None:
        """Hash the outputs."""
        number, before = len(self.rows), self._before
        if before is None:
            return
        outputs = {name: hash_of(value) for name, value in call.outputs.items()}
        self.rows.append(dataclasses.replace(before, outputs=outputs))
        if number in self.kept:
            self.kept[number].outputs |= {n: _copy(v) for n, v in call.outputs.items()}

    def as_json(self) -> list[Json]:
        """Return the transcript as JSON values."""
        return [row.as_json() for row in self.rows]

    def kept_outputs(self) -> dict[str, Tensor]:
        """Return the outputs that were kept, by number of the call and name."""
        return {
            f"{number}.{name}": tensor
            for number, kept in self.kept.items()
            for name, tensor in kept.outputs.items()
        }


def _copy(value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    return tensor.detach().clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True, kw_only=True)
class Parting:
    """The first difference of two transcripts.

    `kind` is `output` when both computed the same call with different results. It is `input` when a
    call of A has inputs that no earlier call of B produced. `b` is the number of the call of B;
    None for `input`.
    """

    kind: str
    a: int
    b: int | None


def find_parting(a: list[TranscriptRow], b: list[TranscriptRow]) -> Parting | None:
    """Return the first call of A in which B differs; None when all are the same."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(b):
        found.setdefault(row.key, []).append(number)
    lost = None
    for number, row in enumerate(a):
        twins = found.get(row.key)
        if twins is None:
            lost = number if lost is None else lost
            continue
        for twin in twins:
            if dict(b[twin].outputs) != dict(row.outputs):
                return Parting(kind="output", a=number, b=twin)
    if lost is not None:
        return Parting(kind="input", a=lost, b=None)
    return None
