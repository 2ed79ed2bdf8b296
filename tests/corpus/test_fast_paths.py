"""What is found fast is what is found slowly: fences, functions and names of secrets against plain
patterns over all of a text.
"""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.corpus.licences import own
from sevenfold.corpus.steps import secrets
from sevenfold.corpus.text import disguise
from sevenfold.corpus.text.ngrams import RunHashes, ngram_hashes, word_hashes

FENCE = re.compile(
    r"^[ \t>]{0,12}(`{3,10}|~{3,10})[^\n]{0,200}\n(.*?)^[ \t>]{0,12}\1", re.MULTILINE | re.DOTALL
)
START = re.compile(
    r"(?:^|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029])[^\w\n"
    r"\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]*(?:async\W+)?def "
)
MARKS = [
    *("`" * n for n in range(1, 13)),
    *("~" * n for n in (2, 3, 4, 12)),
    "\n",
    "\n",
    "\n",
    "> ",
    "    ",
    "a",
]
INFO = [*MARKS, "b" * 199, "b" * 200, "b" * 201]


@given(st.lists(st.sampled_from(INFO), max_size=16).map("".join))
def test_fences_are_those_of_one_pattern(text: str) -> None:
    assert list(disguise.fences(text)) == [match[2] for match in FENCE.finditer(text)]


def test_a_shorter_mark_ends_a_block_where_no_longer_one_follows() -> None:
    text = "`````py\ninside\n```\nbehind\n~~~\nopen\n"
    assert list(disguise.fences(text)) == ["inside\n"] == [match[2] for match in FENCE.finditer(text)]


@given(
    st.lists(
        st.sampled_from(["def ", "async ", "\n", "\x0c", "\u2028", " ", ">", "a", "x" * 250]), max_size=12
    )
)
def test_what_may_define_a_function_is_never_missed(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert disguise.may_define(text) or not START.search(text)


def test_words_before_def_define_nothing() -> None:
    assert not disguise.may_define("typedef struct node; the def of it, undef x")
    assert disguise.may_define("x = 1\n>>> async def f(): pass")


NAMES = ["secret", "PASSWORD", "passwd", "token", "api_key", "auth-key", "pwd", "credential"]
VALUES = ["a1B2c3D4e5F6g7H8", "hunter2!Xy", '"', "'", "=", ": ", " ", "\n", ",", ".", "x", "q" * 150, "\xe9"]


@pytest.mark.parametrize("pattern", secrets.NAMED, ids=lambda p: p.kind)
@given(pieces=st.lists(st.sampled_from([*NAMES, *VALUES]), max_size=14))
def test_patterns_of_names_find_what_they_find_everywhere(
    pattern: secrets.Pattern, pieces: list[str]
) -> None:
    data = "".join(pieces).encode()
    windows = secrets._NAMES.windows(data, secrets._REACH)
    everywhere = [m.span("value") for low, high in windows for m in pattern.regex.finditer(data, low, high)]
    assert list(secrets._matches(pattern, data)) == everywhere


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30), st.integers(1, 5))
def test_runs_of_any_length_are_hashed_alike(letters: list[str], n: int) -> None:
    words = word_hashes(" ".join(letters).encode())
    firsts = np.arange(max(0, len(words) - n + 1))
    assert (RunHashes(words).hashes(firsts, firsts + n) == ngram_hashes(words, n)).all()


def test_a_kept_judgement_is_the_one_that_is_made() -> None:
    text = "# SPDX-License-Identifier: GPL-2.0-only\nx = 1\n"
    assert (
        own._remembered(text) == own._judged(text) == own._remembered(text) == own.licences_in(text.encode())
    )
