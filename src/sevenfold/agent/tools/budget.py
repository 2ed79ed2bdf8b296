"""How much the tools may be used for one answer. The model has no say in it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# Calls of one answer, for each tool.
CALLS: Mapping[str, int] = MappingProxyType(
    {"python_exec": 4, "compiler_run": 2, "retrieval": 4, "web": 3, "calculator": 8}
)


@dataclass(frozen=True, kw_only=True)
class ToolBudget:
    """Bounds of one answer, and of each result.

    Attributes:
        rounds: answers that are read as calls.
        seconds: of the clock; past them no call begins.
    """

    calls: int = 8
    calls_of: Mapping[str, int] = field(default_factory=lambda: CALLS)
    rounds: int = 4
    result_bytes: int = 2048
    answer_bytes: int = 8192
    seconds: int = 120


class BudgetMeter:
    """What is left of the budget of one answer."""

    def __init__(self, budget: ToolBudget, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self._clock, self._began = clock, clock()
        self._n_calls: Counter[str] = Counter()
        self._n_rounds = self._n_bytes = 0

    def take_round(self) -> bool:
        """Count one answer that is read as calls. Return False when none is left."""
        self._n_rounds += 1
        return self._n_rounds <= self.budget.rounds

    def take_call(self, name: str) -> str:
        """Count a call, refused ones too. Return "" when it may begin, otherwise what is used up."""
        self._n_calls[name] += 1
        if self._n_calls.total() > self.budget.calls:
            return "the calls of this answer"
        if self._n_calls[name] > self.budget.calls_of.get(name, 0):
            return f"the calls of {name}"
        if self._clock() - self._began > self.budget.seconds:
            return "the seconds of this answer"
        return ""

    def room(self) -> int:
        """Return the bytes that the next result may have."""
        return max(0, min(self.budget.result_bytes, self.budget.answer_bytes - self._n_bytes))

    def take_bytes(self, n_bytes: int) -> None:
        """Count the bytes of a result."""
        self._n_bytes += n_bytes

    def left(self) -> dict[str, int]:
        """Return what is left, as it stands in a record. It is never below 0."""
        bounds = self.budget.calls_of
        return {
            "calls": max(0, self.budget.calls - self._n_calls.total()),
            "rounds": max(0, self.budget.rounds - self._n_rounds),
            "bytes": max(0, self.budget.answer_bytes - self._n_bytes),
        } | {f"calls.{name}": max(0, bounds[name] - self._n_calls[name]) for name in sorted(bounds)}
