"""Import optional libraries when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from sevenfold.core.errors import UsageError


def require_module(module: str) -> Any:
    """Import a library of the extra `train`.

    Raises UsageError, with the remedy, when it is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"a corpus step needs {module}, which is not installed ({error})",
            remedy="pip install 'sevenfold[train]'",
        ) from error
