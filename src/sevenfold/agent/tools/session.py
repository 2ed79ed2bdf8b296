"""The guards around the tools, outside of the model, and the record of what they let through.

A model answers in text. What reads as a call is checked in this order: the form of the call, the
budget, the name, the arguments, the egress rule. Only then a tool begins. What it gives goes back as
neutral text, and a record of the call is on the disk before the model sees it.

The egress rule: behind a result of `retrieval` no page is fetched any more in the same conversation. A
URL could carry out what was found, and what asks for it may be a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.agent.tools.arguments import fault_of
from sevenfold.agent.tools.budget import BudgetMeter, ToolBudget
from sevenfold.agent.tools.log import ToolLog, text_digest
from sevenfold.agent.tools.registry import ToolSet
from sevenfold.agent.tools.result import OK, ToolResult, failed, refused
from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import Json, canonical_json, digest
from sevenfold.tokenizer.chat.calls import CallError, ToolCall, neutral, parse_calls

# Tools whose results are private, and tools that reach out of the machine.
PRIVATE, OUTWARD = frozenset(("retrieval",)), frozenset(("web",))


@dataclass(frozen=True, kw_only=True)
class CallOutcome:
    """One call that ended: its tool ("" where the answer was no call), and its result as the model
    reads it.
    """

    name: str
    result: ToolResult


class ToolConversation:
    """The tools of one conversation.

    Args:
        names: the tools that are offered; no other is called.
        model_root: of the model that answers, for the record.
        log: where calls are recorded; None records nothing.
    """

    def __init__(
        self,
        tools: ToolSet,
        names: Sequence[str],
        *,
        model_root: str = "",
        budget: ToolBudget | None = None,
        log: ToolLog | None = None,
    ) -> None:
        tools.check(names)
        self.tools, self.names = tools, tuple(names)
        self._model_root, self._budget, self._log = model_root, budget or ToolBudget(), log
        self._holds_private = False
        self.meter = BudgetMeter(self._budget)

    def begin_answer(self) -> None:
        """Begin the budget of an answer. What the conversation has read stays known."""
        self.meter = BudgetMeter(self._budget)

    async def run(self, answer: str) -> list[CallOutcome]:
        """Run the calls of an answer at once, and return their outcomes in order.

        Raises:
            StorageError: a call cannot be recorded; its result is not given.
        """
        try:
            calls: tuple[ToolCall, ...] = parse_calls(answer)
        except CallError as error:
            unread = neutral(answer, self._budget.result_bytes)
            told = self._told(refused("form", str(error)))
            self._record({"text": unread}, told)
            return [CallOutcome(name="", result=told)]
        guarded = [self._guard(call) for call in calls]
        results = await asyncio.gather(
            *(self._begin(call, fault) for call, fault in zip(calls, guarded, strict=True))
        )
        outcomes = []
        for call, result in zip(calls, results, strict=True):
            told = self._told(result)
            self._holds_private |= call.name in PRIVATE and result.outcome == OK
            self._record({"name": call.name, "arguments": call.arguments}, told)
            outcomes.append(CallOutcome(name=call.name, result=told))
        return outcomes

    def _guard(self, call: ToolCall) -> ToolResult | None:
        """Return why a call may not begin; None when it may."""
        used_up = self.meter.take_call(call.name)
        if call.name not in self.names:
            return refused("name", f"no tool {call.name!a:.80}; use {', '.join(self.names)}")
        if used_up:
            return refused("budget", f"{used_up} are used up; answer without")
        if fault := fault_of(self.tools.rules[call.name], call.arguments):
            return refused("arguments", fault)
        if call.name in OUTWARD and self._holds_private:
            return refused("egress", "no page is fetched behind a result of retrieval")
        return None

    async def _begin(self, call: ToolCall, fault: ToolResult | None) -> ToolResult:
        if fault is not None:
            return fault
        try:
            return await asyncio.to_thread(self.tools.tools[call.name].run, call.arguments)
        except SevenfoldError as error:
            return failed("unavailable", error.what)

    def _told(self, result: ToolResult) -> ToolResult:
        """Return a result as the model reads it: neutral, and no longer than the budget's room."""
        text = result.text if result.outcome == OK else f"{result.outcome}: {result.reason}: {result.text}"
        told = neutral(text, self.meter.room())
        self.meter.take_bytes(len(told.encode()))
        return ToolResult(outcome=result.outcome, reason=result.reason, text=told)

    def _record(self, call: dict[str, Json], told: ToolResult) -> None:
        if self._log is not None:
            self._log.add(
                {
                    "model_root": self._model_root,
                    "tools": self.tools.digest,
                    "call": call,
                    "call_digest": digest("sevenfold/tool-arguments/1", canonical_json(call)),
                    "outcome": told.outcome,
                    "reason": told.reason,
                    "result": told.text,
                    "result_digest": text_digest(told.text),
                    "budget_left": self.meter.left(),
                }
            )


def results_turn(outcomes: Sequence[CallOutcome]) -> str:
    """Return the turn of `tool` that follows an answer with calls."""
    if len(outcomes) == 1:
        return outcomes[0].result.text
    return "\n".join(f"[{i}] {one.name or 'call'}\n{one.result.text}" for i, one in enumerate(outcomes, 1))
