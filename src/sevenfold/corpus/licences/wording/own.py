"""Find the licence that a file states about itself: fields, notices, texts, their relations, and words
that none of them explains.

Most files hold none of a few hint words, and one search settles them. In the others only the
surroundings of those words are read. All statements of a file apply together (AND), except
alternatives that it offers as a choice. Words about rights that no known licence explains make the
licence of the file unknown, whatever else it states.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sevenfold.corpus.licences.policy import UNRECOGNISED, is_valid, symbols
from sevenfold.corpus.licences.wording.explained import Explained, plain_words
from sevenfold.corpus.licences.wording.notices import RESTRICTED, find_notice_spans, normalise, said_better
from sevenfold.corpus.licences.wording.restrictions import restriction_in
from sevenfold.corpus.licences.wording.rules import RuleMatch, find_rules
from sevenfold.corpus.licences.wording.speech import (
    DENIALS,
    HARD,
    NEAR,
    REFERENCES,
    SOFT,
    STERN,
    Spans,
    find_phrases,
)
from sevenfold.corpus.licences.wording.tags import TAG_WORDS, take_tags
from sevenfold.corpus.licences.wording.texts import find_texts
from sevenfold.corpus.native import PatternSearch

HINTS = PatternSearch((
    b"licen", b"gpl", b"redistribut", b"permission", b"spdx", b"proprietary", b"confidential", b"rights",
    b"freely",
    b"commercial", b"distribut", b"agreement", b"lizenz", b"public domain", b"copyleft", b"creative",
    b"cc-by", b"cc by", b"gnu",
    b"copying", b"reproduc", b"freeware", b"shareware", b"trade secret", b"use only", b"academic",
    b"unauthori", b"property of", b"prohibit", b"copyright",
    b"tous droits", b"alle rechte", b"los derechos", b"i diritti", b"os direitos", b"purposes",
    b"mozilla.org", b"opensource.org",
    b"go.microsoft", b"terms of use", b"not evil",
    b"\xe3\x83\xa9\xe3\x82\xa4\xe3\x82\xbb\xe3\x83\xb3\xe3\x82\xb9",
    b"\xe8\x91\x97\xe4\xbd\x9c\xe6\xa8\xa9", b"\xe8\xae\xb8\xe5\x8f\xaf", b"\xe7\x89\x88\xe6\x9d\x83",
    b"\xe7\x89\x88\xe6\xac\x8a",
    b"\xe8\xa8\xb1\xe5\x8f\xaf", b"\xd0\xbb\xd0\xb8\xd1\x86\xd0\xb5\xd0\xbd",
    b"\xd0\x9b\xd0\xb8\xd1\x86\xd0\xb5\xd0\xbd",
))  # fmt: skip
# Bytes around a hint that are read.
_REACH = 400
_UNEXPLAINED = "no known licence explains {!r} in the file"
# The licence of a rule that is a part of many texts.
_SOME_PERMISSIVE = "LicenseRef-scancode-other-permissive"
# Maximal size in bytes of a file that is read without a hint, because it may be only an address of a
# licence.
_SHORT = 120
# Every full licence text holds one of these.
_TEXT_WORDS = ("redistribut", "permission", "hereby", "terms and conditions", "verbatim cop")
# Maximal number of characters of a text whose judgement is cached.
_REMEMBERED = 4096
# Bytes before a name in which a grant is searched.
_CONTEXT = 60
# So many explained words in a row are a licence.
_STRETCH = 12
# So many explained words in a row name their licence, when this share of them belongs to it.
_LONG, _MOST = 30, 0.9
# Maximal number of words between a licence and words that belong to it.
_NEAR = 16

_GRANT = re.compile(
    rb"licen[sc]e|licen[sc]ing|released|distribut\w+|terms|subject to|available|covered by|governed"
    rb" by|provided|published|copying"
    rb"|under"
)
_GRANTS = re.compile(rb"\b(?:under|licen[sc]ed|distributed|released|terms|gpl|[al]gpl|public licen[sc]e)\b")
_ADDRESS = re.compile(rb"\b(?:https?|www|org|com)\b")
_OTHER_FILE = re.compile(
    r"see (?:the )?(?:file"
    r" )?(?:licen[sc]e|copying)[.-](?!txt|md|rst|html?\b|mit|apache|bsd|isc|in\b|adoc|org)[a-z0-9][\w.-]*"
    r"|see (?:the )?(?:file )?(?!(?:readme|authors|notice|contributors"
    r"|licen[sc]es?|copying|copyright|main|setup|__init__|index|top)\b)"
    r"[\w/-]+\.\w{1,4} for (?:\w+ ){0,3}(?:licen[sc]\w+|copyright)"
)
# Words that introduce the licence that follows them.
_FORBIDS = re.compile(rb"may|must|shall")
_INTRODUCES = re.compile(rb"dual|either|following|^(?:can|may|be) redistribute|under")
_CHOICE_BEFORE = re.compile(
    rb"dual[- ]?licen[sc]\w*|(?:either|any one|one) of|choice of (?:either|the|these|two|one|any|licen)"
    rb"|(?:under|with|by|of) either|triple licen[sc]ed"
    rb"|tri licen[sc]e\w*"
    rb"|any of the following|either (?:the|an?) "
)
_CHOICE_BETWEEN = re.compile(
    rb"(?<!\w)or(?! (?:later|any later|newer|at your"
    rb" option|greater|higher|modify|modified|implied|redistribut\w*"
    rb"|fitness)\b)(?! \w+ any later)"
)
_ALTERNATIVELY = re.compile(
    rb"alternatively (?:this|the|you|it|your|at|provided|permission|software|licen|under|as|if|a |distrib)"
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A licence that words `first` to `last` state. With `is_name` they are a few words and no
    text.
    """

    first: int
    last: int
    expression: str
    is_name: bool


