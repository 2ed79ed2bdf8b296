"""From a sealed file to integer weights, the way A11 asks for: wired from FIELD, or zeros where
there is only a header.

Zeros are for trying an engine or a format without a model; they say so, and nothing that runs or
serves a model takes them (`engine.session.Model`).
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from sevenfold.artifact import open_artifact
from sevenfold.engine.weights import IntegerModel, load_weights
from sevenfold.quantize.convert import convert
from sevenfold.recipe.schema import ModelSpec, TokenRouted
from sevenfold.recipe.sizing import tensors


class ZeroBootstrapWarning(UserWarning):
    """The model is zeros: its file holds a header and nothing else."""


def from_s7(path: Path | str, spec: ModelSpec) -> IntegerModel:
    """Return the integer model of a sealed file.

    Args:
        path: the file.
        spec: the architecture that a header-only file boots as zeros; a
            file with FIELD brings its own.

    Raises:
        ArtifactError: the file is refused, or holds no model that the engine knows.
    """
    artifact = open_artifact(path)
    if not artifact.header_only:
        return load_weights(artifact.tensors, artifact.graph, str(path))
    warnings.warn(
        f"{path}: a header without lanes; booted as zeros (A11)", ZeroBootstrapWarning, stacklevel=2
    )
    zeros = {name: np.zeros(shape, np.float32) for name, shape in tensors(spec).items()}
    router = [0] * spec.vocab_size if isinstance(spec.moe, TokenRouted) else None
    records, graph = convert(zeros, spec, 1.0, router)
    return load_weights({record.name: record for record in records}, graph, str(path))
