"""The loop of one answer: the model answers, calls are run, results go back, until it is text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sevenfold.agent.tools.session import CallOutcome, ToolConversation, results_turn
from sevenfold.tokenizer.chat.calls import is_call, neutral
from sevenfold.tokenizer.chat.template import ANSWERS

TOOL_ROLE = "tool"
Turns = list[tuple[str, str]]
# Turns, and the tool that the answer has to call ("" leaves it to the model) -> the answer.
Ask = Callable[[Turns, str], Awaitable[str]]


class CallChooser(Protocol):
    """Says which tool an answer has to call next."""

    def choose(self, question: str, steps: Sequence[tuple[str, str]]) -> str:
        """Return the name of a tool, or "" for an answer in text.

        `steps` are the calls until now: pairs of a tool and the outcome.
        """


@dataclass(frozen=True, kw_only=True)
class LoopAnswer:
    """How an answer ended.

    Attributes:
        text: the answer; "" when the rounds were used up before there was one.
        turns: all turns, the answer not among them.
        outcomes: of every call, in order.
    """

    text: str
    turns: Turns
    outcomes: list[CallOutcome] = field(default_factory=list)


async def converse(
    turns: Turns, ask: Ask, conversation: ToolConversation, chooser: CallChooser | None = None
) -> LoopAnswer:
    """Return the answer to the last turn.

    Args:
        turns: of (role, text); the caller's turns stay as they are.
        chooser: without one the model chooses.

    Raises:
        StorageError: a call cannot be recorded.
    """
    conversation.begin_answer()
    turns, outcomes = list(turns), list[CallOutcome]()
    question = turns[-1][1] if turns else ""
    while True:
        steps = [(one.name, one.result.outcome) for one in outcomes]
        name = chooser.choose(question, steps) if chooser is not None else ""
        answer = await ask(turns, name if name in conversation.names else "")
        if not is_call(answer):
            return LoopAnswer(text=answer, turns=turns, outcomes=outcomes)
        if not conversation.meter.take_round():
            return LoopAnswer(text="", turns=turns, outcomes=outcomes)
        found = await conversation.run(answer)
        outcomes += found
        # An answer that goes on behind its call could forge a turn of results.
        turns += [(ANSWERS, neutral(answer)), (TOOL_ROLE, results_turn(found))]
