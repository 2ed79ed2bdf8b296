"""A shared library of ours, built beside the room that calls it, or not there."""

from __future__ import annotations

import ctypes
from pathlib import Path


def open_library(path: Path, abi: str, version: int) -> ctypes.CDLL | None:
    """Return the library whose call `abi` gives `version`; None where it was not built, cannot be
    loaded, or is of another version.
    """
    try:
        found = ctypes.CDLL(str(path))
    except OSError:
        return None
    return found if getattr(found, abi)() == version else None
