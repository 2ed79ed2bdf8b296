"""What is found fast is what is found slowly: fences, functions and names of secrets against plain
patterns over all of a text.
"""

import random
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.corpus import native
from sevenfold.corpus.licences.wording import own
from sevenfold.corpus.licences.wording.explained import Explained
from sevenfold.corpus.steps import secrets
from sevenfold.corpus.text import disguise, functions, grammars
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


def strings_one_by_one(text: str) -> list[str]:
    """What stands between three quotes, looked for at every character."""
    found, place = [], 0
    while place < len(text):
        mark = text[place : place + 3]
        end = text.find(mark, place + 3) if mark in (3 * '"', 3 * "'") else -1
        if end < 0:
            place += 1
        else:
            found.append(text[place + 3 : end])
            place = end + 3
    return found


@given(st.lists(st.sampled_from(['"', 2 * '"', 3 * '"', "'", 3 * "'", "a", "\n", "def f():"]), max_size=14))
def test_long_strings_are_those_of_every_character(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert list(disguise.long_strings(text)) == strings_one_by_one(text)


DOCTEST = re.compile(r"(?:>>>|\.\.\.) +(?:def|async|class|@)")


@given(
    st.lists(st.sampled_from([">>>", "...", " ", "  ", "def", "async", "class", "@", "x", "\n"]), max_size=12)
)
def test_doctests_that_define_are_never_missed(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = any(
        prompt in text and rule.search(text) for prompt, rule in disguise._DOCTEST_DEFINITIONS.items()
    )
    assert found == bool(DOCTEST.search(text))


@given(st.text(st.sampled_from("ab \n\u0301\u200b\u00e9\uff41\u0430\u2028\ufb01\u1100\u1161"), max_size=20))
def test_plain_characters_are_those_of_runs_with_the_one_before(text: str) -> None:
    runs = re.compile("[\x00-\x7f]?[^\x00-\x7f]+")
    assert disguise.plain(text) == runs.sub(lambda run: disguise._plain_run(run[0]), text)
    assert not any(unicodedata.combining(c) for c in disguise.plain(text))


@pytest.mark.skipif(native.library() is None, reason="native/corpus is not built")
@given(
    st.lists(
        st.sampled_from(
            ["v0", "v0", "v1", "v2", "v10", "v", "default_parameter", "=", ")", "1", "S", "list", "", "typed"]
        ),
        max_size=14,
    ),
    st.integers(0, 40),
)
def test_forms_of_a_function_are_those_of_python(pieces: list[str], n_more: int) -> None:
    names = [*pieces, *["x"] * n_more]
    parts = b"".join(len(name).to_bytes(8, "big") + name.encode() for name in names)
    reader = grammars.reader("python")
    assert reader is not None
    found = reader.as_functions(parts, functions.MIN_PARTS)
    assert set(found) == set(functions._as_functions(parts))
    assert functions._may_differ(parts) or not found


def test_a_function_has_a_form_without_receiver_and_defaults() -> None:
    """Canary: the forms are there, and differ."""
    reader = grammars.reader("python")
    names = ["v0", "default_parameter", "v1", "=", "1", ")", *["v1", "+"] * 30]
    parts = b"".join(len(name).to_bytes(8, "big") + name.encode() for name in names)
    assert len(set(functions._as_functions(parts))) == 3
    assert reader is None or len(reader.as_functions(parts, functions.MIN_PARTS)) == 3


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 30))
def test_stretches_are_runs_of_known_pairs(is_known: list[bool], least: int) -> None:
    words = Explained(b" ".join(b"w%d" % i for i in range(len(is_known) + 1)))
    # Pairs of neighbours, and what stands behind the last word.
    pairs = [*is_known, *[False] * (len(words) + 4 - len(is_known))]
    words._gaps_W = [0, *np.cumsum(~np.array(pairs)).tolist()]
    runs = [m.span() for m in re.finditer("1+", "".join("01"[known] for known in pairs))]
    expected = [(first, last) for first, last in runs if last - first + 1 >= least]
    if least > 1:
        assert words.stretches(least) == expected


NAMES = ["secret", "PASSWORD", "passwd", "token", "api_key", "auth-key", "pwd", "credential"]
VALUES = ["a1B2c3D4e5F6g7H8", "hunter2!Xy", '"', "'", "=", ": ", " ", "\n", ",", ".", "x", "q" * 150, "\xe9"]


@pytest.mark.parametrize("pattern", secrets.NAMED, ids=lambda p: p.kind)
@given(pieces=st.lists(st.sampled_from([*NAMES, *VALUES]), max_size=14))
def test_patterns_of_names_find_what_they_find_everywhere(
    pattern: secrets.Pattern, pieces: list[str]
) -> None:
    data = "".join(pieces).encode()
    everywhere = [m.span("value") for m in pattern.regex.finditer(data)]
    assert list(secrets._matches(pattern, data)) == everywhere


@pytest.mark.parametrize("n", [100, 159, 160, 161, 200, 201, 300, 1025, 8000])
@pytest.mark.parametrize(
    "text", ["token=%s\n", "x = 1\nmy_api_key: %s\n", 'secret := "%s"', "a <token>\n  %s\n</token>"]
)
def test_a_long_value_goes_whole(n: int, text: str) -> None:
    value = "".join(random.Random(n).choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=n))
    data = (text % value).encode()
    (found,) = secrets.find(data, secrets._SECRETS)
    assert data[found[0] : found[1]] == value.encode()


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
