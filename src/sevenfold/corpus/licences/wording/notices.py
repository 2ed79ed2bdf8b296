"""Find notices such as "licensed under the GPL" in many wordings: a table, `NOTICES`, and the GNU
family with its versions.

They are searched in normalised text, which is lower case without comment marks and line ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sevenfold.corpus.licences.policy import UNRECOGNISED as UNRECOGNISED
from sevenfold.corpus.licences.policy import is_valid
from sevenfold.corpus.native import PatternSearch, plain_text

RESTRICTED = "LicenseRef-restricted"

# All patterns below are searched in normalised text: lower case, no comment marks, one space between
# words.
_GRANT = re.compile(
    r"licen[sc]ed|released (?:under|with)|distribut\w+ (?:\w+ ){0,3}under|under the terms|subject"
    r" to|available under"
    r"|covered by|governed by|(?:provided|published|used) under|modif\w+ (?:it )?under|licen[sc]e"
    r" ?:|licen[sc]ing ?:"
    r"|this (?:file|program|software|library|work|code|module|script) (?:is|are) under|copying policy ?:|part"
    r" of .{0,40} under"
)
# Characters before the name of a licence in which it may be granted.
_GRANT_REACH = 120
_GNU = re.compile(
    r"(?P<name>(?:lesser |library |affero )?general public"
    r" licen[sc]e|\b[al]?gpl(?=\b|v?\d))(?P<rest>.{0,140})"
)
# Both patterns need one of these words.
_GNU_WORDS = (b"general public licen", b"gpl")
_GNU_TITLE = re.compile(
    r"gnu (?P<name>(?:lesser |library |affero )?general public licen[sc]e) version (?P<rest>[123](?:\.\d)?),?"
    r" \d* ?\w+ \d{4}"
    r"|common-licenses/(?P<short>[al]?gpl)(?:-(?P<number>[\d.]+))?"
)
_VERSION = re.compile(
    r"\W*(?:\(?\w?gpl\)?\W*)?(?:as published by the free software foundation\W*)?(?:\w+ ){0,2}?(?:either )?"
    r"(?:version |v\W?)?(?P<n>[123](?:\.\d)?)\b"
)
_LATER = re.compile(
    r"or (?:\(?at your option\)?,? )?any later|or later|or newer|\bor \(at your option\)|^\W*v?\d(?:\.\d)?\+"
)
# "it is not under the GPL" grants nothing.
_DENIAL = re.compile(
    r"\b(?:not|never|unlike|without|\w+n't)[ ,]+(?:[\w']+[ ,]+){0,5}$"
    r"|\b(?:software|code|works?|programs?|components?) that (?:is|are)\W+(?:(?:released|licensed) under the"
    r" )?$|\bpreviously\W+$"
)


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """A pattern, the licence that it means, and whether it is only a name, which needs a grant before
    it.

    Only a text with one of `words` can match. The words are searched first, which takes a hundredth
    of the time.
    """

    pattern: re.Pattern[str]
    spdx: str
    words: tuple[bytes, ...]
    is_name: bool


def _notices(is_name: bool, *rows: tuple[str, str, tuple[bytes, ...]]) -> tuple[Notice, ...]:
    return tuple(Notice(re.compile(pattern), spdx, words, is_name) for pattern, spdx, words in rows)


NOTICES = _notices(
    True,
    (r"apache (?:software )?licen[sc]e,? ?(?:version |v)?2|apache-2\.0", "Apache-2.0", (b"apache",)),
    (r"\bmit(?:-style)? licen[sc]e", "MIT", (b"mit licen", b"mit-style licen")),
    (r"(?:new|modified|(?:3|three)[- ]clause|revised) bsd|bsd[- ]3[- ]clause", "BSD-3-Clause", (b" bsd", b"bsd-3", b"bsd 3")),
    (r"(?:simplified|(?:2|two)[- ]clause) bsd|bsd[- ]2[- ]clause", "BSD-2-Clause", (b" bsd", b"bsd-2", b"bsd 2")),
    (r"\b(?:psf|python software foundation) licen[sc]e", "PSF-2.0", (b"psf licen", b"foundation licen")),
    (r"mozilla public licen[sc]e,? ?(?:version |v\W? ?)?2", "MPL-2.0", (b"mozilla public",)),
    (r"mozilla public licen[sc]e,? ?(?:version |v\W? ?)?1\.1", "MPL-1.1", (b"mozilla public",)),
    (r"eclipse public licen[sc]e(?:,| -)? ?(?:version |v\W? ?)?1", "EPL-1.0", (b"eclipse public",)),
    (r"eclipse public licen[sc]e(?:,| -)? ?(?:version |v\W? ?)?2", "EPL-2.0", (b"eclipse public",)),
    (r"common development and distribution licen[sc]e", "CDDL-1.0", (b"common development",)),
    (r"european union public licen[sc]e|\beupl\b", "EUPL-1.2", (b"european union", b"eupl")),
    (r"common public licen[sc]e", "CPL-1.0", (b"common public",)),
    (r"artistic licen[sc]e(?!,? (?:version )?2)", "Artistic-1.0", (b"artistic licen",)),
    (r"server side public licen[sc]e", "SSPL-1.0", (b"server side",)),
    (r"business source licen[sc]e", "BUSL-1.1", (b"business source",)),
    (r"elastic licen[sc]e", "Elastic-2.0", (b"elastic licen",)),
) + _notices(
    False,
    (
        r"permission is hereby granted, free of charge, to any person obtaining a copy",
        "MIT",
        (b"permission is hereby granted",),
    ),
    (
        r"redistribution and use in source and binary forms(?!.{200,1400}?(?:neither the name|advertising "
        r"materials))",
        "BSD-2-Clause",
        (b"redistribution and use",),
    ),
    (
        r"redistribution and use in source and binary forms(?!.{200,1400}?advertising "
        r"materials).{200,1400}?neither the name",
        "BSD-3-Clause",
        (b"redistribution and use",),
    ),
    (
        r"redistribution and use in source and binary forms.{200,1400}?advertising materials",
        "BSD-4-Clause",
        (b"redistribution and use",),
    ),
    (r"permission to use, copy, modify, and(?:/or)? distribute this software for any purpose with or without "
        r"fee"
     r" is hereby granted, provided", "ISC", (b"permission to use",)),
    (r"distributed under the boost software licen[sc]e", "BSL-1.0", (b"boost software",)),
    (r"python software foundation licen[sc]e version 2", "PSF-2.0", (b"foundation licen",)),
    (r"gnu free documentation licen[sc]e", "GFDL-1.1-or-later", (b"gnu free",)),
    (r"creative ?commons.{0,40}non-?commercial|\bcc[- ]by[- ]nc\b", RESTRICTED,
        (b"creative", b"by-nc", b"by nc")),
    (r"creative ?commons attribution-share ?alike|\bcc[- ]by[- ]sa[- ]4", "CC-BY-SA-4.0",
        (b"creative", b"by-sa", b"by sa")),
    (r"commons clause (?:licen[sc]e )?condition", RESTRICTED, (b"commons clause",)),
    (r"(?:non-?commercial|academic|evaluation|research) (?:use|purposes) only", RESTRICTED,
        (b"use only", b"purposes only")),
    (r"proprietary and confidential|confidential and proprietary|unauthori[sz]ed (?:copying|distribution) of "
        r"this", RESTRICTED,
     (b"and confidential", b"and proprietary", b"unauthori")),
    (r"may not be (?:copied|reproduced|redistributed|distributed)(?: or \w+)* (?:without|except)", RESTRICTED,
        (b"may not be",)),
)  # fmt: skip
_WORDS = PatternSearch(dict.fromkeys(word for notice in NOTICES for word in (*notice.words, *_GNU_WORDS)))
_MASKS = {notice: _WORDS.mask(notice.words) for notice in NOTICES}
_GNU_MASK = _WORDS.mask(_GNU_WORDS)

_MARKS = re.compile(
    r"(?m)^[ \t]*(?:#+|/{2,}|/?\*+|;+|%+|--+|dnl\b|rem\b|\|+|>+|\.\.)[ \t]?|(?<!\*)\*+/[ \t]*$"
)
_BLANK = re.compile(r"[\s\"`_*]+")


def find_notice_spans(text: str) -> list[tuple[int, int, str, bool]]:
    """Return (start, end, licence, whether it is only named) of each notice in normalised text."""
    had = _WORDS.bits(text.encode("utf-8", "surrogatepass"))
    found = _gnu_spans(text) if had & _GNU_MASK else []
    for notice in NOTICES if had else ():
        if not had & _MASKS[notice]:
            continue
        found += [
            (match.start(), match.end(), notice.spdx, notice.is_name)
            for match in notice.pattern.finditer(text)
            if not notice.is_name or _granted(text, match.start())
        ]
    return found


def _gnu_spans(text: str) -> list[tuple[int, int, str, bool]]:
    found = [
        (match.start(), match.end("name"), _gnu(match), True)
        for match in _GNU.finditer(text)
        if _granted(text, match.start())
    ]
    for match in _GNU_TITLE.finditer(text):
        if match["short"]:
            spdx = f"{match['short'].upper()}-{_dotted(match['number'] or '1')}-or-later"
        else:
            spdx = _spelled(match["name"], match["rest"], later=False)
        found.append((match.start(), match.end(), spdx, True))
    return found


def _granted(text: str, at: int) -> bool:
    """Return whether a grant shortly precedes the name at `at`."""
    before = text[max(0, at - _GRANT_REACH) : at]
    return any(not _DENIAL.search(before[: grant.start()]) for grant in _GRANT.finditer(before))


def _gnu(match: re.Match[str]) -> str:
    rest = match["rest"]
    version = _VERSION.match(rest)
    return _spelled(match["name"], version["n"] if version else None, later=bool(_LATER.search(rest)))


def _spelled(name: str, version: str | None, *, later: bool) -> str:
    family = "LGPL" if name.startswith(("lesser", "library", "lgpl")) else "GPL"
    family = "AGPL" if name.startswith(("affero", "agpl")) else family
    lowest = {"GPL": "1", "LGPL": "2.0", "AGPL": "3"}[family]
    spelled = f"{family}-{_dotted(version or lowest)}{'-or-later' if later or version is None else '-only'}"
    return spelled if is_valid(spelled) else f"{family}-{_dotted(lowest)}-or-later"


def _dotted(version: str) -> str:
    version = version.strip(".")
    return version if "." in version else f"{version}.0"


def normalise(text: str) -> str:
    """Return the text in which notices are searched: lower case, without comment marks and line ends."""
    plain = plain_text(text)
    return normalised_by_regex(text) if plain is None else plain


def normalised_by_regex(text: str) -> str:
    """Do the work of `normalise` where the library is not built."""
    return _BLANK.sub(" ", _MARKS.sub("", text)).lower()


def said_better(spdx: str, others: list[str]) -> bool:
    """Return whether another finding is more exact, such as a notice with "or later" beside the bare
    text, or BSD-3 beside BSD-2.
    """
    base = spdx.removesuffix("-only")
    if spdx.endswith("-only") and f"{base}-or-later" in others:
        return True
    if spdx == "BSD-2-Clause" and {"BSD-3-Clause", "BSD-4-Clause"} & set(others):
        return True
    vague = {"GPL-1.0-or-later": "GPL-", "LGPL-2.0-or-later": "LGPL-"}.get(spdx)
    return vague is not None and any(other != spdx and other.startswith(vague) for other in others)
