"""No pattern of the corpus rooms takes more than its text's length asks: each is tried on long runs of
what it is made of.

A run of 200 kB of one class is what makes a pattern quadratic: `a+b` looks at all of the rest from
every place. Such a pattern needs 2 * 10**10 steps there, a linear one some thousand for each byte at
most. Each search has a budget of processor time a hundred times above what a linear one needs, and
is stopped behind it. Patterns are found in the modules, so a new one is tried without being listed.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import pkgutil
import re
import signal
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from re import _parser as parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold import corpus
from sevenfold.corpus.licences.wording import notices, tags

N_BYTES = 200_000
# Seconds of processor time for one search. A linear one takes milliseconds.
BUDGET = 8.0
ROOMS = ("steps", "licences", "text")
# Tried as a whole on texts of bounded length, and never searched for: tried here at the start of
# `SHORT` bytes. Name -> what bounds it.
BOUNDED = {
    "licences.wording.licence_text._TEMPLATE": "a licence's template, read whole",
    "licences.wording.notices._VERSION": "tried at one place, behind the name of a licence",
    "licences.wording.speech._TABLE": "160 bytes on both sides of a literal",
    "licences.wording.restrictions._TABLE": "160 bytes on both sides of a literal",
    "licences.wording.restrictions._ALONE": "one line of at most 200 bytes",
    "licences.wording.tags._TOKEN": "tried at one place, behind an SPDX tag",
    "licences.wording.tags._JOINS": "tried at one place, behind an expression",
    "licences.wording.tags._END": "tried at one place, behind an expression",
    "licences.names._STRONG": "the name of a file",
    "licences.names._JOINED": "the name of a file",
    "licences.names._WEAK": "the name of a file",
    "licences.names._PROSE": "the name of a file",
    "licences.names._SIDECAR": "the name of a file",
    "licences.names._ABOUT": "the path of a file",
    "steps.language._NOT_PROSE": "the sample of a text whose language is asked for",
    "steps.secrets._BARE_NAME": "a value of at most 8 KiB, as a whole",
    "text.disguise._MARGIN": "the 200 characters before a word",
}
SHORT = 4096


def rooms() -> Iterator[str]:
    """Yield the modules of the rooms."""
    for room in ROOMS:
        package = importlib.import_module(f"{corpus.__name__}.{room}")
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield module.name


def patterns_in(value: Any, depth: int = 4) -> Iterator[re.Pattern[Any]]:
    """Yield the patterns in a value, and in what it holds."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, dict):
        for item in (*value, *value.values()):
            yield from patterns_in(item, depth - 1)
    elif depth and isinstance(value, (tuple, list, frozenset, set)):
        for item in value:
            yield from patterns_in(item, depth - 1)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from patterns_in(getattr(value, field.name, None), depth - 1)


def all_patterns() -> dict[re.Pattern[Any], str]:
    """Return each pattern of the rooms, with where it stands."""
    found: dict[re.Pattern[Any], str] = {}
    for name in rooms():
        for attribute, value in vars(importlib.import_module(name)).items():
            for pattern in patterns_in(value):
                found.setdefault(pattern, f"{name.removeprefix(corpus.__name__ + '.')}.{attribute}")
    return found


def characters(tree: Any) -> Iterator[str]:
    """Yield a character or two of every class and literal of a parsed pattern."""
    for kind, value in tree:
        name = str(kind)
        if name == "LITERAL":
            yield chr(value)
        elif name == "NOT_LITERAL":
            yield "a" if value != ord("a") else "b"
        elif name == "IN":
            yield from _members(value)
        elif name == "ANY":
            yield "x"
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield from characters(value[2])
        elif name == "SUBPATTERN":
            yield from characters(value[3])
        elif name == "ATOMIC_GROUP":
            yield from characters(value)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from characters(value[1])
        elif name == "BRANCH":
            for branch in value[1]:
                yield from characters(branch)


