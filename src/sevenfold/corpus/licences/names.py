"""Which files are licence texts, by their names, and what they speak for: their folder, the
package, or one file beside them.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

_NO_SUFFIXES = frozenset((
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".go", ".rs", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx", ".java",
    ".rb", ".sh", ".pl", ".php", ".json", ".yaml", ".yml", ".toml", ".xml", ".css", ".sql", ".svg", ".png", ".map", ".m4",
))  # fmt: skip
# English, and the words of French, German, Spanish, Italian, Portuguese, Dutch, Polish and the
# Nordic languages.
_WORD = (
    r"(?:un)?li(?:c|z)en[sczt]\w*|eula|copying\w*|commons[-_. ]?clause|lizenz\w*|nutzungsbedingungen|terms[-_. ]of[-_. ]\w+"
    r"|terms[-_. ]and[-_. ]conditions"
)
_STRONG = re.compile(rf"(?:.*[-_. ])?(?:{_WORD})(?:[-_.,(\d ].*)?")
_JOINED = re.compile(
    r"(?:[a-z]+|.*[-_. ])(?:licen[sc]es?|lizenz)(?:agreement|terms|text)?\d*(?:\.(?:txt|md|rst|html?|rtf|pdf))?"
)
_WEAK = re.compile(
    r"(?:.*[-_. ])?(?:copyright|notices?|legal|terms|agreement|patents|[al]?gpl|mit)(?:[-_.,(\d ].*)?"
)
_PROSE = re.compile(r"(?:.*[-_. ])?(?:licensing|licensors?|licensees?|licenser)\b.*")
_SIDECAR = re.compile(r"(?P<file>.+)\.licen[sc]e(?:\.txt)?", re.IGNORECASE)


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


def licence_name(path: str) -> str:
    """ "text" for a file that is a licence by its name, "mention" for one that may state some, "" for others."""
    name = PurePosixPath(path).name
    if PurePosixPath(name).suffix.lower() in _NO_SUFFIXES:
        return ""
    plain = _folded(name)
    if _PROSE.fullmatch(plain):
        return "mention"
    if _STRONG.fullmatch(plain) or _JOINED.fullmatch(plain):
        return "text"
    return "mention" if _WEAK.fullmatch(plain) else ""


def sidecar_of(path: str) -> str | None:
    """Return the file that `g.py.license` speaks for, `g.py`; None for a name without another extension."""
    match = _SIDECAR.fullmatch(PurePosixPath(path).name)
    if match is None or "." not in match["file"].lstrip("."):
        return None
    return str(PurePosixPath(path).parent / match["file"])


_ABOUT = re.compile(r"(?P<above>(?:.*/)?)[^/]+\.dist-info/(?:(?P<listed>licenses?)/)?(?P<rest>.*)")


def listed_licence(path: str) -> bool:
    """Return whether a wheel lists the file as a licence file (PEP 639), whatever its name; a README
    speaks of much else.
    """
    about = _ABOUT.fullmatch(path)
    is_prose = re.match(
        r"readme|authors|contribut|change|history|news|credits", _folded(PurePosixPath(path).name)
    )
    return bool(about and about["listed"] and not is_prose)


def scopes(path: str) -> tuple[str, ...]:
    """Return the folders that a metadata or licence file speaks for; "" is the package.

    A wheel lists `licenses/src/x/_vendor/COPYING` by its place in the source: what the wheel has of
    it lies at `x/_vendor`.
    """
    if about := _ABOUT.fullmatch(path):
        above, rest = about["above"].rstrip("/"), PurePosixPath(about["rest"]).parent.parts
        if not rest:
            return (above,)
        # A root of the sources is no folder of the wheel.
        first = 1 if rest[0] in ("src", "lib", "python", "source") else 0
        folders = {"/".join(rest), "/".join(rest[first:])}
        return tuple(sorted("/".join(part for part in (above, folder) if part) for folder in folders))
    parent = PurePosixPath(path).parent
    if parent.name.endswith(".egg-info"):
        parent = parent.parent
        parent = parent.parent if parent.name in ("src", "lib", "python") else parent
    elif parent.name == "EGG-INFO":
        parent = parent.parent
    elif "META-INF" in parent.parts:
        parent = PurePosixPath(*parent.parts[: parent.parts.index("META-INF")])
    return ("" if str(parent) == "." else str(parent),)


def is_kept_for_reference(scope: str) -> bool:
    """Return whether a folder holds texts that other files refer to (REUSE): its files speak for no
    folder.
    """
    return PurePosixPath(scope).name == "LICENSES"
