"""Find licences that a file states in a field: SPDX tags, `@license`, `__license__`, `MODULE_LICENSE`,
`"license": "..."`.

A field is removed from the text when it is read, so that nothing in it is read again as a notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sevenfold.corpus.licences.declared.metadata import spelled
from sevenfold.corpus.licences.policy import UNRECOGNISED, is_valid

TAG_WORDS = ("pdx", "@copyright", "\\copyright", "license", "licence", "lizenz", "licencia", "licenza")

# The tag is SPDX-License-Identifier. Some write it with blanks, or with the British spelling.
_SPDX = re.compile(r"SPDX[-_ ]Licen[sc]e[-_ ]Identi?fi?er[ \t]*[:=][ \t]*", re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*")
_END = re.compile(r"\s*+(?:\*+/|-->|#+>|\*\)|\*+#|%>|\?>|\]\]|\\n|\\r|[\"'`,;\\|}<>].*)?\s*$")
# The same for a search. It starts only at the first of a run of blanks, stars or hashes, because the
# rest of the run would otherwise be read from each of them.
_TAIL = re.compile(r"(?<!\s)" + _END.pattern.replace(r"\*+", r"(?<!\*)\*+").replace("#+>", "(?<!#)#+>"))
_PLAIN_BEFORE = re.compile(r"[^\w]*(?:(?:dnl|rem|c|@rem|sb)\s+)?", re.IGNORECASE)
_TOKEN = re.compile(r"\s*(\(|\)|[A-Za-z0-9][\w.+-]*(?::[\w.+-]+)?)")
_JOINS = re.compile(r"\s*(?:and|or|with|/|,|\+|&|\|)\s*[\w(]", re.IGNORECASE)
_CODE_AFTER = re.compile(r"\s*[\"'`]?\s*(?:[+{%$<&*(]|\.\.\.|$|\\|\[|\]|\)|[\"'`])")

# The pattern of a quoted value.
_QUOTED = r"(?P<quote>[\"'])(?P<value>[^\"'\r\n]{1,120})(?P=quote)"
_MODULE = re.compile(r"\bMODULE_LICENSE\s*\(\s*" + _QUOTED, re.IGNORECASE)
_DUNDER = re.compile(r"__licen[sc]e__\s*(?::\s*[\w.\[\]]+\s*)?=\s*(?:[(\[]\s*)?[uUrRbB]{0,2}" + _QUOTED)
_DOC = re.compile(r"[@\\]licen[sc]e[ \t:]+(?P<value>[^\r\n*\"'{}]{2,120})", re.IGNORECASE)
_COPYRIGHT = re.compile(
    r"[@\\]copyright[ \t:]+(?P<value>(?:gnu |[al]?gpl)[^\r\n*\"'{}]{0,120})", re.IGNORECASE
)
_KEY = re.compile(
    r"(?<![\w-])(?:[\"'])?licen[sc]es?(?:[\"'])?\s*(?:=>|[:=])\s*(?:\[\s*)?"
    r"(?:\{\s*[\"']?(?:type|name|spdx|id)[\"']?\s*(?:=>|[:=])\s*)?" + _QUOTED,
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[^\w\r\n]{0,12}(?:licen[sc]es?|licen[sc]ing|lizenz|licencia|licenza|licen[sc]e type|copying"
    r" policy)\**[ \t]*[:=]"
    r"[ \t]*\**(?P<value>[^\r\n\"'{}()\[\]=;]{2,100})",
    re.IGNORECASE | re.MULTILINE,
)
_ELEMENT = re.compile(
    r"<licen[sc]e(?: [^>]*)?>\s*(?:<name>)?\s*(?P<value>[^<>\r\n]{2,100}?)\s*</", re.IGNORECASE
)
# Each with the literals of which one stands in every match, in lower case, and the characters
# before one at which a match may start; None: at the start of its line.
_FIELDS: tuple[tuple[re.Pattern[str], tuple[str, ...], int | None], ...] = (
    (_MODULE, ("module_license",), 0),
    (_DUNDER, ("__licen",), 0),
    (_DOC, ("@licen", "\\licen"), 0),
    (_COPYRIGHT, ("@copyright", "\\copyright"), 0),
    (_KEY, ("licen",), 1),
    (_LABEL, ("licen", "lizenz", "copying policy"), None),
    (_ELEMENT, ("<licen",), 0),
)
_KERNEL = {
    "gpl": "GPL-1.0-or-later",
    "gpl v2": "GPL-2.0-only",
    "gpl and additional rights": "GPL-1.0-or-later",
    "dual bsd/gpl": "BSD-3-Clause OR GPL-1.0-or-later",
    "dual mit/gpl": "MIT OR GPL-1.0-or-later",
    "dual mpl/gpl": "MPL-1.1 OR GPL-1.0-or-later",
    "dual apache/gpl": "Apache-2.0 OR GPL-1.0-or-later",
    "proprietary": "LicenseRef-restricted",
    "bsd": "BSD-3-Clause",
}
# Short forms that people use, with the licence that they mean in a file.
_SHORT = {
    "bsd": "BSD-3-Clause", "bsd-style": "BSD-3-Clause", "bsd3": "BSD-3-Clause", "bsd2": "BSD-2-Clause",
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0", "apache 2": "Apache-2.0", "apache v2": "Apache-2.0", "apache-2": "Apache-2.0",
    "asl 2.0": "Apache-2.0",
    "apache2.0": "Apache-2.0", "python": "PSF-2.0", "mit/x11": "MIT", "mit-style": "MIT", "boost": "BSL-1.0",
    "zlib/libpng": "Zlib",
    "apache license, version 2.0": "Apache-2.0", "apache license version 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "expat": "MIT", "mit license (mit)": "MIT", "bsd license": "BSD-3-Clause", "mit/expat": "MIT",
}  # fmt: skip
_ELSEWHERE = re.compile(
    r"^(?:see\b|read\b|refer\b|file\b|https?://|www\.|\.{0,2}/|licen[sc]e(?:\.\w+)?$|copying|none$|unknown$|"
    r"n/a$|\W*$)",
    re.IGNORECASE,
)
# The form of a licence name. Code and sentences do not have it.
_NAME = re.compile(
    r"licen[sc]|\b[al]?gpl|public|proprietar|commercial|copyright|rights|freeware|shareware|domain|\bcc\b|"
    r"\bcc-"
    r"|\b(?:mpl|epl|osl|afl|cddl|eupl|cpl|ipl|lppl"
    r"|artistic|sspl|busl|bsl|qpl|ofl|cecill|ms-[rp]l|ruby|perl|wtfpl|nasa|elastic|custom|other|open"
    r" source|internal)\b",
    re.IGNORECASE,
)


def take_tags(text: str) -> tuple[list[str], str]:
    """Return SPDX expressions of the fields in a text, and the text without them.

    An SPDX tag that is no expression gives `LicenseRef-unrecognised`. Another field that names a
    licence in words stays in the text as a grant, and is judged like all other words.
    """
    found: list[str] = []
    cuts: list[tuple[int, int, str]] = []
    lowered = text.lower()
    # Only these letters have no other form that a pattern without case would match.
    for match in _SPDX.finditer(text) if "pdx" in lowered else ():
        line = _LINE.match(text, match.end())
        rest = line[0] if line else ""
        start = text.rfind("\n", 0, match.start()) + 1
        expression, used = _spdx(rest, is_alone=bool(_PLAIN_BEFORE.fullmatch(text[start : match.start()])))
        if expression:
            found.append(expression)
            cuts.append((match.start(), match.end() + used, " . "))
    for pattern, literals, reach in _FIELDS:
        if not any(literal in lowered for literal in literals):
            continue
        for match in matches(pattern, text, lowered, literals, reach):
            if any(a < match.end() and match.start() < b for a, b, _ in cuts):
                continue
            expression = _field(match["value"], pattern)
            if expression == UNRECOGNISED:
                cuts.append((match.start(), match.end("value"), f". licensed under {match['value']} . "))
            elif expression:
                found.append(expression)
                cuts.append((match.start(), match.end("value"), " . "))
    for start, end, instead in sorted(cuts, reverse=True):
        text = text[:start] + instead + text[end:]
    return list(dict.fromkeys(found)), text


def matches(
    pattern: re.Pattern[str], text: str, lowered: str, literals: tuple[str, ...], reach: int | None
) -> Iterator[re.Match[str]]:
    """Yield the matches of `finditer`, tried only near the literals where the text is ASCII.

    Args:
        lowered: the text in lower case.
        literals: of which one stands in every match.
        reach: characters before one at which a match may start; None: at the start of its line.
    """
    if not text.isascii():
        yield from pattern.finditer(text)
        return
    starts: set[int] = set()
    for literal in literals:
        place = lowered.find(literal)
        while place >= 0:
            if reach is None:
                starts.add(text.rfind("\n", 0, place) + 1)
            else:
                starts.update(range(max(0, place - reach), place + 1))
            place = lowered.find(literal, place + 1)
    behind = 0
    for start in sorted(starts):
        if start >= behind and (match := pattern.match(text, start)):
            yield match
            behind = match.end()


def _spdx(rest: str, *, is_alone: bool) -> tuple[str, int]:
    """Return the expression after an SPDX tag ("" when there is code), and its number of characters."""
    whole = _TAIL.sub("", rest).strip()
    if is_valid(whole):
        return whole, len(rest)
    tokens: list[tuple[str, int]] = []
    place = 0
    while len(tokens) < 40 and (token := _TOKEN.match(rest, place)):
        tokens.append((token[1], token.end()))
        place = token.end()
    for n in range(len(tokens), 0, -1):
        expression, used = " ".join(token for token, _ in tokens[:n]), tokens[n - 1][1]
        if is_valid(expression):
            is_cut = _JOINS.match(rest, used) or (
                is_alone and not _END.fullmatch(rest, used) and re.match(r"\s*\w", rest[used:])
            )
            return (UNRECOGNISED if is_cut else expression), (len(rest) if is_cut else used)
    if not whole or (_CODE_AFTER.match(rest) and not is_alone):
        return "", 0
    if is_alone or (
        tokens
        and re.match(r"[A-Z]|[a-z]+[\d.-]", tokens[0][0])
        and not re.match(r"(?:tag|line|header|field|comment)s?\b", whole, re.I)
    ):
        return UNRECOGNISED, len(rest)
    return "", 0


def _field(value: str, pattern: re.Pattern[str]) -> str:
    value = re.sub(r"\s+", " ", value).strip(" \t.,;:*-#/\\")
    lowered = value.lower()
    if lowered in _KERNEL and (pattern is _MODULE or lowered.startswith("dual")):
        return _KERNEL[lowered]
    if _ELSEWHERE.match(value):
        return ""
    name = re.sub(
        r"^(?:the|a|an) |\s+(?:licen[sc]e|style)$|\s*\(?(?:https?:|see |www\.).*$",
        "",
        value,
        flags=re.IGNORECASE,
    ).strip(" ,.;:()<")
    for candidate in (value, name, value.replace("/", " OR "), re.sub(r"\s*\+$", "+", name)):
        if meant := (_plus(candidate) or spelled(candidate)):
            return meant
    if name.lower() in _SHORT:
        return _SHORT[name.lower()]
    is_name = bool(_NAME.search(value)) and len(value.split()) <= 8
    # Bundlers write `@license React`, which names a project.
    if pattern in (_MODULE, _DUNDER) and len(value.split()) <= 6 and re.search(r"[A-Za-z]{3}", value):
        return UNRECOGNISED
    return (
        UNRECOGNISED
        if is_name
        and re.match(r"[A-Z0-9]|[al]?gpl|cc|perl|artistic|ruby|proprietary", value)
        and not re.search(r"[_(){}=<>|]|[a-z]\.[a-z]", value)
        else ""
    )


def _plus(value: str) -> str:
    """Return GPL-2.0+ and the like in the form -or-later of the SPDX list."""
    match = re.fullmatch(
        r"(?:GNU )?([AL]?GPL)[- ]?v?(\d)(?:\.(\d))?(\+| or later|-or-later| only|-only)?",
        value,
        re.IGNORECASE,
    )
    if not match:
        return ""
    later = match[4] and ("+" in match[4] or "later" in match[4].lower())
    expression = f"{match[1].upper()}-{match[2]}.{match[3] or 0}{'-or-later' if later else '-only'}"
    return expression if is_valid(expression) else f"{match[1].upper()}-{match[2]}.{match[3] or 0}"
