"""Licences of Debian packages: `debian/copyright` in the machine-readable
form (DEP-5), per file by glob.

Debian's short names become SPDX expressions; what has no SPDX counterpart ("public-domain",
"permissive") is unknown. A binary package holds files under other paths than the source that the
globs speak of. Where the tree of the source stands whole below one directory (crates, Go packages)
the globs are used; elsewhere a file's licence is all licences of the source together, packaging
aside: the strictest reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sevenfold.core.process.modules import require_module
from sevenfold.corpus.licences.path_patterns import debian_pattern
from sevenfold.corpus.licences.policy import UNRECOGNISED, canonical, combine, is_valid

_NAMES = {
    "expat": "MIT", "mit": "MIT", "mit/x11": "MIT", "x11": "X11",
    "psf": "PSF-2.0", "psf-2": "PSF-2.0", "python": "Python-2.0",
    "bsd-2": "BSD-2-Clause", "bsd-3": "BSD-3-Clause", "bsd-4": "BSD-4-Clause", "zlib/libpng": "Zlib",
    "boost-1.0": "BSL-1.0",
    "boost": "BSL-1.0", "bsl-1": "BSL-1.0", "cc0": "CC0-1.0", "apache-2": "Apache-2.0",
    "apache2": "Apache-2.0",
    "asl-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl", "artistic-2": "Artistic-2.0",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "mpl-2": "MPL-2.0", "unicode": "Unicode-DFS-2016", "openssl": "OpenSSL", "wtfpl-2": "WTFPL",
    "fsfap": "FSFAP",
    "bsd-3-clause-google": "BSD-3-Clause", "postgresql": "PostgreSQL",
}  # fmt: skip
_EXCEPTIONS = {
    "openssl": "openvpn-openssl-exception",
    "llvm": "LLVM-exception",
    "classpath": "Classpath-exception-2.0",
}
_GNU = re.compile(
    r"(?P<family>[al]?gpl|gfdl)-?v?(?P<version>\d(?:\.\d)?)?(?:\.0)?(?P<later>\+)?(?:-or-later)?",
    re.IGNORECASE,
)


def to_spdx(name: str) -> str:
    """Return one of Debian's short licence expressions as SPDX. A name without an SPDX counterpart
    makes the whole expression unknown.
    """
    words = re.sub(r"[,()]", " ", name.strip()).split()
    lowered = [word.lower() for word in words]
    for operator in ("and", "or"):
        # In Debian's form "and" binds tighter than "or", and a comma changes that. Splitting at "and"
        # first is never laxer than either reading.
        if operator in lowered:
            at = lowered.index(operator)
            left, right = " ".join(words[:at]), " ".join(words[at + 1 :])
            return f"({to_spdx(left)}) {operator.upper()} ({to_spdx(right)})"
    if "with" in lowered:
        at = lowered.index("with")
        exception = _EXCEPTIONS.get(lowered[at + 1] if at + 1 < len(lowered) else "", UNRECOGNISED)
        return f"{to_spdx(' '.join(words[:at]))} WITH {exception}"
    return _one("-".join(words))


def _one(name: str) -> str:
    lowered = name.lower()
    if spdx := _NAMES.get(lowered) or _NAMES.get(lowered.removesuffix(".0")):
        return spdx
    if found := _GNU.fullmatch(lowered):
        family = found["family"].upper()
        version = found["version"] or {"GPL": "1", "LGPL": "2", "AGPL": "3", "GFDL": "1.1"}[family]
        later = found["later"] or lowered.endswith("-or-later") or not found["version"]
        return f"{family}-{version if '.' in version else version + '.0'}{'-or-later' if later else '-only'}"
    return name if name and is_valid(name) else UNRECOGNISED


@dataclass(frozen=True, slots=True)
class Stanza:
    """One `Files:` paragraph."""

    globs: tuple[str, ...]
    spdx: str

    def matches(self, path: str) -> bool:
        """Return whether the paragraph covers a path of the source package."""
        return any(debian_pattern(glob).matches(path) for glob in self.globs)


class DebianCopyright:
    """A machine-readable copyright file.

    `stanzas` are in the order of the file. The last one that matches a path applies.
    """

    def __init__(self, stanzas: list[Stanza]) -> None:
        self.stanzas = stanzas

    def licence_of(self, path: str) -> tuple[str | None, str]:
        """Return the licence of a file of the source tree, and the paragraph that states it."""
        for stanza in reversed(self.stanzas):
            if stanza.matches(path):
                return stanza.spdx, f"debian/copyright, Files: {' '.join(stanza.globs)[:80]}"
        return None, ""

    def of_all(self) -> tuple[str | None, str]:
        """Return all licences together, except those of the packaging (`debian/*`)."""
        parts = tuple(s.spdx for s in self.stanzas if not all(g.startswith("debian/") for g in s.globs))
        return (combine(parts), "debian/copyright, all paragraphs together") if parts else (None, "")


def parse_copyright(data: bytes) -> DebianCopyright | None:
    """Return the paragraphs of a copyright file, or None when it is not machine-readable."""
    text = data.decode("utf-8", "replace")
    if not re.search(r"^Files:", text, re.MULTILINE) or not re.search(
        r"^Format(?:-Specification)?:", text, re.MULTILINE
    ):
        return None
    library = require_module("debian_inspector.copyright", "Debian's copyright files need debian-inspector")
    try:
        paragraphs = library.DebianCopyright.from_text(text).paragraphs
    except (ValueError, AttributeError, TypeError, LookupError):
        return None
    stanzas = [
        Stanza(tuple(p.files.values), canonical(to_spdx(p.license.name or "")))
        for p in paragraphs
        if isinstance(p, library.CopyrightFilesParagraph) and p.files and p.files.values
    ]
    return DebianCopyright(stanzas) if stanzas else None
