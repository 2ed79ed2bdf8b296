"""One sample of the curriculum: an instruction, a response, and facts about it (A6).

A generator is a coroutine. It yields an `ExecutionRequest` whenever programs have to be executed,
and it receives what they returned. It ends with a `SyntheticSample`, or with None when a check does
not hold. The text of a sample may therefore quote results, and no sample is kept unexecuted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from sevenfold.sandbox.request import ERROR_MARK, ExecutionRequest, Outcome
from sevenfold.synthetic.rng import SeededChoices

INSTRUCTION, RESPONSE = "### Instruction:", "### Response:"


@dataclass(frozen=True, slots=True)
class SyntheticSample:
    """A sample. `shape` identifies its task without names and constants (see `variety`)."""

    instruction: str
    response: str
    language: str
    shape: str

    @property
    def text(self) -> str:
        """Return the document: both parts under their headings."""
        return f"{INSTRUCTION}\n{self.instruction}\n\n{RESPONSE}\n{self.response}\n"


# The attempts of one block. None stands for an attempt that failed a check.
Attempts = list[SyntheticSample | None]
# A generator at work on one sample. It yields programs to execute, and receives their results.
SampleRoutine = Generator[ExecutionRequest, Outcome, SyntheticSample | None]
Maker = Callable[[SeededChoices], SampleRoutine]


def fenced(code: str, language: str) -> str:
    """Return the code as a fenced block."""
    return f"```{language}\n{code.rstrip()}\n```"


def failed(results: list[str]) -> bool:
    """Return whether any call raised, ran out of time or memory, or never answered."""
    return any(result.startswith(ERROR_MARK) for result in results)
