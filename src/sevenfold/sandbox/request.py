"""What the sandbox is asked to execute, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Before the name of an exception in what a program gave.
ERROR_MARK = "!"


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """Programs to execute: each of `sources` is run in a process of its own, then `entry` is called
    with every tuple of arguments (Python literals).
    """

    sources: Mapping[str, str]
    entry: str
    inputs: tuple[str, ...]


# Source -> what each call gave: the repr of its value, or `!` and the exception's name.
Outcome = Mapping[str, list[str]]
