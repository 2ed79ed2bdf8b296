"""What the corpus stage looks for in texts in C++ is found where Python, `re` and the
libraries find it, and nowhere else.
"""

from __future__ import annotations

import random
import re
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_runs import with_and_without_library
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_file_licences import CASES

from sevenfold.core.errors import SevenfoldError
from sevenfold.corpus import native
from sevenfold.corpus.licences.wording import notices, own, speech, tags, texts
from sevenfold.corpus.steps import language, secrets
from sevenfold.runs.job import Job

FORGET = (native.library, language._model, texts.find_texts, texts._library)
needs_library = pytest.mark.skipif(native.library() is None, reason="native/corpus is not built here")
EVERY_PATTERN = (*secrets.SECRETS, *secrets.PERSONAL)
SAMPLES = [path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-i]*.py"))]
ABC = st.text("aBc\n \t#*/-\"'`_\u00e9\u0130\u212a", max_size=80)


def without_library(patch: pytest.MonkeyPatch) -> None:
    for module in (native, language):
        patch.setattr(module, "library", lambda: None)


# The hints of patterns


@needs_library
@pytest.mark.parametrize("pattern", EVERY_PATTERN, ids=lambda pattern: pattern.kind)
@given(data=st.data(), before=st.binary(max_size=70), after=st.binary(max_size=70))
@settings(max_examples=100, deadline=None)
def test_a_pattern_without_its_hints_and_needles_cannot_match(
    pattern: secrets.Pattern, data: Any, before: bytes, after: bytes
) -> None:
    context = data.draw(st.from_regex(pattern.before)) if pattern.before else b""
    # The generator of matches knows nothing of what is asked of a match's neighbours;
    # those here leave it alone.
    alone = re.compile(re.sub(rb"\(\?<?[=!](?:[^()\[]|\[[^]]*\])*\)", b"", pattern.regex.pattern))
    text = before + b" " + context + data.draw(st.from_regex(alone, fullmatch=True)) + b" " + after
    found = [
        match
        for match in pattern.regex.finditer(text)
        if not pattern.before or pattern.before.search(text[max(0, match.start() - 64) : match.start()])
    ]
    assume(found)
    assert secrets._likely.of(text, (pattern,)) == [pattern]


@needs_library
@given(
    st.lists(
        st.sampled_from((*"0459 -=:\"'DEFRaz\n.+@%", "4111 1111", "DE44 5001", "abcdefghij" * 2)), max_size=60
    )
)
@settings(max_examples=500, deadline=None)
def test_hints_are_in_pieces_of_all_kinds(pieces: list[str]) -> None:
    text = "".join(pieces).encode()
    for pattern in EVERY_PATTERN:
        if pattern.hints and pattern.regex.search(text):
            assert pattern.hints & native.hints(text)


@needs_library
@pytest.mark.parametrize("n", [0, 1, 40, 44, 63, 64, 65, 127, 200])
def test_hints_are_found_across_blocks_and_only_where_they_are(n: int) -> None:
    space = b"." * n
    for hint, yes, no in (
        (native.CARD, b" 4111-1111-1111-1111", b" 4111-1111 1111-1111 3111111111111111 411111111111111"),
        (native.ACCOUNT, b"XX89 3704 0044 0532", b"X89 3704 0044 0532 XX8 XX89 3704 0044 053x"),
        (
            native.ASSIGNED_KEY,
            b"= '" + b"ab1=/" * 4 + b'"',
            b"('" + b"ab1=/" * 4 + b"') ='" + b"a" * 19 + b"'",
        ),
        (native.ADDRESS, b"%@", b" @a"),
        (native.PLUS_DIGIT, b"+1", b"+a 1+"),
    ):
        assert native.hints(space + yes + space) == hint
        assert native.hints(space + no + space) == 0


# Needles


