"""Recognise licence texts by the names of files, and find what they apply to: their folder, the
package, or one file beside them.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from pathlib import PurePosixPath

_NO_SUFFIXES = frozenset((
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".go", ".rs", ".js", ".mjs", ".cjs", ".ts", ".tsx",
    ".jsx", ".java",
    ".rb", ".sh", ".pl", ".php", ".json", ".yaml", ".yml", ".toml", ".xml", ".css", ".sql", ".svg", ".png",
    ".map", ".m4",
    ".pyc", ".pyx", ".pxd", ".kt", ".scala", ".swift", ".cs", ".lua", ".dart", ".ex", ".exs", ".erl", ".hs",
    ".ml", ".clj",
    ".jl", ".nim", ".zig", ".vue", ".svelte", ".ipynb", ".ini", ".cfg", ".csv", ".gif", ".jpg", ".jpeg",
    ".ico", ".webp",
    ".scss", ".less", ".po", ".mo", ".patch", ".diff", ".bat", ".ps1", ".cmake", ".class", ".so", ".o",
    ".dll",
))  # fmt: skip
# English, and the words of French, German, Spanish, Italian, Portuguese, Dutch, Polish and the
# Nordic languages.
_WORD = (
    r"(?:un)?li(?:c|z)en[sczt]\w*|eula|copying\w*|commons[-_."
    r" ]?clause|lizenz\w*|nutzungsbedingungen|terms[-_. ]of[-_. ]\w+"
    r"|terms[-_. ]and[-_. ]conditions"
)
_STRONG = re.compile(rf"(?:.*[-_. ])?(?:{_WORD})(?:[-_.,(\d ].*)?")
_JOINED = re.compile(
    r"(?:[a-z]+|.*[-_."
    r" ])(?:licen[sc]es?|lizenz)(?:agreement|terms|text)?\d*(?:\.(?:txt|md|rst|html?|rtf|pdf))?"
)
_WEAK = re.compile(
    r"(?:.*[-_."
    r" ])?(?:copyright|notices?|legal|terms|agreement|patents|[al]?gpl|mit|mpl|cddl|epl|eupl|sspl|busl"
    r"|polyform)(?:[-_.,(\d ].*)?"
)
# Policies beside a licence, which take something away from it.
_POLICY = re.compile(
    r"(?:acceptable[-_. ]use(?:[-_. ]polic(?:y|ies))?|us(?:e|age)[-_. ]polic(?:y|ies)"
    r"|(?:us(?:e|age)[-_. ])?restrictions?)(?:\.(?:md|txt|rst|html?|pdf))?|terms(?:\.(?:md|rst|html?|pdf))?"
)
_PROSE = re.compile(r"(?:.*[-_. ])?(?:licensing|licensors?|licensees?|licenser)\b.*")
_SOURCE_ROOTS = ("src", "lib", "python", "source")
_SIDECAR = re.compile(r"(?P<file>.+)\.licen[sc]e(?:\.txt)?", re.IGNORECASE)


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


def licence_name(path: str) -> str:
    """Return "text" for a file that is a licence by its name, "mention" for one that may state some,
    and "" for others.
    """
    name = path.rpartition("/")[2]
    before, dot, ending = name.rpartition(".")
    if before and dot + ending.lower() in _NO_SUFFIXES:
        return ""
    plain = _folded(name)
    if _PROSE.fullmatch(plain):
        return "mention"
    if any(pattern.fullmatch(plain) for pattern in (_STRONG, _JOINED, _POLICY)):
        return "text"
    return "mention" if _WEAK.fullmatch(plain) else ""


def sidecar_of(path: str) -> str | None:
    """Return the file that `g.py.license` applies to, which is `g.py`. Return None for a name without
    another extension.
    """
    match = _SIDECAR.fullmatch(path.rpartition("/")[2])
    if match is None or "." not in match["file"].lstrip("."):
        return None
    return str(PurePosixPath(path).parent / match["file"])


_ABOUT = re.compile(
    r"(?P<above>(?:.*/)?)[^/]+\.dist-info/(?:(?P<listed>licen[sc]es?|license_files)/)?(?P<rest>.*)"
)
_ABOUT_OTHERS = re.compile(
    r"readme|authors|contribut|change|history|news|credits|code[-_"
    r" ]of|security|maintainers|thanks|acknowl|citation"
)
# Names of files that restrict what a licence grants.
_RESTRICTS = re.compile(
    r"commons[-_. ]?clause|eula|nutzungsbedingungen|terms\b|terms[-_. ]|agreement|addendum|additional"
    r"|restrict|polic(?:y|ies)|acceptable"
)


def is_prose(name: str) -> bool:
    """Return whether a file of this name has other subjects, even where it is listed as a licence."""
    return bool(_ABOUT_OTHERS.match(_folded(name)))


def restricts(name: str) -> bool:
    """Return whether a licence file of this name restricts other licences."""
    return bool(_RESTRICTS.search(_folded(name)))


def listed_licence(path: str) -> bool:
    """Return whether a wheel lists the file as a licence file (PEP 639), whatever its name. A README
    is left out, because it has other subjects.
    """
    about = _ABOUT.fullmatch(path)
    return bool(about and about["listed"] and not is_prose(PurePosixPath(path).name))


def places_of_listed(metadata: str, file: str) -> tuple[str, ...]:
    """Return the possible paths of a file that a METADATA or PKG-INFO lists as `License-File`, by PEP
    639 and by the habit of earlier tools.
    """
    folder, name = posixpath.split(metadata)
    places = [f"{folder}/licenses/{file}", f"{folder}/license_files/{file}", f"{folder}/{file}"]
    places.append(f"{folder}/{posixpath.basename(file)}")
    if name == "PKG-INFO":
        places += [posixpath.join(scope, file) for scope in scopes(metadata)]
    return tuple(dict.fromkeys(posixpath.normpath(place) for place in places))


def scopes(path: str) -> tuple[str, ...]:
    """Return the folders that a metadata or licence file applies to. "" is the package.

    A wheel lists `licenses/src/x/_vendor/COPYING` by its path in the source. The wheel has this folder
    at `x/_vendor`.
    """
    if about := _ABOUT.fullmatch(path):
        above, rest = about["above"].rstrip("/"), PurePosixPath(about["rest"]).parent.parts
        if not rest:
            return (above,)
        # The folders above the package in its source (src, python, packages/x) are not in the wheel.
        folders = {_uncollected("/".join(rest[first:])) for first in range(len(rest))}
        folders |= {"/".join(rest[1:])} if rest[0] in _SOURCE_ROOTS else set()
        return tuple(sorted("/".join(part for part in (above, folder) if part) for folder in folders))
    parent = PurePosixPath(path).parent
    if parent.name.endswith(".egg-info"):
        parent = parent.parent
        parent = parent.parent if parent.name in _SOURCE_ROOTS else parent
    elif parent.name == "EGG-INFO" or (parent.name in _RECIPES and PurePosixPath(path).name == "meta.yaml"):
        parent = parent.parent
    elif "META-INF" in parent.parts:
        parent = PurePosixPath(*parent.parts[: parent.parts.index("META-INF")])
    scope = "" if str(parent) == "." else str(parent)
    # A folder LICENSE holds the licence of the folder above. It may also be a folder of code.
    return (scope, scope.rpartition("/")[0]) if parent.name.lower() in _OWN_FOLDERS else (scope,)


# Folders of a package for the recipe by which conda builds it.
_RECIPES = ("conda", "recipe", "conda.recipe", "conda-recipe")
_OWN_FOLDERS = ("license", "licence", "copying", "eula")
_COLLECTIONS = frozenset(("licenses", "licences", "license", "licence", "legal", "copying"))


def scopes_of_listed(path: str) -> tuple[str, ...]:
    """Return the folders that a file listed as a licence file applies to: its own, and the one above
    when its folder only collects licences.
    """
    return tuple(dict.fromkeys(_uncollected(scope) for scope in scopes(path)))


def _uncollected(scope: str) -> str:
    above, _, name = scope.rpartition("/")
    return above if name in _COLLECTIONS else scope


def is_kept_for_reference(scope: str) -> bool:
    """Return whether a folder holds texts that other files refer to (REUSE). Its files apply to no
    folder.
    """
    return PurePosixPath(scope).name == "LICENSES"
