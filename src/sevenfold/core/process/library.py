"""Load a native library. It lies beside the package that calls it, unless it was not built."""

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