@needs_library
@given(
    st.lists(
        st.sampled_from(("licen", "LICEN", "gpl", "gp", "spdx-", "Permission", "x", " ", "\u00e9")),
        max_size=30,
    ),
    st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_needles_are_found_as_by_python(pieces: list[str], reach: int) -> None:
    text, needles = "".join(pieces).encode(), own.HINTS
    found = needles.bits(text), needles.windows(text, reach)
    with pytest.MonkeyPatch.context() as patch:
        without_library(patch)
        assert found == (needles.bits(text), needles.windows(text, reach))


@needs_library
@given(st.lists(st.integers(0, 199), max_size=30), st.integers(1, 200))
def test_more_needles_than_a_word_has_bits_are_found(numbers: list[int], n: int) -> None:
    needles = native.PatternSearch(b"%03d" % i for i in range(n))
    text = b" ".join(b"%03d" % i for i in numbers)
    assert needles.bits(text) == sum(1 << i for i in range(n) if b"%03d" % i in text)


@needs_library
@pytest.mark.parametrize("needles", [(b"ab",), tuple(b"%04d" % i for i in range(4097))])
def test_needles_that_cannot_be_looked_for_are_refused(needles: tuple[bytes, ...]) -> None:
    with pytest.raises(SevenfoldError, match="strings of another kind"):
        native.PatternSearch(needles).bits(b"text")


# Lines


@needs_library
@given(st.text("ab\n", max_size=60).map(str.encode) | st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_distinct_lines_are_those_of_a_set(text: bytes) -> None:
    assert native.distinct_lines(text) == sum(map(len, set(text.split(b"\n"))))


# Licences


@pytest.mark.parametrize("notice", notices.NOTICES, ids=lambda notice: notice.pattern.pattern[:40])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_notice_without_its_words_cannot_match(notice: notices.Notice, data: Any) -> None:
    # What a lookahead forbids is checked by the pattern itself.
    text = data.draw(st.from_regex(notice.pattern))
    assume(notice.pattern.search(text))
    assert any(word.decode() in text for word in notice.words)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_gnu_family_and_tags_have_their_words(data: Any) -> None:
    for pattern in (notices._GNU, notices._GNU_TITLE):
        text = data.draw(st.from_regex(pattern))
        assert any(word.decode() in text for word in notices._GNU_WORDS)
    tag = data.draw(st.from_regex(tags._SPDX))
    assert any(word in tag.lower() for word in tags.TAG_WORDS)
    pattern, literals, _ = data.draw(st.sampled_from(tags._FIELDS))
    field = data.draw(st.from_regex(pattern))
    assert any(literal in field.lower() for literal in literals)


@needs_library
def test_licences_of_files_are_the_same_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [own.licences_in(data) for _, data, _ in CASES]
    without_library(monkeypatch)
    assert [own.licences_in(data) for _, data, _ in CASES] == found


@pytest.mark.parametrize("phrase", speech._PHRASES["phrase"], ids=lambda phrase: phrase["literals"][0])
@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_phrases_hold_their_literals(phrase: dict[str, Any], data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(phrase["patterns"])).encode()
    text = data.draw(st.from_regex(re.compile(pattern)))
    assert any(literal.encode() in text for literal in phrase["literals"])


@needs_library
@given(
    st.lists(
        st.sampled_from(
            (
                *'#/*;%-|>. \t\n"`_', "//", "/*", "*/", "*/ \n", "--", "dnl", "rem", "REM", "remx", "\r\n",
                "\x1c", "\x0b", "Abc", "\u00e9", "\u0130",
            )
        ),
        max_size=20,
    ).map("".join)
    | ABC
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_plain_text_is_that_of_the_patterns(text: str) -> None:
    assert notices.normalise(text) == notices.normalised_by_regex(text)


@needs_library
def test_plain_text_of_real_files_is_that_of_the_patterns() -> None:
    for sample in SAMPLES:
        text = sample.decode("utf-8", "replace")
        assert notices.normalise(text) == notices.normalised_by_regex(text)


def spelled_grams(text: str) -> set[str]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {" ".join(words[i : i + 6]) for i in range(len(words) - 5)}


FEW_WORDS = st.lists(
    st.sampled_from(("a", "b", "C", "1", "_", "-", "\u00e9", "\u212a", " ", "\n")), max_size=40
).map("".join)


@given(FEW_WORDS, FEW_WORDS)
@settings(max_examples=300, deadline=None)
def test_texts_share_hashes_where_they_share_grams(one: str, other: str) -> None:
    # Grams have other hashes than one another, in one text and in two.
    hashes, grams = (
        (set(texts.grams(one)), set(texts.grams(other))),
        (spelled_grams(one), spelled_grams(other)),
    )
    assert [len(found) for found in hashes] == [len(found) for found in grams]
    assert len(hashes[0] & hashes[1]) == len(grams[0] & grams[1])


def test_a_gram_has_its_hash_wherever_it_stands() -> None:
    one = "permission is hereby granted free of charge"
    hashes = set(texts.grams(f"Copyright Somebody: {one}, to any person obtaining a copy"))
    assert len(texts.grams(one)) == 2
    assert set(texts.grams(one)) <= hashes
    changed = set(texts.grams("permission is hereby granted free of fees"))
    assert len(changed & hashes) == 1


def test_licences_of_the_library_are_found_in_their_own_texts() -> None:
    from identify.vendor.licenses import LICENSES

    known = texts._library()
    assert len(known.grams_K) == len({gram for _, text in LICENSES for gram in spelled_grams(_blank(text))})
    for (name, text), size in zip(LICENSES, known.sizes, strict=True):
        assert size == len(spelled_grams(_blank(text)))
        assert name in {spdx.removesuffix("-only") for spdx in texts.find_texts(text)}
    assert texts.find_texts(LICENSES[0][1][: len(LICENSES[0][1]) // 2]) == ()


def _blank(text: str) -> str:
    return re.sub(r"\[[a-z ]+\]|copyright \(c\)", " ", text.lower())


# Language


@needs_library
def test_the_language_is_that_of_the_library() -> None:
    from py3langid import langid

    model, rng, spoken = language._model(), random.Random(5), set()
    assert isinstance(model, langid.LanguageIdentifier)
    greetings = [
        "Der schnelle braune Fuchs springt \u00fcber den faulen Hund.",
        "\u0411\u044b\u0441\u0442\u0440\u0430\u044f \u043b\u0438\u0441\u0430 \u0438 "
        "\u0441\u043e\u0431\u0430\u043a\u0430",
        "\u6211\u4eec\u5728\u8fd9\u91cc\u5b66\u4e60\u8bed\u8a00",
        "Le vif renard brun saute par-dessus le chien paresseux.", "LOUD TEXT", "e\u0301", "", " ", "\x00",
        "\ud800",
    ]  # fmt: skip
    for sample in SAMPLES:
        start = rng.randrange(len(sample))
        greetings.append(sample[start : start + rng.choice((1, 9, 99, 999, 5000))].decode("utf-8", "ignore"))
    for text in greetings:
        assert model.classify(text) == langid.classify(text)
        spoken.add(model.classify(text)[0])
    assert {"de", "en", "ru", "zh", "fr"} <= spoken


@needs_library
@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_visits_are_those_of_the_library(text: bytes) -> None:
    from py3langid import langid

    model, fast = language._model(), native.library()
    assert fast is not None
    features, counts = _automaton(model).visits(fast, text)
    expected = langid.visit_counts(model.tk_nextmove, model._rowbase, model.tk_output, text) or {}
    assert dict(zip(features.tolist(), counts.tolist(), strict=True)) == dict(expected)
    assert features.tolist() == list(expected)


_automata: dict[int, native.Automaton] = {}


def _automaton(model: Any) -> native.Automaton:
    if id(model) not in _automata:
        _automata[id(model)] = native.Automaton(model.tk_nextmove, model.tk_row, model.tk_output)
    return _automata[id(model)]


@pytest.mark.parametrize(("next_", "rows"), [([2] * 512, [0, 1]), ([1] * 512, [0, 2]), ([0] * 511, [0, 1])])
def test_an_automaton_that_leads_out_of_itself_is_refused(next_: list[int], rows: list[int]) -> None:
    with pytest.raises(SevenfoldError, match="leads out of itself"):
        native.Automaton(np.array(next_), np.array(rows), np.array([-1, 3]))


# All together

ENGLISH = (
    "The quick brown fox jumps over the lazy dog, and nobody who lives in this old house has ever asked it"
    " why. "
)
GERMAN = (
    "Der schnelle braune Fuchs springt am Morgen \u00fcber den faulen Hund, und niemand im alten Haus fragt"
    " ihn, warum. "
)
MIT_HEADER = (
    "# Permission is hereby granted, free of charge, to any person obtaining a copy of this software and\n"
    "# associated documentation files. \u00a9 Jos\u00e9\n"
)
FILES = {
    "english.md": ENGLISH * 4 + "Write to jane.doe@corp.io or call +49 30 1234 5678 now.\n",
    "german.md": GERMAN * 4,
    "keys.py": 'aws = "AKIA' + "ABCDEFGH" * 2 + '"\npassword = "a1b2c3d4e5f6g7h8i9j0k1l2"\n',
    "people.py": (
        "# 4012 8888 8888 1881, DE89 3704 0044 0532 0130 00, SSN 123-45-6789\n"
        + "print('a customer', 'and an account')\n" * 5
    ),
    "mit.py": MIT_HEADER + "print(1)\n",
    "gpl.py": "# Licensed under the GNU General Public License, version 2 or later.\nprint(2)\n",
    "tagged.c": "/* SPDX-License-Identifier: MIT */\nint x;\n",
    "made.py": "# Auto-generated by a program. DO NOT EDIT\nprint(3)\n",
    "control.txt": ENGLISH + "\x07",
    "again.py": "x = f(a, b)\ny = g(a, b)\n" * 40,
}


def test_the_same_root_without_the_library(
    tmp_path: Path, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    for name, text in FILES.items():
        (tmp_path / "a" / name).write_text(text)
    for number, sample in enumerate(SAMPLES[:40]):
        (tmp_path / "a" / f"f{number}.py").write_bytes(sample)
    steps = {
        "drop": ["generated", "minified"], "lines": {}, "prose_languages": ["en"], "quality": True,
        "secrets": "redact",
        "personal": "redact", "near_duplicates": {}, "split": "cluster",
    }  # fmt: skip
    source = {"kind": "directory", "path": "a", "licence": "PSF-2.0", "include": ["**/*"]}
    said = with_and_without_library(lambda out: make_job([source], out=out, steps=steps), FORGET, monkeypatch)
    assert said[0] == said[1]
    found = {finding["kind"] for finding in said[0][1]["findings"]}
    assert {
        "aws_key",
        "assigned_secret",
        "email",
        "phone",
        "card",
        "iban",
        "us_social_security",
        "prose",
    } <= found
    reasons = set(said[0][1]["dropped"])
    assert {
        "licence_not_allowed",
        "generated",
        "forbidden_control",
        "language_not_wanted",
        "low_quality_code",
    } <= reasons
