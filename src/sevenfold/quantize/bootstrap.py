"""Load integer weights from a sealed file (A11): from FIELD, or zeros for a file with only a
header.

Zeros are for trying an engine or a format without a model. A warning says so, and nothing that runs
or serves a model accepts them (`engine.session.Model`).
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
    """The model consists of zeros, because its file holds only a header."""


def from_s7(path: Path | str, spec: ModelSpec) -> IntegerModel:
    """Return the integer model of a sealed file.

    Args:
        path: the file.
        spec: the architecture of a header-only file, which loads as zeros; a file with FIELD has
            its own.

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
