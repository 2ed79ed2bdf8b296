"""Tools as a program offers them to its models: `s7 chat --tools`, `s7 serve --tools`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sevenfold.agent.tools.arguments import arguments_schema
from sevenfold.agent.tools.log import ToolLog
from sevenfold.agent.tools.loop import Ask, CallChooser, LoopAnswer, Turns, converse
from sevenfold.agent.tools.registry import ToolSet
from sevenfold.agent.tools.session import ToolConversation
from sevenfold.core.errors import PolicyError
from sevenfold.tokenizer.chat.calls import CALL_START

# Tools that a family forbids, and the rule of each (specs/recipe.md).
FORBIDDEN = {"m31r": {"retrieval": "D2.retrieval", "web": "D2.services"}}


class ToolHost:
    """Tools, the record of their calls, and who says when one is called.

    Args:
        chooser: without one the model says it.
    """

    def __init__(
        self, tools: ToolSet, *, log: ToolLog | None = None, chooser: CallChooser | None = None
    ) -> None:
        self.tools, self._log, self.chooser = tools, log, chooser

    @property
    def names(self) -> tuple[str, ...]:
        """Return the tools, in the order of their file."""
        return tuple(self.tools.tools)

    def schema(self, name: str) -> dict[str, Any]:
        """Return the JSON schema of the arguments of a tool."""
        return arguments_schema(self.tools.rules[name])

    def begun(self, name: str) -> str:
        """Return what every call of a tool begins with, up to the text of its first argument."""
        first = next(iter(self.tools.rules[name]))
        return f'{CALL_START}{name}","arguments":{{"{first}":"'

    def note(self, names: Sequence[str]) -> str:
        """Return the turn of `system` that tells a model of these tools."""
        return self.tools.note(names)

    def check(self, family: str, names: Sequence[str]) -> None:
        """Refuse tools that are not here, or that a model's family forbids.

        Raises:
            UsageError, PolicyError: names the tool and the rule.
        """
        self.tools.check(names)
        for name in names:
            if rule := FORBIDDEN.get(family, {}).get(name):
                raise PolicyError(
                    rule,
                    f"no {name}; the model is of the family {family}",
                    where="tools",
                    remedy="leave it out",
                )

    def open(self, names: Sequence[str], model_root: str) -> ToolConversation:
        """Return the tools of a new conversation."""
        return ToolConversation(self.tools, names, model_root=model_root, log=self._log)

    async def converse(
        self, turns: Turns, ask: Ask, names: Sequence[str], *, model_root: str, first: str = ""
    ) -> LoopAnswer:
        """Return the answer to a conversation that is told whole.

        Args:
            first: the tool that is called first, whatever the chooser says.

        Raises:
            StorageError: a call cannot be recorded.
        """
        chooser = _First(first, self.chooser) if first else self.chooser
        return await converse(turns, ask, self.open(names, model_root), chooser)


class _First:
    """Calls one tool first, then leaves it to another chooser."""

    def __init__(self, name: str, then: CallChooser | None) -> None:
        self._name, self._then = name, then

    def choose(self, question: str, steps: Sequence[tuple[str, str]]) -> str:
        if not steps:
            return self._name
        return self._then.choose(question, steps) if self._then is not None else ""
