"""Sevenfold: small language models that can be proved.

`sevenfold.Model.open(path)` verifies and opens a sealed model; everything else is reached through the `s7` command or the
rooms (README, file map). Importing this package loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sevenfold.engine.session import Model

__version__ = "0.1.0"
__all__ = ["Model", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Model":
        from sevenfold.engine.session import Model

        return Model
    raise AttributeError(f"module 'sevenfold' has no attribute {name!r}")
