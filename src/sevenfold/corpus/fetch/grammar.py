"""Define the exact form of names, versions and files of packages, which become arguments of pip,
npm and apt-get.

Where a version is expected, the clients accept more: npm takes addresses, folders, aliases, tags
and repositories; pip takes direct references; apt-get takes releases. So the grammar of an exact
version of each registry is required, and no other text is passed to a client. No accepted text
begins with `-`, or holds white space, `/` (except in an npm scope), `@` or `=`. A colon is accepted
only after a Debian epoch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

Kind = Literal["pypi", "npm", "deb", "dsc"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_LENGTH = 300

# Endings that npm takes for a file, at the end of a name or a version.
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
    """Return what is wrong with the name, version or file of a package; None when all are exact.

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
    # The name of a source distribution may hold hyphens, so every split is tried.
    stem = sdist["stem"]
    return any(
        _normal(stem[: at.start()]) == _normal(name) and _same(stem[at.end() :], version)
        for at in re.finditer("-", stem)
    )


def _normal(name: str) -> str:
    """Return the name of a Python package as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(ours: str, version: str) -> bool:
    """Return whether two spellings may be one version. PEP 440 leaves separators and names of parts
    free.
    """
    plain = [re.sub(r"[-_.+!v]", "", text.lower()) for text in (ours, version)]
    return not version or plain[0] == plain[1]
