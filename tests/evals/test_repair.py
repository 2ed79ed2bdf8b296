"""Rounds of repair: what is said of a failure, which patches are taken, and what they are worth."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sevenfold.evals.decoding.decoder import Answer
from sevenfold.evals.guidance.repair import Mending, patched, program_of, repaired, run_shown, shown_pairs
from sevenfold.evals.tasks.cards import Item, cards

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
HEAD = 'def f(x):\n    """Add one.\n\n    >>> f(1)\n    2\n    """\n'
TARGET = {
    "prompt": HEAD,
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(5) == 6\n",
}
ITEM = Item(id="a", prompt=HEAD, target=TARGET)
WRONG, RIGHT = "    return x\n", "    return x + 1\n"


def diff(old: str, new: str) -> str:
    import difflib

    lines = difflib.unified_diff(
        (HEAD + old).splitlines(keepends=True), (HEAD + new).splitlines(keepends=True), "a.py", "b.py"
    )
    return "```diff\n" + "".join(lines) + "```\n"


def test_the_tests_of_a_prompt_are_pairs() -> None:
    assert shown_pairs(ITEM) == [("f(1)", "2")]
    target = {"tests": ["assert g([1, 2]) == 3", "assert g([])"], "functions": ["g"], "setup": ""}
    prompt = '"""\nSum.\nassert g([1, 2]) == 3\nassert g([])\n"""\n'
    assert shown_pairs(Item(id="m", prompt=prompt, target=target)) == [("g([1, 2])", "3")]


@needs_bubblewrap
@pytest.mark.parametrize(
    ("answer", "said", "name"),
    [
        (WRONG, "`f(1)` returns 1, expected 2.", "wrong value"),
        ("    return y\n", "`f(1)` raises NameError, expected 2.", "name"),
        ("    return (\n", "It does not run: import: SyntaxError.", "syntax"),
    ],
)
def test_what_is_said_of_a_failure(answer: str, said: str, name: str) -> None:
    one = Mending(item=ITEM, program=program_of(ITEM, answer), tests=shown_pairs(ITEM))
    assert not run_shown(one)
    assert (one.said, one.classes) == (said, [name])


@needs_bubblewrap
def test_a_program_that_passes_has_no_failure() -> None:
    one = Mending(item=ITEM, program=program_of(ITEM, RIGHT), tests=shown_pairs(ITEM))
    assert run_shown(one)
    assert one.classes == []


def test_a_patch_is_taken_only_where_it_applies() -> None:
    assert patched(HEAD + WRONG, diff(WRONG, RIGHT)) == HEAD + RIGHT
    assert patched(HEAD + RIGHT, diff(WRONG, RIGHT)) is None
    assert patched(HEAD + WRONG, RIGHT) is None
    assert patched(HEAD + WRONG, "```diff\n--- a\n```") is None


class Scripted:
    """A decoder whose answers are given; an id is a character."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers, self.prompts = list(answers), []
        self.tokenizer, self.model = self, self
        self.context = 10_000

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def generate(self, items: Sequence[Item], *_: object) -> Iterator[tuple[Item, list[Answer]]]:
        for item in items:
            self.prompts.append(item.prompt)
            yield item, [Answer(ids=tuple(self.encode(self.answers.pop(0))), ended="end")]


def rounds(answers: Sequence[str], n: int, first: str = WRONG) -> tuple[dict[str, Any], Any, Scripted]:
    decoder: Any = Scripted(answers)
    verdicts = {"a": [[first, "pass" if first == RIGHT else "fail", ""]]}
    facts, score = repaired(decoder, cards()["humaneval"], [ITEM], verdicts, "completion", n)
    return facts, score, decoder


@needs_bubblewrap
def test_a_patch_mends_a_first_failure() -> None:
    facts, score, decoder = rounds([diff(WRONG, RIGHT)], 2)
    assert (score["value"], score["rounds"], score["first_failures_mended"]) == (1.0, 1, "1/1")
    assert facts["a"]["program"] == HEAD + RIGHT
    assert "`f(1)` returns 1, expected 2." in decoder.prompts[0]
    # The hidden tests are never shown.
    assert "f(5)" not in decoder.prompts[0]


@needs_bubblewrap
def test_a_second_round_sees_the_patched_program() -> None:
    worse = "    return x + 3\n"
    _, score, decoder = rounds([diff(WRONG, worse), diff(worse, RIGHT)], 2)
    assert (score["value"], score["rounds"]) == (1.0, 2)
    assert worse in decoder.prompts[1]
    assert "returns 4, expected 2" in decoder.prompts[1]


@needs_bubblewrap
def test_a_patch_for_the_shown_test_alone_does_not_pass() -> None:
    facts, score, _ = rounds([diff(WRONG, "    return 2\n")], 1)
    assert (score["value"], score["first_failures_mended"]) == (0.0, "0/1")
    assert facts["a"]["failures"] == ["wrong value"]


@needs_bubblewrap
def test_no_patch_leaves_the_program_and_the_verdict() -> None:
    facts, score, _ = rounds(["no patch", "none"], 2)
    assert (score["value"], score["rounds"]) == (0.0, 2)
    assert facts["a"]["failures"] == ["wrong value", "diff", "diff"]
    assert facts["a"]["program"] == HEAD + WRONG


@needs_bubblewrap
def test_what_passes_is_not_touched() -> None:
    facts, score, decoder = rounds([], 2, first=RIGHT)
    assert (score["value"], score["rounds"], facts) == (1.0, 0, {})
    assert decoder.prompts == []
