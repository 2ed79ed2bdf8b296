"""nanoGPT's `model.py`, loaded from a checkout; nothing of it is ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def load_nanogpt(checkout: Path) -> Any:
    """The module. Exits with a line where there is none."""
    path = checkout / "model.py"
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{checkout} holds no model.py (fetch github.com/karpathy/nanoGPT)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
