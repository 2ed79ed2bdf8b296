"""Import optional libraries when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from sevenfold.core.errors import UsageError


def require_module(module: str, need: str = "") -> Any:
    """Import a library of the extra `train`.

    Args:
        module: the name to import.
        need: what needs which library, for the error; by default a corpus step needs the module.

    Raises UsageError, with the remedy, when it is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{need or f'a corpus step needs {module}'}, which is not installed ({error})",
            remedy="pip install 'sevenfold[train]'",
        ) from error