def _members(items: list[tuple[Any, Any]]) -> Iterator[str]:
    if any(str(kind) == "NEGATE" for kind, _ in items):
        taken = {chr(value) for kind, value in items if str(kind) == "LITERAL"}
        yield next(c for c in "ax0 ~" if c not in taken)
        return
    for kind, value in items:
        name = str(kind)
        if name == "LITERAL":
            yield chr(value)
        elif name == "RANGE":
            yield chr(value[0])
        elif name == "CATEGORY":
            yield {"CATEGORY_DIGIT": "7", "CATEGORY_SPACE": " "}.get(str(value), "w")


def inputs(pattern: re.Pattern[Any]) -> Iterator[Any]:
    """Yield long runs: of each character, and of neighbours in the pattern."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    order = list(characters(parser.parse(source, pattern.flags & ~re.UNICODE & ~re.DEBUG | re.ASCII)))
    units = dict.fromkeys([*order, "".join(order)[:200], *map("".join, itertools.pairwise(order))])
    for unit in list(units)[:60]:
        text = (unit * (N_BYTES // len(unit) + 1))[:N_BYTES]
        # Behind the fixed bytes that a pattern begins with, too.
        for whole in dict.fromkeys((text, "".join(order)[:12] + text)):
            yield whole if isinstance(pattern.pattern, str) else whole.encode("latin-1", "replace")


class OverBudgetError(Exception):
    """Raised in a search that used up its processor time."""


@contextlib.contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Raise OverBudgetError behind so much processor time; `re` looks for signals as it goes."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise OverBudgetError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def is_slow(pattern: re.Pattern[Any], seconds: float, *, is_bounded: bool = False) -> bool:
    """Return whether a search through one of the inputs takes more than its budget."""
    for text in inputs(pattern):
        try:
            with budget(seconds):
                if is_bounded:
                    pattern.fullmatch(text[:SHORT])
                for _ in pattern.finditer(text[:SHORT] if is_bounded else text):
                    pass
        except OverBudgetError:
            return True
    return False


def test_the_patterns_of_every_room_are_found() -> None:
    found = all_patterns()
    names = {name.partition(".")[0] for name in found.values()}
    assert names == set(ROOMS)
    assert len(found) > 300
    assert set(BOUNDED) <= set(found.values())


@pytest.mark.parametrize("quadratic", [rb"a+b", rb"\s*\n\s*x", r"(\w+)\s*=", rb"x[a-z]*y"])
def test_a_quadratic_pattern_is_noticed(quadratic: Any) -> None:
    """Canary."""
    assert is_slow(re.compile(quadratic), 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_no_pattern_is_slow_on_long_runs(room: str) -> None:
    chosen = {p: name for p, name in all_patterns().items() if name.startswith(f"{room}.")}
    slow = [
        f"{name}: {pattern.pattern!r}"
        for pattern, name in chosen.items()
        if is_slow(pattern, BUDGET, is_bounded=name in BOUNDED)
    ]
    assert not slow, "\n".join(slow)


def test_marks_of_comments_are_what_they_were() -> None:
    """The pattern that was quadratic on a run of stars takes out the same."""
    plain = re.compile(notices._MARKS.pattern.replace(r"(?<!\*)", ""), notices._MARKS.flags)
    for text in ("/* a */", "***/ \n * b **/", "x ****\n", "*/*/ */", "a**/\n**/b", "/***/\n# c ***/\t"):
        assert notices._MARKS.sub("", text) == plain.sub("", text)


@given(st.text(st.sampled_from("a *#>-/}\t"), max_size=24))
def test_the_end_of_a_tag_is_what_it_was(text: str) -> None:
    """The pattern that was quadratic on a run of blanks takes out the same."""
    plain = re.compile(tags._END.pattern.replace(r"\s*+", r"\s*"))
    assert tags._TAIL.sub("", text).strip() == plain.sub("", text).strip()
    assert [bool(tags._END.fullmatch(text, i)) for i in range(len(text) + 1)] == [
        bool(plain.fullmatch(text, i)) for i in range(len(text) + 1)
    ]
