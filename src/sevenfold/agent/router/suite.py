"""Synthetic questions with the decision that is right, made from skeletons; split by skeleton.

A question of the test third has a skeleton of which training saw no question. The part of a skeleton
follows from its digest, so nobody chose it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json, digest

SUITE = Path(__file__).with_name("suite.json")
_SLOT = re.compile(r"\{(\w+)\}")
ANSWER = "answer"
Steps = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class RouterExample:
    """A question after some calls, and the action that is right: "answer", or a tool."""

    skeleton: str
    question: str
    steps: Steps
    action: str


def actions() -> tuple[str, ...]:
    """Return the actions, "answer" first; ties go to the earlier one."""
    return tuple(_suite()["actions"])


def _suite() -> Json:
    return json.loads(read_bytes(SUITE))


def is_held_out(skeleton: str) -> bool:
    """Return whether a skeleton is of the test third."""
    return int(digest("sevenfold/router-skeleton/1", skeleton)[:8], 16) % 3 == 0


def examples(*, held_out: bool, n: int) -> list[RouterExample]:
    """Return the examples of one part, n fillings of each skeleton. The same call gives the same."""
    suite = _suite()
    rows: list[tuple[tuple[str, ...], str]] = []
    for tool, texts in suite["one"].items():
        needs: tuple[str, ...] = () if tool == ANSWER else (tool,)
        rows += [(needs, text) for text in texts]
    rows += [((first, second), text) for first, second, text in suite["two"]]
    found = []
    for needed, skeleton in rows:
        if is_held_out(skeleton) != held_out:
            continue
        random = Random(digest("sevenfold/router-filling/1", skeleton))
        for _ in range(n):
            parts = _SLOT.split(skeleton)
            parts[1::2] = [_filled(slot, random, suite["slots"]) for slot in parts[1::2]]
            question = "".join(parts)
            for steps, action in _states(needed):
                found.append(RouterExample(skeleton=skeleton, question=question, steps=steps, action=action))
    return found


def _states(needs: tuple[str, ...]) -> Iterator[tuple[Steps, str]]:
    """Yield what is right for a question that needs these tools, before and after each call.

    A call that failed is tried once more. One that a guard refused, or that failed twice, ends it.
    """
    done: Steps = ()
    for tool in needs:
        yield done, tool
        failed = (*done, (tool, "error"))
        yield failed, tool
        yield (*failed, (tool, "error")), ANSWER
        yield (*done, (tool, "refused")), ANSWER
        done = (*done, (tool, "ok"))
    yield done, ANSWER


def _filled(slot: str, random: Random, slots: dict[str, list[str]]) -> str:
    def number(low: int, high: int) -> int:
        return random.randrange(low, high)

    if slot == "small":
        return str(number(2, 60))
    if slot == "big":
        return str(number(100, 10_000))
    if slot == "square":
        return str(number(11, 99) ** 2)
    if slot == "expr":
        a, b, c = number(2, 999), number(2, 999), number(2, 99)
        forms = (
            f"{a} * {b} + {c}",
            f"({a} + {b}) / {c}",
            f"{a}/{b} + 1/{c}",
            f"{a} - {b} * {c}",
            f"{c}**3 - {a}",
        )
        return forms[number(0, len(forms))]
    return slots[slot][number(0, len(slots[slot]))]
