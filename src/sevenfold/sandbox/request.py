"""The request to the sandbox, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The mark before the name of an exception in a result.
ERROR_MARK = "!"


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """Programs to execute. Each of `sources` runs in a process of its own. Then `entry` is called with
    every tuple of arguments (Python literals).
    """

    sources: Mapping[str, str]
    entry: str
    inputs: tuple[str, ...]


# Source -> the result of each call: the repr of its value, or `!` and the name of the exception.
Outcome = Mapping[str, list[str]]
