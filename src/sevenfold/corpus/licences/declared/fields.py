"""Interpret the value of a licence field: an SPDX expression, a family of licences, a pointer to a
file, or nothing known.

A declared field that is not understood gives `UNRECOGNISED`, which makes everything under it unknown.
"BSD" and "Apache" name
families: a licence text beside them says which member is meant, and without one they are unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sevenfold.corpus.licences.policy import UNRECOGNISED, is_valid

# The family of every licence: "OSI Approved", "see the file"
ANY = "*"
# The field by which a workspace declares a licence for its members.
WORKSPACE = "workspace"
# Maximal number of characters. A longer value is read as a text.
MAX_FIELD = 200


@dataclass(frozen=True, slots=True)
class Said:
    """One statement.

    `family` is the beginning of the identifiers that explain it. With "" only the expression itself
    does.
    """

    expression: str
    family: str = ""
    # The field that makes the statement, where a file has several.
    field: str = ""


# Free text in licence fields -> SPDX. It is compared in lower case, without punctuation and without
# the words of `_FILLERS`.
_SPELLINGS = {
    "mit": "MIT", "expat": "MIT", "mit expat": "MIT", "mit mit": "MIT", "x11": "X11", "mit x11": "MIT",
    "apache 2": "Apache-2.0", "apache 2 0": "Apache-2.0", "apache 2 2 0": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache v2": "Apache-2.0", "apache v2 0": "Apache-2.0", "apache2 0": "Apache-2.0",
    "asl 2 0": "Apache-2.0",
    "bsd 3 clause": "BSD-3-Clause", "3 clause bsd": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "bsd3": "BSD-3-Clause",
    "bsd 3": "BSD-3-Clause", "modified bsd": "BSD-3-Clause", "revised bsd": "BSD-3-Clause",
    "bsd 2": "BSD-2-Clause",
    "bsd 2 clause": "BSD-2-Clause", "2 clause bsd": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause",
    "bsd2": "BSD-2-Clause", "freebsd": "BSD-2-Clause", "bsd 3 clause new or revised": "BSD-3-Clause",
    "isc": "ISC", "isc iscl": "ISC", "python software foundation": "PSF-2.0", "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python foundation": "PSF-2.0",
    "unlicense": "Unlicense", "unlicense unlicense": "Unlicense", "zlib": "Zlib", "zlib libpng": "Zlib",
    "boost 1 0 bsl 1 0": "BSL-1.0", "boost 1 0": "BSL-1.0", "cc0 1 0": "CC0-1.0",
    "mit no attribution mit 0": "MIT-0",
    "cc0 1 0 universal cc0 1 0 public domain dedication": "CC0-1.0", "mpl 2 0": "MPL-2.0", "mpl2": "MPL-2.0",
    "mozilla public 2 0": "MPL-2.0", "mozilla public 2 0 mpl 2 0": "MPL-2.0",
    "mozilla public 1 1 mpl 1 1": "MPL-1.1",
    "eclipse public 1 0": "EPL-1.0", "eclipse public 2 0": "EPL-2.0", "eclipse public 1 0 epl 1 0": "EPL-1.0",
    "eclipse public 2 0 epl 2 0": "EPL-2.0", "perl 5": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later", "ruby": "Ruby", "wtfpl": "WTFPL",
    "artistic 2": "Artistic-2.0", "artistic 2 0": "Artistic-2.0",
    "mozilla 1 1": "MPL-1.1", "mozilla 2 0": "MPL-2.0",
}  # fmt: skip
# Names of several licences -> (the beginning of their identifiers, the expression when nothing tells
# which one is meant).
_FAMILIES = {
    "bsd": ("BSD-", UNRECOGNISED), "bsd style": ("BSD-", UNRECOGNISED), "bsd like": ("BSD-", UNRECOGNISED),
    "apache": ("Apache-", UNRECOGNISED), "mpl": ("MPL-", UNRECOGNISED),
    "artistic": ("Artistic-", UNRECOGNISED),
    "gpl": ("GPL-", "GPL-1.0-or-later"), "lgpl": ("LGPL-", "LGPL-2.0-or-later"),
    "agpl": ("AGPL-", "AGPL-3.0-or-later"),
    "osi approved": (ANY, UNRECOGNISED), "see file": (ANY, UNRECOGNISED), "file": (ANY, UNRECOGNISED),
    "see": (ANY, UNRECOGNISED), "txt": (ANY, UNRECOGNISED), "see txt": (ANY, UNRECOGNISED),
    "md": (ANY, UNRECOGNISED),
    # The field says that there is no licence, or none yet, so nobody has granted anything.
    "none": (ANY, UNRECOGNISED), "null": (ANY, UNRECOGNISED), "n a": (ANY, UNRECOGNISED),
    "tbd": (ANY, UNRECOGNISED),
    "todo": (ANY, UNRECOGNISED), "noassertion": (ANY, UNRECOGNISED),
    "copying": (ANY, UNRECOGNISED), "see copying": (ANY, UNRECOGNISED),
}  # fmt: skip
_FILLERS = {"the", "license", "licence", "licensed", "under", "software", "version", "clauses"}
_GNU = re.compile(
    r"(?:gnu )?(?P<family>(?:lesser |library or lesser |library |affero )?general public|[al]?gpl)"
    r"(?: [al]?gpl)?(?: ?v)?(?: ?(?P<n>[123])(?: (?P<minor>[01]))?)?(?P<later> or later| or newer| \+|\+|)"
    r"(?: ?[al]?gplv?(?P<n2>[123])?(?:(?: |\.)(?P<minor2>[01]))?(?P<later2>\+?))?"
)
_NOTHING = {"", "unknown"}
_URLS = (
    (re.compile(r"https?://(?:www\.)?(?:opensource|spdx)\.org/licen[sc]es?/([\w.+-]+?)(?:\.php|\.html)?/?"),
        None),
    (re.compile(r"https?://(?:www\.)?apache\.org/licenses/LICENSE-2\.0(?:\.txt|\.html)?"), "Apache-2.0"),
)  # fmt: skip


def spelled(text: str) -> str | None:
    """Return the SPDX expression that a licence field means, or None when it means none or several."""
    text = text.strip()
    if not text or len(text) > MAX_FIELD or "\n" in text:
        return None
    if is_valid(text):
        return text
    for pattern, spdx in _URLS:
        if match := pattern.fullmatch(text):
            name = spdx or match[1]
            return name if is_valid(name) else _SPELLINGS.get(_plain(name))
    plain = _plain(text)
    return _SPELLINGS.get(plain) or _gnu(plain)


def _plain(text: str) -> str:
    text = re.sub(r">=\s*([\d.]+)", r"\1 or later", text)
    words = re.sub(r"[^a-z0-9+]+", " ", text.lower()).split()
    return " ".join(word for word in words if word not in _FILLERS)


def _gnu(plain: str) -> str | None:
    match = _GNU.fullmatch(plain)
    if match is None or plain in _FAMILIES:
        return None
    family = "AGPL" if match["family"].startswith(("affero", "agpl")) else "GPL"
    family = "LGPL" if match["family"].startswith(("lesser", "library", "lgpl")) else family
    number = match["n"] or match["n2"]
    if not number:
        return {"GPL": "GPL-1.0-or-later", "LGPL": "LGPL-2.0-or-later", "AGPL": "AGPL-3.0-or-later"}[family]
    minor = match["minor"] or match["minor2"] or "0"
    name = f"{family}-{number}.{minor}-{'or-later' if match['later'] or match['later2'] else 'only'}"
    return name if is_valid(name) else UNRECOGNISED


def read_field(value: object) -> tuple[Said, ...]:
    """Return the statements of a licence field, none when it is absent, empty or "UNKNOWN".

    A slash offers a choice, as it does in Cargo.toml and in many others.
    """
    if value is None:
        return ()
    if not isinstance(value, str):
        return (Said(UNRECOGNISED),)
    text = value.strip().strip("\"'").strip()
    if text.lower() in _NOTHING:
        return ()
    if known := spelled(text):
        plain = _plain(text)
        return (Said(known, "GPL-" if plain in ("gpl", "gnu gpl") else ""),)
    if family := _FAMILIES.get(_plain(text)):
        return (Said(family[1], family[0]),)
    # "License", "The License"
    if _plain(text) == "":
        return (Said(UNRECOGNISED, ANY),)
    if len(text) <= MAX_FIELD and (joined := _joined(text)):
        return (Said(joined),)
    return (Said(text if is_shown(text) else UNRECOGNISED),)


def is_shown(text: str) -> bool:
    """Return whether an expression that is not understood can be quoted, because it is a short
    printable line.
    """
    return len(text) <= MAX_FIELD and text.isprintable() and not re.search(r"\b(?:AND|OR|WITH)\b", text)


def _joined(text: str) -> str | None:
    for pattern, operator in (
        (r"\s+(?:and|AND|&)\s+|\s*[;,&]\s*", "AND"),
        (r"\s+(?:or|OR)\s+|\s*[/|]\s*", "OR"),
    ):
        pieces = [piece.strip(" ()") for piece in re.split(pattern, text)]
        if len(pieces) > 1:
            parts = [spelled(piece) or _joined(piece) for piece in pieces]
            return f" {operator} ".join(f"({part})" for part in parts if part) if all(parts) else None
    return None


_CLASSIFIERS = {
    "Apache Software License": Said(UNRECOGNISED, "Apache-"),
    "BSD License": Said(UNRECOGNISED, "BSD-"),
    "OSI Approved": Said(UNRECOGNISED, ANY),
    "DFSG approved": Said(UNRECOGNISED, ANY),
    "Public Domain": Said(UNRECOGNISED, "CC0-"),
    "Academic Free License (AFL)": Said(UNRECOGNISED, "AFL-"),
    "Artistic License": Said(UNRECOGNISED, "Artistic-"),
    "GNU General Public License (GPL)": Said("GPL-1.0-or-later", "GPL-"),
    "GNU Library or Lesser General Public License (LGPL)": Said("LGPL-2.0-or-later", "LGPL-"),
    "Zope Public License": Said(UNRECOGNISED, "ZPL-"),
    "European Union Public Licence 1.2 (EUPL 1.2)": Said("EUPL-1.2"),
    "Universal Permissive License (UPL)": Said("UPL-1.0"),
    "University of Illinois/NCSA Open Source License": Said("NCSA"),
    "Historical Permission Notice and Disclaimer (HPND)": Said("HPND"),
    "PostgreSQL License": Said("PostgreSQL"),
    "SIL Open Font License 1.1 (OFL-1.1)": Said("OFL-1.1"),
    "Blue Oak Model License (BlueOak-1.0.0)": Said("BlueOak-1.0.0"),
    "Zero-Clause BSD (0BSD)": Said("0BSD"),
    "Mulan Permissive Software License v2 (MulanPSL-2.0)": Said("MulanPSL-2.0"),
}


def read_classifiers(values: list[str]) -> tuple[Said, ...]:
    """Return the statements of Python's `License ::` classifiers. All of them apply, and one that
    names no licence is unknown.
    """
    names = [
        value.strip().rpartition("::")[2].strip() for value in values if re.match(r"\s*License\s*::", value)
    ]
    # "OSI Approved" is only the parent of the other classifiers.
    if len(names) > 1:
        names = [name for name in names if name != "OSI Approved"]
    said: list[Said] = []
    for name in names:
        known = spelled(name)
        said.append(_CLASSIFIERS.get(name) or Said(known or UNRECOGNISED))
    return tuple(dict.fromkeys(said))
