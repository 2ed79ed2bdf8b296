"""What is looked for only where it can stand is found as where it is looked for everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.corpus import native
from sevenfold.corpus.licences.wording import explained, restrictions, speech, tags
from sevenfold.corpus.steps import secrets
from sevenfold.corpus.text import disguise, ngrams

ROWS = [row for rows in (speech._PHRASES, restrictions._ROWS) for row in rows["phrase"] if "needs" in row]
TABLES = (speech._TABLE, restrictions._TABLE)
# Any character, in a state of `without_a_need`.
ANY = "\0"
MANY = 6


def without_a_need(parsed: Iterable[Any], states: set[str], needs: list[str]) -> set[str]:
    """Return how the texts may end that a pattern matches and in which no need stands, after texts
    that end as `states` say.
    """

    def more(states: set[str], characters: Iterable[str]) -> set[str]:
        ends = {state + character for state in states for character in characters}
        longest = max(map(len, needs))
        return {end[-longest:] for end in ends if not any(end.endswith(need) for need in needs)}

    for op, value in parsed:
        if op is opcodes.LITERAL:
            states = more(states, [chr(value)])
        elif op is opcodes.IN:
            plain = [chr(v) for kind, v in value if kind is opcodes.LITERAL]
            states = more(states, plain if len(plain) == len(value) <= MANY else [ANY])
        elif op in (opcodes.ANY, opcodes.NOT_LITERAL, opcodes.CATEGORY):
            states = more(states, [ANY])
        elif op is opcodes.BRANCH:
            states = set().union(*(without_a_need(branch, states, needs) for branch in value[1]))
        elif op is opcodes.SUBPATTERN:
            states = without_a_need(value[3], states, needs)
        elif op in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT):
            least, most, inner = value
            reached, seen = states, set(states) if least == 0 else set()
            for n in range(1, min(int(most), MANY) + 1):
                reached = without_a_need(inner, reached, needs)
                seen |= reached if n >= least else set()
            states = seen | ({ANY} if reached and int(most) > MANY else set())
        else:
            assert op in (opcodes.AT, opcodes.ASSERT, opcodes.ASSERT_NOT), op
    return states


def may_lack_its_needs(pattern: str, needs: list[str]) -> bool:
    return bool(without_a_need(parser.parse(pattern), {""}, needs))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['level']} {row['literals'][0]}")
def test_every_match_of_a_pattern_has_one_of_its_needs(row: dict[str, Any]) -> None:
    assert not [pattern for pattern in row["patterns"] if may_lack_its_needs(pattern, row["needs"])]
    # Without one of them, or with one that no text has, the proof fails.
    assert any(
        may_lack_its_needs(pattern, [*row["needs"][:i], *row["needs"][i + 1 :], "zzz"])
        for pattern in row["patterns"]
        for i in range(len(row["needs"]))
    )


WORDS = sorted(
    {
        word
        for row in ROWS
        for text in (*row["needs"], *row["literals"])
        for word in text.split()
        if word.isalpha()
    }
    | {"you", "may", "only", "be", "used", "for", "the", "software", "this", "code", "in", "of", "any"}
)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_phrases_are_those_that_are_tried_in_every_text(text: str) -> None:
    words = text.encode()
    for table in TABLES:
        always = {k: tuple((level, speech._ANY, p) for level, _, p in v) for k, v in table.patterns.items()}
        for answer in (False, True):
            found = table.find(words, lambda _, answer=answer: answer)  # type: ignore[misc]
            assert found == replace(table, patterns=always).find(words, lambda _, a=answer: a)  # type: ignore[misc]


FIELD_PIECES = (
    *("license", "Licence", "licenses", "LIZENZ", "copying policy", "@license", "\\licence", "@copyright"),
    *("MODULE_LICENSE", "__license__", "<license>", "</", "<name>", "\n", "\n# ", "\r\n", " ", "*", '"', "'"),
    *(":", "=", "=>", "(", ")", "[", "MIT", "GPL", "gnu ", "x", "\u0131", "\u017f", "\u0130"),
)


@given(st.lists(st.sampled_from(FIELD_PIECES), max_size=30).map("".join))
@settings(max_examples=600, deadline=None)
def test_fields_are_those_of_patterns_over_all_of_a_text(text: str) -> None:
    for pattern, literals, reach in tags._FIELDS:
        if any(literal in text.lower() for literal in literals):
            found = [m.span() for m in tags.matches(pattern, text, text.lower(), literals, reach)]
            assert found == [match.span() for match in pattern.finditer(text)]


NAMES = (
    *("password", "Passwd", "passphrase", "secret", "TOKEN", "api_key", "api", "key", "pwd", "pw", "pass"),
    *("identified", " by ", "authorization", "Bearer ", "--", "-", ":", "=", " ", '"', "'", ",", "\n", ">"),
    *("a1B2c3D4e5F6g7H8", "Tr0ub4dor&3x", "</", "client", "_", "access"),
)


@given(st.lists(st.sampled_from(NAMES), max_size=25).map("".join))
@settings(max_examples=500, deadline=None)
def test_named_secrets_are_found_where_every_place_is_tried(text: str) -> None:
    data = text.encode()
    for pattern in secrets.NAMED:
        found = [match.span() for match in secrets._raw_matches(pattern, data)]
        expected, behind = [], 0
        for first, last in secrets._names(data, 1):
            for place in range(first, last):
                if place >= behind and (match := pattern.regex.match(data, place)):
                    expected.append(match.span())
                    behind = match.end()
        assert found == expected


STRINGS = ('"""', "'''", '"', "'", "def ", "DEF ", "\n", "x", "    ", "\u00e9")


