"""What a name, a version and a file of a package may look like, exactly: they become arguments of
pip, npm and apt-get.

The clients read more than versions where one is expected: npm takes addresses, folders, aliases,
tags and repositories, pip takes direct references, apt-get takes releases. So each registry's own
grammar of an exact version is required, and nothing else is handed to a client. Nothing here begins
with `-`, or holds white space, `/` (but a scope's), `@` or `=`; a colon stands behind a Debian
epoch alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

Kind = Literal["pypi", "npm", "deb", "dsc"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_LENGTH = 300

# What npm takes for a file, wherever it ends a name or a version.
_NPM_ARCHIVE = r"(?!.*\.(?:tgz|tar|tar\.gz)(?:\Z|/))"
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_DEBIAN_UPSTREAM = r"[0-9][A-Za-z0-9.+~-]*"
_SEMVER_PART = r"(?:0|[1-9][0-9]*)"
_SEMVER_WORD = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
NAMES: Mapping[Kind, re.Pattern[str]] = {
    # PEP 508
    "pypi": re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"),
    # validate-npm-package-name, and the capitals of old packages
    "npm": re.compile(_NPM_ARCHIVE + r"(?:@[a-z0-9][a-z0-9._~-]*/)?[A-Za-z0-9_][A-Za-z0-9._~-]*"),
    # Debian policy 5.6.1 and 5.6.7
    "deb": _DEBIAN_NAME,
    "dsc": _DEBIAN_NAME,
}
VERSIONS: Mapping[Kind, re.Pattern[str]] = {
    # PEP 440, without the white space that it forgives
    "pypi": re.compile(
        r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*"
        r"(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview)[-_.]?[0-9]*)?"
        r"(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?"
        r"(?:[-_.]?dev[-_.]?[0-9]*)?"
        r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?",
        re.IGNORECASE | re.ASCII,
    ),
    # Semantic Versioning 2.0.0, also with fewer than three numbers; the
    # hash says which version it is
    "npm": re.compile(
        _NPM_ARCHIVE + rf"{_SEMVER_PART}(?:\.{_SEMVER_PART}){{0,2}}"
        rf"(?:-{_SEMVER_WORD}(?:\.{_SEMVER_WORD})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
    ),
    # Debian policy 5.6.12; a file's name leaves the epoch out
    "deb": re.compile(rf"(?:[0-9]+:)?{_DEBIAN_UPSTREAM}"),
    "dsc": re.compile(_DEBIAN_UPSTREAM),
}
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9._]+)-(?P<version>[A-Za-z0-9.+!_]+)(?:-[0-9][A-Za-z0-9_.]*)?(?:-[A-Za-z0-9_.]+){3}\."
    r"whl"
)
_SDIST = re.compile(r"(?P<stem>[A-Za-z0-9][A-Za-z0-9.+!_-]*)\.(?:tar\.gz|tgz|tar\.bz2|tar\.xz|zip)")


def fault(kind: Kind, name: str, version: str, file: str) -> str | None:
    """Return what is wrong with a package's name, version or file; None when all are exact.

    An empty version or file is one that is not known yet.
    """
    for what, value, pattern in (("name", name, NAMES[kind]), ("version", version, VERSIONS[kind])):
        if what == "version" and not value:
            continue
        if len(value) > MAX_LENGTH or pattern.fullmatch(value) is None:
            return f"{value[:80]!r} is no exact {what} of {kind}"
    if file and not _is_file(kind, name, version, file):
        return f"{file[:80]!r} is no file of {name} {version}".rstrip()
    return None


def _is_file(kind: Kind, name: str, version: str, file: str) -> bool:
    if len(file) > MAX_LENGTH or kind not in ("pypi", "dsc"):
        return False
    if kind == "dsc":
        return file == f"{name}_{version}.dsc"
    if wheel := _WHEEL.fullmatch(file):
        return _normal(wheel["name"]) == _normal(name) and _same(wheel["version"], version)
    sdist = _SDIST.fullmatch(file)
    if sdist is None:
        return False
    # A source distribution's name may hold hyphens, so both halves are tried at each.
    stem = sdist["stem"]
    return any(
        _normal(stem[: at.start()]) == _normal(name) and _same(stem[at.end() :], version)
        for at in re.finditer("-", stem)
    )


def _normal(name: str) -> str:
    """Return a Python package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(ours: str, version: str) -> bool:
    """Return whether two spellings may be one version: separators and the parts' names are free in
    PEP 440.
    """
    plain = [re.sub(r"[-_.+!v]", "", text.lower()) for text in (ours, version)]
    return not version or plain[0] == plain[1]
