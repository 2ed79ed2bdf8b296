"""Parse programs of others without warnings about their style."""

from __future__ import annotations

import ast
import threading
import warnings

# Warning filters are shared by the whole process.
_LOCK = threading.Lock()


def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a Python program.

    Raises SyntaxError, ValueError, RecursionError or MemoryError when it is not a program.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