def licences_in(data: bytes) -> tuple[tuple[str, ...], str]:
    """Return the SPDX expressions that the bytes of a file state, and the evidence. Both are empty
    when it states none.

    Returns:
        Expressions that all apply (a file that offers a choice gives one `OR` expression), and the
        evidence. One of them is `LicenseRef-unrecognised` when the file has words about rights that
        no known licence explains.
    """
    said, evidence = _stated(data)
    # A file that is already unknown or restricted needs no search for restrictions.
    if {UNRECOGNISED, RESTRICTED} & {*said} or not (strange := restriction_in(data, is_stated=bool(said))):
        return said, evidence
    return (*said, UNRECOGNISED), ", ".join(filter(None, (evidence, _UNEXPLAINED.format(strange))))


def _stated(data: bytes) -> tuple[tuple[str, ...], str]:
    windows = HINTS.windows(data, _REACH) if len(data) > _SHORT else [(0, len(data))]
    if not windows:
        return (), ""
    text = "\n\n".join(data[start:end].decode("utf-8", "replace") for start, end in windows)
    return _remembered(text) if len(text) <= _REMEMBERED else _judged(text)


@dataclass(frozen=True, slots=True)
class Words:
    """The licences of a text. `tags` and `notices` are expressions that all apply. `strange` holds the
    first words about rights that nothing explains, or "", and `level` their level.
    """

    tags: tuple[str, ...]
    notices: tuple[str, ...]
    strange: str
    level: str


def judge_words(text: str, *, is_licence: bool = False) -> Words:
    """Return the licences of a text.

    Args:
        text: of a file, or the surroundings of its hints.
        is_licence: whether the file is a licence by its name. Soft words need no explanation in it,
            and all of its words are about the licence.
    """
    lowered = text.lower()
    tags: list[str] = []
    if any(word in lowered for word in TAG_WORDS):
        tags, text = take_tags(text)
    plain = normalise(text)
    explained = Explained(plain_words(plain))
    rules = [rule for rule in find_rules(explained.hashes) if _counts(rule, explained)]
    statements = [
        _Statement(r.first, r.last, r.expression, r.last - r.first < 40) for r in rules if r.expression
    ]
    covered = Spans([(rule.first, rule.last) for rule in rules])
    statements += _noticed(plain, covered)
    texts = (
        find_texts(plain)
        if any(word in plain for word in _TEXT_WORDS)
        and not any(r.kind == "text" and r.last - r.first > 60 for r in rules)
        else ()
    )
    notices = _without_repeats([*_composed(statements, explained), *texts], tags)
    if not tags and not notices:
        notices = _by_its_words(explained)
    is_said = bool(tags or notices)
    strange, level = _unexplained(explained, rules, statements, is_said or is_licence, is_licence)
    if not strange and not is_said:
        strange, level = _elsewhere(plain), HARD
    return Words(tuple(tags), tuple(notices), strange, level if strange else "")


