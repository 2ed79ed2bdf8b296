"""Imports of the package from its sources, for targets that instrument them."""

from __future__ import annotations

import sys
from pathlib import Path


def use_sources() -> None:
    """Put `src/` first, and leave out the finder of an editable install: what it loads, atheris does not instrument."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
