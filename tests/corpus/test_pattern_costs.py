"""No pattern of the corpus takes more than its text's length asks: each is tried on long runs of what
it is made of.

A run of one class is what makes a pattern quadratic: `a+b` looks at all of the rest from every
place. Growth is measured, not time: a text of four times the length takes a linear pattern four
times as long and a quadratic one sixteen, however fast the machine is. `pattern_finder` finds the
patterns, so a new one is tried without being listed.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from re import _parser as parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pattern_finder import Found, all_found

from sevenfold.corpus.licences.declared.metadata import UNKNOWN, declared_by
from sevenfold.corpus.licences.wording import notices, tags

# Characters of a text, and of one that is GROWN times as long.
N, GROWN = 16_000, 4
# Between what a linear pattern takes of the longer text (4 times) and a quadratic one (16 times).
LIMIT = 9.0
# Seconds of processor time below which a search is not measured, and at which it is stopped.
LEAST, MOST = 0.03, 6.0
# Tried on texts of bounded length: tried here on `SHORT` characters. Name -> what bounds it.
BOUNDED = {
    "licences.wording.licence_text._TEMPLATE": "a licence's template, read whole",
    "licences.declared.fields._joined": "a field of at most 200 characters",
    "licences.wording.notices._VERSION": "tried at one place, behind the name of a licence",
    "licences.wording.speech._TABLE": "160 bytes on both sides of a literal",
    "licences.wording.restrictions._TABLE": "160 bytes on both sides of a literal",
    "licences.wording.restrictions._ALONE": "one line of at most 200 bytes",
    "licences.wording.tags._field": "words with one blank between two",
    "licences.wording.tags._TOKEN": "tried at one place, behind an SPDX tag",
    "licences.wording.tags._JOINS": "tried at one place, behind an expression",
    "licences.wording.tags._END": "tried at one place, behind an expression",
    "licences.names._STRONG": "the name of a file",
    "licences.names._JOINED": "the name of a file",
    "licences.names._WEAK": "the name of a file",
    "licences.names._PROSE": "the name of a file",
    "licences.names._SIDECAR": "the name of a file",
    "licences.names._ABOUT": "the path of a file",
    "fetch.grammar.NAMES": "the name of a package in a lock, as a whole",
    "fetch.grammar.VERSIONS": "a version in a lock, as a whole",
    "fetch.grammar._WHEEL": "the name of a file in a lock, as a whole",
    "steps.language._NOT_PROSE": "the sample of a text whose language is asked for",
    "steps.secrets._BARE_NAME": "a value of at most 8 KiB, as a whole",
    "text.disguise._MARGIN": "the 200 characters before a word",
}
SHORT = 4096
# Functions whose patterns are known only when they run, and why that is enough.
UNTOLD = {
    "fetch.registries.source_version": "a digest and a name, escaped, at the start of a line",
    "licences.declared.distributions._where": "held by READERS, and found there",
    "licences.wording.notices._notices": "held by the tables of the module, and found there",
    "licences.path_patterns.__init__": "a glob of a file, with few stars; others are matched by `ends`",
    "licences.path_patterns.ends": "a class of one character, at one place",
    "licences.wording.speech.of": "held by the tables of the module, and found there",
    "native.__init__": "words, escaped",
    "steps.secrets._issued": "held by the tables of the module, and found there",
}


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


@cache
def units(pattern: re.Pattern[Any]) -> tuple[tuple[str, str], ...]:
    """Return (beginning, unit) of long runs: of each character, and of neighbours in the pattern;
    also behind the characters that the pattern begins with.
    """
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    order = list(characters(parser.parse(source, pattern.flags & ~re.UNICODE & ~re.DEBUG | re.ASCII)))
    found = dict.fromkeys([*order, "".join(order)[:200], *map("".join, itertools.pairwise(order))])
    beginnings = dict.fromkeys(("", "".join(order)[:12]))
    return tuple((beginning, unit) for unit in list(found)[:60] if unit for beginning in beginnings)


def text_of(pattern: re.Pattern[Any], beginning: str, unit: str, n: int) -> Any:
    """Return a run of a unit, as the pattern takes it."""
    text = beginning + (unit * (n // len(unit) + 1))[:n]
    return text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")


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


def cost(search: Callable[[Any], object], text: Any, n_times: int = 1) -> float:
    """Return the processor time of a search, the least of some."""
    times = []
    for _ in range(n_times):
        began = time.process_time()
        search(text)
        times.append(time.process_time() - began)
    return min(times)


def is_slow(found: Found) -> bool:
    """Return whether a search grows faster than its text, by one of the runs."""
    pattern, is_bounded = found.pattern, found.name in BOUNDED
    n = SHORT if is_bounded else N

    def search(text: Any) -> None:
        pattern.match(text)
        pattern.fullmatch(text)
        if not found.is_anchored:
            for _ in pattern.finditer(text):
                pass

    for beginning, unit in units(pattern):
        text = text_of(pattern, beginning, unit, n)
        try:
            with budget(MOST):
                if cost(search, text) < LEAST or is_bounded:
                    continue
                longer = text_of(pattern, beginning, unit, n * GROWN)
                if cost(search, longer, 2) > LIMIT * cost(search, text, 2):
                    return True
        except OverBudgetError:
            return True
    return False


def test_the_patterns_of_the_corpus_are_found() -> None:
    found, untold = all_found()
    names = {each.name for each in found}
    assert {name.partition(".")[0] for name in names} >= {"archives", "fetch", "licences", "sources", "steps"}
    assert len(found) > 550
    # In a table, in the closure of a reader, and in a call.
    assert names >= {
        "steps.secrets._ISSUED",
        "licences.declared.ecosystems.READERS",
        "licences.declared.ecosystems._r",
    }
    assert set(BOUNDED) <= names
    assert untold == set(UNTOLD)


@pytest.mark.parametrize("quadratic", [rb"a+b", rb"\s*\n\s*x", r"(\w+)\s*=", rb"x[a-z]*y"])
def test_a_quadratic_pattern_is_noticed(quadratic: Any) -> None:
    """Canary."""
    assert is_slow(Found(re.compile(quadratic), "canary"))


def test_a_linear_pattern_is_not_called_slow() -> None:
    assert not is_slow(Found(re.compile(r"(?<!a)a+b|[^\n]+"), "canary"))


@pytest.mark.slow
@pytest.mark.parametrize("room", ["archives", "document", "fetch", "licences", "sources", "steps", "text"])
def test_no_pattern_is_slow_on_long_runs(room: str) -> None:
    chosen = [each for each in all_found()[0] if each.name.partition(".")[0] == room]
    assert chosen
    slow = [f"{each.name}: {each.pattern.pattern!r}" for each in chosen if is_slow(each)]
    assert not slow, "\n".join(slow)


def test_every_room_is_searched() -> None:
    rooms = {each.name.partition(".")[0] for each in all_found()[0]}
    assert rooms == {"archives", "document", "fetch", "licences", "sources", "steps", "text"}


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


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (r"(?<!\s)\s++#.*", r"\s+#.*"),
        (r"(?<!\s)\s*+[|+]\s*file\s+\S+", r"\s*[|+]\s*file\s+\S+"),
        (r"(?m)^[^\S\n]*licenses\s*\(\s*\[([^\]]{0,400})\]", r"(?m)^\s*licenses\s*\(\s*\[([^\]]{0,400})\]"),
    ],
)
@given(st.lists(st.sampled_from([" ", "\n", "\t", "#", "|", "+", "file", "a", "licenses", "(", "[", "]"])))
def test_what_became_linear_finds_what_it_found(now: str, before: str, parts: list[str]) -> None:
    text = "".join(parts)
    if "licenses" in now:
        assert re.findall(now, text) == re.findall(before, text)
    else:
        assert re.sub(now, "", text) == re.sub(before, "", text)


@pytest.mark.parametrize("end", ["", "\\", '"', "*/", "/* x", '"x'])
def test_json_with_what_does_not_end_is_read_once(end: str) -> None:
    for unit in ('"\\', "/*", '"/*', "//"):
        found = declared_by("deno.jsonc", ('{"license": "MIT"} ' + unit * 100_000 + end).encode())
        assert [said.expression for said in found.said] in ([UNKNOWN.expression], ["MIT"])
