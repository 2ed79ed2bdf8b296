"""Compute the floats that the integers of a sealed file represent: the inverse of `convert`, record
by record (specs/arithmetic.md, section 6).

Every product is exact in binary64, and the last step rounds to FP32, so all processors give the
same floats. Memory: one tensor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sevenfold.artifact import Artifact
from sevenfold.core.errors import StorageError
from sevenfold.engine.ops import headroom
from sevenfold.engine.weights import EMBEDDING
from sevenfold.recipe.schema import ModelSpec


class Dequantized:
    """The weights of a sealed file as float32, which are read on request."""

    def __init__(self, artifact: Artifact, spec: ModelSpec) -> None:
        self.records, self.graph, self.spec = artifact.tensors, artifact.graph, spec
        self.where = str(artifact.path)

    def _data(self, name: str) -> NDArray[np.int8]:
        if name not in self.records:
            raise StorageError(f"no record {name!r}", where=self.where)
        record = self.records[name]
        return np.asarray(record.data).reshape(record.dims)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight; () when the file has no record of it."""
        if name.endswith("norm.weight"):
            return (len(self._data(f"{name}.gain")),) if f"{name}.gain" in self.records else ()
        return tuple(self.records[name].dims) if name in self.records else ()

    def read(self, name: str) -> NDArray[np.float32]:
        """Return one weight. Raises StorageError when the file has no record of it."""
        exponent = int(self.graph["exponents"].get(name, 0))
        if name.endswith("norm.weight"):
            gain = self._data(f"{name}.gain").view(">i2")[:, 0]
            real = np.ldexp(gain.astype(np.float64), -exponent) / math.sqrt(self.spec.d_model)
            return real.astype(np.float32)
        rows = self._data(f"{name}.rows").view(">u2").astype(np.int64)
        scale = np.ldexp(rows[:, 0].astype(np.float64), -rows[:, 1])
        if name == EMBEDDING:
            scale = np.ldexp(scale, -int(self.graph["residual_exponent"]))
        else:
            folds = 2 if name.endswith("o_proj.weight") else 1
            scale = np.ldexp(scale, headroom(self._data(name).shape[1]) - exponent) * 127.0**folds
        real = self._data(name) * scale[:, None]
        return real.astype(np.float32)