def _judged(text: str) -> tuple[tuple[str, ...], str]:
    """Do the work of `licences_in` for a text that has a hint."""
    found = judge_words(text)
    said = [*found.tags, *found.notices]
    evidence = [
        how
        for how, what in (("SPDX tag in the file", found.tags), ("notice in the file", found.notices))
        if what
    ]
    if found.strange:
        said.append(UNRECOGNISED)
        evidence.append(_UNEXPLAINED.format(found.strange))
    return tuple(dict.fromkeys(said)), ", ".join(evidence)


# Most files of a package begin alike.
_remembered = lru_cache(maxsize=4096)(_judged)


def _counts(rule: RuleMatch, explained: Explained) -> bool:
    """Return whether a rule that was found is about this file. A name needs a grant, an address, or a
    file with little else in it.
    """
    n_words = rule.last - rule.first + 1
    before = explained.text(rule.first - 12, rule.first - 1)[-_CONTEXT:]
    if n_words <= 12 and before and DENIALS.search(before + b" "):
        return False
    if rule.expression == _SOME_PERMISSIVE and explained.explains(rule.first, rule.last):
        return False
    if rule.kind != "reference" or not rule.expression:
        return True
    words = explained.text(rule.first, rule.last)
    return (
        bool(_GRANT.search(before) or _GRANTS.search(words) or _ADDRESS.search(words))
        or rule.first < 2
        or 2 * n_words > len(explained)
    )


def _noticed(plain: str, covered: Spans) -> list[_Statement]:
    """Return the findings of our own table of notices outside the words of known rules."""
    spans = find_notice_spans(plain)
    if not spans:
        return []
    # The number of words before a position in a piece tells its word in the text.
    found = []
    for start, end, spdx, is_name in spans:
        first = len(plain_words(plain[:start]).split())
        last = max(first, len(plain_words(plain[:end]).split()) - 1)
        if not covered.hold(first, last):
            found.append(_Statement(first, last, spdx, is_name))
    return found


def _composed(statements: list[_Statement], explained: Explained) -> list[str]:
    """Return the expressions of statements. Those that the text offers as a choice become one
    expression, and all expressions apply together.
    """
    ordered = sorted(statements, key=lambda s: (s.first, -s.last))
    groups: list[list[_Statement]] = []
    for statement in ordered:
        if groups and _is_choice(groups[-1], statement, explained):
            groups[-1].append(statement)
        else:
            groups.append([statement])
    return [_choice(list(dict.fromkeys(s.expression for s in group))) for group in groups]


def _choice(expressions: list[str]) -> str:
    """Return a choice of several licences. An undetermined one is left out where there is another."""
    known = [e for e in expressions if is_valid(e)] or expressions
    return " OR ".join(_in_brackets(e) for e in known) if len(known) > 1 else known[0]


def _in_brackets(expression: str) -> str:
    return f"({expression})" if " AND " in expression else expression


def _is_choice(group: list[_Statement], after: _Statement, explained: Explained) -> bool:
    before = group[-1]
    if after.expression in {s.expression for s in group} or after.first <= before.last:
        return after.first <= before.last + 30 and after.expression == before.expression
    n_between = after.first - before.last - 1
    between = explained.text(before.last + 1, after.first - 1) if n_between else b""
    reading = explained.text(before.last + 1, max(after.first, min(after.first + 3, after.last)))
    alternative = _ALTERNATIVELY.search(reading)
    if alternative and reading.count(b" ", alternative.start()) <= 30:
        return True
    if n_between > 25:
        return False
    if before.is_name and n_between <= 12 and _CHOICE_BETWEEN.search(between):
        return not re.search(rb"(?<!\w)and(?!\w)(?! or)", between)
    if between in (b"or", b"or alternatively"):
        return True
    offered = explained.text(group[0].first - 25, group[0].first + 3)
    return bool(_CHOICE_BEFORE.search(offered)) and not re.search(rb"\bboth\b", offered)


