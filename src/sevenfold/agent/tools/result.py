"""What a call of a tool gave, and what a tool is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sevenfold.core.hashing import Json

# A tool did what was asked; it could not; a guard did not let it begin.
OK, ERROR, REFUSED = "ok", "error", "refused"


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """The end of one call.

    Attributes:
        outcome: `OK`, `ERROR` or `REFUSED`.
        reason: why it is not `OK`, as a word of specs/tools.md; "" otherwise.
        text: what the model is told, before it is made neutral.
    """

    outcome: str
    text: str
    reason: str = ""


def refused(reason: str, text: str) -> ToolResult:
    """Return the result of a call that a guard did not let begin."""
    return ToolResult(outcome=REFUSED, reason=reason, text=text)


def failed(reason: str, text: str) -> ToolResult:
    """Return the result of a call that did not do what was asked."""
    return ToolResult(outcome=ERROR, reason=reason, text=text)


class AgentTool(Protocol):
    """A tool. `run` gets arguments that are of its schema, may be called by several threads at once,
    and raises nothing that is foreseen.
    """

    @property
    def is_repeatable(self) -> bool:
        """Return whether the same arguments give the same result at a later time."""

    def run(self, arguments: dict[str, Json]) -> ToolResult:
        """Do what was asked."""
