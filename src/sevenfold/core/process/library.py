"""Load a native library of this package, which is beside the package that calls it, or absent."""

from __future__ import annotations

import ctypes
from pathlib import Path


def open_library(path: Path, abi: str, version: int) -> ctypes.CDLL | None:
    """Return the library, or None where it was not built, cannot be loaded or has another version.

    Its function `abi` has to return `version`.
    """
    try:
        found = ctypes.CDLL(str(path))
    except OSError:
        return None
    return found if getattr(found, abi)() == version else None
