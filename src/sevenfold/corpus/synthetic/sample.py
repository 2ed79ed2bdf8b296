"""One sample of the curriculum: an instruction, a response, and what is known of it. The form is A6's.

A maker is a coroutine: it yields a `Job` whenever programs have to be executed, gets what they returned, and ends with a `Sample`,
or with None when a check does not hold. So the text of a sample may quote results, and none is kept unexecuted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from sevenfold.corpus.synthetic.dice import Dice

INSTRUCTION, RESPONSE = "### Instruction:", "### Response:"
ERROR_MARK = "!"  # before the name of an exception in what a program gave


@dataclass(frozen=True, slots=True)
class Job:
    """Programs to execute: each of `sources` is run, then `entry` is called with every tuple of arguments (Python literals)."""

    sources: Mapping[str, str]
    entry: str
    inputs: tuple[str, ...]


# Source -> what each call gave: the repr of its value, or `!` and the exception's name.
Outcome = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Sample:
    """`shape`: what makes it another task than its neighbour, names and constants left out (`variety.skeleton` of it)."""

    instruction: str
    response: str
    language: str
    shape: str

    @property
    def text(self) -> str:
        """The document: both parts under their headings."""
        return f"{INSTRUCTION}\n{self.instruction}\n\n{RESPONSE}\n{self.response}\n"


Attempts = list[Sample | None]  # of one block; None: a check did not hold
Maker = Callable[[Dice], Generator[Job, Outcome, Sample | None]]


def fenced(code: str, language: str) -> str:
    """Code as a fenced block."""
    return f"```{language}\n{code.rstrip()}\n```"


def failed(results: list[str]) -> bool:
    """Whether any call raised, ran out of time or memory, or never answered."""
    return any(result.startswith(ERROR_MARK) for result in results)
