"""Sevenfold: small language models that can be proved.

`sevenfold.Model.open(path)` verifies and opens a sealed model. The names in `__all__` are the
public interface (docs/reference/python.md). Importing this package loads nothing else.

    >>> import sevenfold
    >>> model = sevenfold.Model.open("model.s7l")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sevenfold.artifact import Verification, verify
    from sevenfold.core.errors import (
        ArtifactError,
        GateError,
        RecipeError,
        SevenfoldError,
        StorageError,
        UsageError,
    )
    from sevenfold.engine.session import Model, Session

__version__ = "0.2.0"
# The public interface, once: each name and the module that defines it. Modules load on first use.
_HOME = {
    "ArtifactError": "core.errors",
    "GateError": "core.errors",
    "Model": "engine.session",
    "RecipeError": "core.errors",
    "Session": "engine.session",
    "SevenfoldError": "core.errors",
    "StorageError": "core.errors",
    "UsageError": "core.errors",
    "Verification": "artifact",
    "verify": "artifact",
}
__all__ = [
    "ArtifactError",
    "GateError",
    "Model",
    "RecipeError",
    "Session",
    "SevenfoldError",
    "StorageError",
    "UsageError",
    "Verification",
    "__version__",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sevenfold' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sevenfold.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
