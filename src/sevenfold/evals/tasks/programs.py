"""Programs of others as syntax trees, without what the compiler says about their style."""

from __future__ import annotations

import ast
import threading
import warnings

# The filters of warnings belong to the whole process.
_LOCK = threading.Lock()


def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a Python program.

    Raises SyntaxError, ValueError, RecursionError or MemoryError where it is none.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