def _without_repeats(found: list[str], tags: list[str]) -> list[str]:
    """Return the expressions without those that another states more exactly, and without an
    alternative that is named again after the choice.
    """
    kept: list[str] = []
    choices = [symbols(tag) for tag in tags if " OR " in tag]
    for expression in dict.fromkeys(found):
        names = symbols(expression)
        if said_better(expression, [*found, *tags]):
            continue
        if " OR " in expression:
            choices.append(names)
        elif names and any(names <= choice for choice in choices):
            continue
        kept.append(expression)
    return kept


def _unexplained(
    explained: Explained, rules: list[RuleMatch], statements: list[_Statement], is_stated: bool, is_near: bool
) -> tuple[str, str]:
    """Return the first words about rights that nothing explains, and their level, or "" when there are
    none.
    """
    opens = Spans([(s.first, s.first) for s in statements])
    names_gpl = any("GPL" in s.expression for s in statements)
    known = Spans([(s.first, s.last) for s in statements] + [(r.first, r.last) for r in rules])

    def is_explained(place: int) -> bool:
        word = explained.word_at(place)
        return known.hold(word, word) or explained.explains(word - 1, word + 4)

    phrases = find_phrases(explained.words, is_explained)
    if not phrases:
        return "", ""
    references = Spans([
        (explained.word_at(m.start()),
            explained.word_at(m.end() - 1)) for m in REFERENCES.finditer(explained.words)
    ])  # fmt: skip
    # "All rights reserved" is explained in a file that names its licence, or the file that holds it.
    is_stated = is_stated or bool(references)
    left = []
    for phrase in phrases:
        first, last = explained.word_at(phrase.start), explained.word_at(phrase.end - 1)
        if known.hold(first, last) or references.hold(first, first) or references.hold(last, last):
            continue
        text = explained.text(first, last)
        # The words around a prohibition belong to it, too.
        around = 2 if phrase.level == NEAR and _FORBIDS.match(text) else 0
        if (
            phrase.level != STERN
            and explained.explains(first - around, last)
            and explained.explains(last, last + 1 + around)
        ):
            continue
        if _GRANTS.search(text) and DENIALS.search(explained.text(first - 8, first - 1) + b" "):
            continue
        if b"endorse" in explained.text(first - 9, first) or (b"gpl" in text and names_gpl):
            continue
        if (
            phrase.level == HARD
            and _INTRODUCES.search(text)
            and opens.are_near(last, last, 40 if b"following" in text else 6)
        ):
            continue
        left.append((first, last, phrase.level))
    within = Spans([*((s.first, s.last) for s in statements), *explained.stretches(_STRETCH)])
    speaking = Spans([(first, last) for first, last, level in left if level != NEAR])
    for first, last, level in left:
        near = level == NEAR and (
            is_near or within.are_near(first, last, _NEAR) or speaking.are_near(first, last, _NEAR)
        )
        if level in (STERN, HARD) or (level == SOFT and not is_stated) or (level == NEAR and near):
            return explained.text(first, last).decode("utf-8", "replace"), level
    return "", ""


def _by_its_words(explained: Explained) -> list[str]:
    """Return the licence whose words are in a file that states none in another way, such as a slightly
    changed copy.
    """
    found = max(explained.stretches(_LONG), key=lambda span: (span[1] - span[0], -span[0]), default=None)
    owners = explained.owners(*found) if found else []
    return [owners[0][0]] if owners and owners[0][1] >= _MOST else []


def _elsewhere(plain: str) -> str:
    """Return the first words that refer the reader to another licence file than that of the package,
    or "".
    """
    match = _OTHER_FILE.search(plain) if "see " in plain else None
    return match[0] if match else ""
