"""The licence of each file of a package: metadata, licence files by folder, Debian's copyright, and the file itself.

Two looks at a package. The first gives `add` every file that `wants` asks for; the second asks `licence_of` each
document. A folder with metadata or licence texts of its own (vendored code) adds them to what holds above it, and
a file that states a licence adds that: all must be allowed, so the strictest wins. A licence text that the
package's own expression already names adds nothing: the two files of "MIT OR Apache-2.0" do not make an AND.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sevenfold.corpus.licences.debian import DebianCopyright, parse_copyright
from sevenfold.corpus.licences.metadata import METADATA_NAMES, declared_by, spelled
from sevenfold.corpus.licences.notices import (
    RESTRICTED,
    UNRECOGNISED,
    find_notices,
    find_tags,
    licences_in,
    normalise,
)
from sevenfold.corpus.licences.policy import base_name, combine, symbols
from sevenfold.corpus.licences.texts import find_texts

MAX_LICENCE_BYTES = 1 << 20
_NO_SUFFIXES = frozenset((
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".go", ".rs", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx", ".java",
    ".rb", ".sh", ".pl", ".php", ".json", ".yaml", ".yml", ".toml", ".xml", ".css", ".sql", ".svg", ".png", ".map", ".m4",
))  # fmt: skip
_LICENCE_FILE = re.compile(
    r"(?:.*[-_.])?(?:(?P<strong>un?licen[sc]es?|licen[sc]e|copying)|copyright|[al]?gpl|mit)(?:[-_.\d].*)?",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"(?P<above>(?:.*/)?)[^/]+\.dist-info/(?:licenses?/)?(?P<rest>.*)")
# Directories of a Debian binary package below which a source tree stands as it was.
_SOURCE_TREES = (
    re.compile(r"usr/share/cargo/registry/[^/]+/(?P<rest>.+)"),
    re.compile(r"usr/share/gocode/src/(?:[^/]*\.[^/]+/[^/]+/[^/]+)/(?P<rest>.+)"),
)
_DEBIAN_COPYRIGHT = re.compile(r"debian/copyright|usr/share/doc/[^/]+/copyright")


@dataclass(frozen=True, slots=True)
class Licence:
    """An SPDX expression, None when nothing declares one, and how it is known."""

    expression: str | None
    evidence: str


@dataclass(slots=True)
class _Folder:
    declared: list[tuple[str, str]] = field(default_factory=list)  # (expression, evidence) of metadata
    texts: list[tuple[str, str]] = field(default_factory=list)  # (identifier, name of the licence file)
    unrecognised: str = ""  # a file that is called a licence, and is none that we know

    def parts(self, *, root: bool) -> list[tuple[str, str]]:
        named = frozenset(name for expression, _ in self.declared for name in symbols(expression))
        more = [(spdx, f"text of {name}") for spdx, name in self.texts if not _covered(spdx, named)]
        if self.declared and not more:
            return self.declared
        if self.declared or more or root or not self.unrecognised:
            return [*self.declared, *more]
        return [(UNRECOGNISED, f"{self.unrecognised} is no licence text that is known")]


def _covered(spdx: str, named: frozenset[str]) -> bool:
    names = symbols(spdx)
    return bool(names) and names <= named


def is_licence_file(path: str) -> bool:
    """Whether a file is, by its name, a licence text."""
    name = PurePosixPath(path).name
    return bool(_LICENCE_FILE.fullmatch(name)) and PurePosixPath(name).suffix.lower() not in _NO_SUFFIXES


class Survey:
    """What one package says about licences.

    Args:
        declared: what stands for the package when it says nothing itself, and why.
        concluded: what a person decided about the package as a whole; its own words about itself then count no
            more, those of its folders and files still do.
        binary: a Debian binary package, whose paths are not those of its source.
    """

    def __init__(
        self, declared: Licence | None = None, concluded: str | None = None, *, binary: bool = False
    ) -> None:
        self._declared, self._concluded, self._binary = declared, concluded, binary
        self._folders: dict[str, _Folder] = {}
        self._debian: DebianCopyright | None = None
        self._debian_seen = False

    @staticmethod
    def wants(path: str) -> bool:
        """Whether `add` has a use for the bytes of this file."""
        name = PurePosixPath(path).name
        return name in METADATA_NAMES or bool(_DEBIAN_COPYRIGHT.fullmatch(path)) or is_licence_file(path)

    def add(self, path: str, data: bytes) -> None:
        """Read one file that `wants` asked for; at most the first `MAX_LICENCE_BYTES`."""
        data = data[:MAX_LICENCE_BYTES]
        name = PurePosixPath(path).name
        if _DEBIAN_COPYRIGHT.fullmatch(path):
            self._debian_seen = True
            self._debian = parse_copyright(data)
            if self._debian is None:
                self._add_text(self._folder(""), "debian/copyright", data)
        elif name in METADATA_NAMES:
            expression, evidence = declared_by(name, data)
            if expression:
                self._folder(_scope(path)).declared.append((expression, evidence))
        else:
            self._add_text(self._folder(_scope(path)), name, data)

    def _folder(self, scope: str) -> _Folder:
        return self._folders.setdefault(scope, _Folder())

    @staticmethod
    def _add_text(folder: _Folder, name: str, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        found = licences_in_text(text)
        folder.texts += [(spdx, name) for spdx in found if (spdx, name) not in folder.texts]
        match = _LICENCE_FILE.fullmatch(name)
        if not found and match and match["strong"]:
            folder.unrecognised = name

    def licence_of(self, path: str, data: bytes | None) -> Licence:
        """Licence of a file with these bytes (None: not read, so only what holds for its folder)."""
        parts = [*self._package(path), *self._above(path)]
        if data is not None:
            own, how = licences_in(data)
            parts += [(expression, how) for expression in own]
        if not parts:
            return self._declared or Licence(None, "nothing declares a licence")
        expression = combine(tuple(part for part, _ in parts))
        return Licence(expression, "; ".join(dict.fromkeys(how for _, how in parts)))

    def licence_of_package(self) -> Licence:
        """What the package says of itself as a whole."""
        if self._debian is not None:
            return Licence(*self._debian.of_all())
        return self.licence_of("", None)

    def _package(self, path: str) -> list[tuple[str, str]]:
        if self._concluded is not None:
            return [(self._concluded, "concluded by the lock")]
        parts = self._folders[""].parts(root=True) if "" in self._folders else []
        spdx, how = self._by_debian(path)
        if spdx is not None:
            named = symbols(spdx)
            return [(spdx, how), *(part for part in parts if not _covered(part[0], named))]
        if not parts and self._declared and self._declared.expression:
            return [(self._declared.expression, self._declared.evidence)]
        return parts

    def _by_debian(self, path: str) -> tuple[str | None, str]:
        if self._debian is None:
            return None, ""
        if not self._binary:
            return self._debian.licence_of(path)
        for tree in _SOURCE_TREES:
            if match := tree.fullmatch(path):
                return self._debian.licence_of(match["rest"])
        return self._debian.of_all()

    def _above(self, path: str) -> list[tuple[str, str]]:
        """What the folders on the way to a file say, the root aside."""
        parts: list[tuple[str, str]] = []
        for parent in reversed(PurePosixPath(path).parents):
            folder = self._folders.get(str(parent)) if str(parent) != "." else None
            if folder is not None:
                said = folder.parts(root=self._debian is not None)
                parts += [(expression, f"{how} in {parent}") for expression, how in said]
        return parts


def licences_in_text(text: str) -> list[str]:
    """Licences of a file that is a licence by its name: whole texts, tags, notices, or the bare name of one."""
    plain = normalise(text)
    texts = list(find_texts(plain))
    if len(text) < 200 and (named := spelled(text.strip())):
        return [named]
    bases = {base_name(spdx) for spdx in texts}
    more = [spdx for spdx in (*find_tags(text), *find_notices(plain)) if base_name(spdx) not in bases]
    if texts:
        # A whole text speaks of itself and of others by name (MPL of the GPL): only grants of GNU licences
        # and restrictions add to it.
        whole = any(
            spdx.endswith("-only") or spdx.startswith(("MPL", "EUPL", "EPL", "OSL")) for spdx in texts
        )
        more = [] if whole else [spdx for spdx in more if "GPL" in spdx or spdx == RESTRICTED]
    return list(dict.fromkeys([*texts, *more]))


def _scope(path: str) -> str:
    """The folder that a metadata or licence file speaks for; "" is the package."""
    if about := _ABOUT.fullmatch(path):
        path = about["above"] + about["rest"]
    parent = PurePosixPath(path).parent
    if parent.name.endswith(".egg-info"):
        parent = parent.parent
    return "" if str(parent) == "." else str(parent)