@given(st.lists(st.sampled_from(STRINGS), max_size=25).map("".join))
@settings(max_examples=600, deadline=None)
def test_strings_with_definitions_are_those_of_all_strings(text: str) -> None:
    expected = [piece for piece in disguise.long_strings(text) if "def " in piece]
    assert disguise.defining_strings(text) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        assert disguise.defining_strings(text) == expected


needs_library = pytest.mark.skipif(native.library() is None, reason="native/corpus is not built here")
PIECES = ("lic", "LICEN", "licence", "gnu", "gpl", "xgplx", " ", "\u00e9", "a" * 15, "b" * 16, "c" * 17)


@needs_library
@given(
    st.lists(st.sampled_from(("gpl", "gnu", "licen", "icen", "lic", "cence", "\u00e9\u00e9", "aaa", "bc ")),
        min_size=1, unique=True),
    st.lists(st.sampled_from(PIECES), max_size=20).map("".join),
    st.integers(1, 9),
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_strings_stand_where_python_finds_them(needles: list[str], text: str, reach: int) -> None:
    search, data = native.PatternSearch(needle.encode() for needle in needles), text.encode()
    found = search.bits(data), sorted(search.places(data))
    places = [place for _, place in search.places(data)]
    assert places == sorted(places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        assert found == (search.bits(data), sorted(search.places(data)))
        assert [place for _, place in search.places(data)] == places
    assert search.windows(data, reach) or not found[0]


@needs_library
def test_all_needles_of_the_product_are_found_at_every_distance_from_a_block() -> None:
    for search in (secrets._NEEDLES, restrictions._HINTS, speech._TABLE.literals, speech._TABLE.needs):
        for number, needle in enumerate(search.all):
            for n in (0, 1, 13, 14, 15, 16, 17):
                data = b"~" * n + needle.upper() + b"~" * (20 - n)
                assert (number, n) in search.places(data)
                assert search.bits(data) >> number & 1


@needs_library
@given(st.lists(st.integers(0, 12), max_size=60), st.lists(st.integers(0, 12), max_size=60))
def test_hashes_are_counted_and_found_as_in_numpy(some: list[int], others: list[int]) -> None:
    hashes = np.array(some, np.uint64) << np.uint64(60)
    assert ngrams.n_different(hashes) == len(set(some))
    if others:
        held = ngrams.Sorted(np.sort(np.array(others, np.uint64) << np.uint64(60)))
        found = [array.tolist() for array in held.find(hashes)]
        assert found == [array.tolist() for array in held._find_in_numpy(hashes)]


@needs_library
@given(st.text("aZ0_-. \n\u00e9\u0130\t", max_size=40))
def test_plain_words_are_those_of_python(text: str) -> None:
    lowered = text.lower().encode()
    assert explained.plain_words(text) == explained.plain_words_in_python(lowered)


@needs_library
@pytest.mark.parametrize("n_words", [0, 1, 12, 13, 20, 28, 29, 30, 200])
def test_likely_runs_are_all_that_the_tables_mark(n_words: int) -> None:
    words = np.arange(n_words, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    runs = ngrams.ngram_hashes(words, 13)
    known = ngrams.Filter(runs[::2])
    likely = known.likely(words, 13).tolist()
    assert set(runs[::2].tolist()) <= set(likely) <= set(runs.tolist())
    assert likely == ngrams.unique(known._likely_in_numpy(runs)).tolist()
