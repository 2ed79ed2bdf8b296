"""Restrictions in words that no known licence has: "academic research only", "you may not use this
without a contract", "do not use this to train models".

No rule has such words, so they are a table of their own, `restrictions.toml`, with its own hints. A
comment line that consists only of a restriction ("# Confidential.") counts as well. The word alone
does not, because programs have confidential clients.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sevenfold.corpus.licences.wording.explained import Explained, plain_words
from sevenfold.corpus.licences.wording.notices import normalise
from sevenfold.corpus.licences.wording.speech import SOFT, STERN, PhraseTable
from sevenfold.corpus.native import PatternSearch

TABLE = Path(__file__).with_name("restrictions.toml")
_ROWS = tomllib.loads(TABLE.read_text())
_TABLE = PhraseTable.of(_ROWS["phrase"])
_HINTS = PatternSearch(hint.encode() for hint in _ROWS["hints"])
# Bytes around a hint that are read.
_REACH = 200
# A comment of one line.
_ALONE = re.compile(
    rb"(?:#+|//+|/\*+|;+|--|%+|\"\"\"|'''|<!--|rem\b|\(\*)[ \t!*-]*"
    rb"(?P<words>(?:[\w.,'&-]{1,40}[ \t]+){0,2}?"
    rb"(?:proprietary|confidential|top[ -]secret|closed[ -]source|source[ -]available|not open[ -]source"
    rb"|(?:streng )?vertraulich|do not (?:copy|share|publish|redistribute|use without permission)"
    rb"|no (?:copying|derivatives)|copying (?:is )?(?:prohibited|forbidden|not allowed)|trial version"
    rb"|(?:for )?(?:students|employees|customers|members|partners|evaluation|review)(?: of the \w+)? only"
    rb"|strictly internal|evaluation copy|this is not free software"
    rb"|(?:[al]?gpl|cddl|eupl|sspl|qpl)(?:[ -]?v?[123](?:\.[0-9])?)?\+?))"
    rb"[ \t.!*-]*(?:\*/|-->|\"\"\"|'''|\*\))?[ \t]*",
    re.IGNORECASE,
)
_ALONE_HINTS = PatternSearch((
    b"proprietary", b"confidential", b"top secret", b"top-secret", b"closed source", b"closed-source",
    b"source available", b"source-available", b"not open", b"vertraulich", b"not copy", b"not share",
    b"not publish", b"not redistribute", b"without permission", b"no copying", b"no derivatives", b"copying ",
    b"trial version", b"students", b"employees", b"customers", b"members", b"partners", b"evaluation",
    b"review", b"strictly internal", b"not free software", b"gpl", b"cddl", b"eupl", b"sspl", b"qpl",
))  # fmt: skip
_MAX_LINE = 200


def restriction_in(data: bytes, *, is_stated: bool) -> str:
    """Return the first restricting words of a file that no licence explains, or "".

    Args:
        data: the file.
        is_stated: whether the file names a licence, which explains soft words.
    """
    return _in_words(data, is_stated) or _alone(data)


def _in_words(data: bytes, is_stated: bool) -> str:
    windows = _HINTS.windows(data, _REACH)
    if not windows:
        return ""
    text = "\n\n".join(data[start:end].decode("utf-8", "replace") for start, end in windows)
    words = plain_words(normalise(text))
    phrases = _TABLE.find(words, lambda _: False)
    if not phrases:
        return ""
    explained = Explained(words)
    for phrase in phrases:
        first, last = explained.word_at(phrase.start), explained.word_at(phrase.end - 1)
        if is_stated and phrase.level == SOFT:
            continue
        if phrase.level == STERN or not explained.explains(first, last):
            return explained.text(first, last).decode("utf-8", "replace")
    return ""


def _alone(data: bytes) -> str:
    behind = 0
    for start, end in _ALONE_HINTS.windows(data, 1):
        first = max(behind, data.rfind(b"\n", max(0, start - _MAX_LINE), start + 1) + 1)
        # A byte before its end, because an occurrence may end its line.
        behind = data.find(b"\n", end - 1, end + _MAX_LINE)
        behind = len(data) if behind < 0 else behind
        for line in map(bytes.strip, data[first:behind].split(b"\n")):
            if len(line) <= _MAX_LINE and (match := _ALONE.fullmatch(line)):
                return " ".join(match["words"].decode("utf-8", "replace").lower().split())
    return ""
