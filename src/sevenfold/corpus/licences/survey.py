"""The licence of each file of a package: metadata, licence files by folder, Debian's copyright, and
the file itself.

Two looks at a package. The first gives `add` every file that `wants` asks for, then what `unread`
still names; the second asks `licence_of` each document. A folder with metadata or licence texts of
its own (vendored code) adds them to what holds above it, and a file that states a licence adds
that: all must be allowed, so the strictest wins. A licence text that the package's own expression
already names adds nothing: the two files of "MIT OR Apache-2.0" do not make an AND.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from sevenfold.corpus.licences import names, reuse
from sevenfold.corpus.licences.debian import DebianCopyright, parse_copyright
from sevenfold.corpus.licences.folder import Folder, covered
from sevenfold.corpus.licences.metadata import declared_by, is_metadata, spelled
from sevenfold.corpus.licences.notices import (
    RESTRICTED,
    UNRECOGNISED,
    find_notices,
    find_tags,
    normalise,
)
from sevenfold.corpus.licences.own import licences_in
from sevenfold.corpus.licences.policy import base_name, combine, symbols
from sevenfold.corpus.licences.texts import find_texts

MAX_LICENCE_BYTES = 1 << 20
# One behind the other.
MAX_LINKS = 8
# Of a licence file that says no more than where the licences are.
MAX_POINTER_BYTES = 300
_OTHER_FILE = re.compile(r"\b(?:LICEN[SC]E|COPYING)(?:[-.]\w+)+")
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


class Survey:
    """What one package says about licences.

    Args:
        declared: what stands for the package when it says nothing itself, and why.
        concluded: what a person decided about the package as a whole; its own words about itself
            then count no more, those of its folders and files still do.
        binary: a Debian binary package, whose paths are not those of its source.
    """

    def __init__(
        self, declared: Licence | None = None, concluded: str | None = None, *, binary: bool = False
    ) -> None:
        self._declared, self._concluded, self._binary = declared, concluded, binary
        self._folders: dict[str, Folder] = {}
        self._files: dict[str, list[tuple[str, str]]] = {}
        self._annotations: dict[str, reuse.Annotations | DebianCopyright] = {}
        # Path that is still to be read -> (path that it is read for, how many links lead there).
        self._wanted: dict[str, list[tuple[str, int]]] = {}
        self._read: set[str] = set()
        self._debian: DebianCopyright | None = None

    @staticmethod
    def wants(path: str) -> bool:
        """Return whether `add` has a use for the bytes of this file."""
        return (
            is_metadata(PurePosixPath(path).name)
            or bool(_DEBIAN_COPYRIGHT.fullmatch(path))
            or reuse.is_reuse(path)
            or bool(names.licence_name(path))
            or names.sidecar_of(path) is not None
            or names.listed_licence(path)
        )

    def add(self, path: str, data: bytes | None) -> None:
        """Read one file that `wants` or `unread` asked for: its bytes, or None when it cannot be read."""
        waiting = self._wanted.pop(path, [])
        for alias, _ in waiting:
            self._add(alias, data)
        if self.wants(path) and not (waiting and path in self._read):
            self._add(path, data)
        self._read.add(path)

    def add_link(self, path: str, target: str) -> None:
        """Add a link: it says what its target says. One that leaves the package or ends nowhere is
        unknown.
        """
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        waiting = [*self._wanted.pop(path, []), *([(path, 0)] if self.wants(path) else [])]
        if (
            target.startswith("/")
            or place.startswith("..")
            or any(depth >= MAX_LINKS for _, depth in waiting)
        ):
            for alias, _ in waiting:
                self._add(alias, None)
            return
        self._wanted.setdefault(place, []).extend((alias, depth + 1) for alias, depth in waiting)

    def unread(self) -> frozenset[str]:
        """Return the paths that links and metadata point to; each is to be given to `add`, or
        `missing` is told.
        """
        return frozenset(self._wanted)

    def missing(self) -> None:
        """Mark what pointed to files that the package lacks as unknown."""
        for waiting in list(self._wanted.values()):
            for alias, _ in waiting:
                self._add(alias, None)
        self._wanted.clear()

    def _add(self, path: str, data: bytes | None) -> None:
        whole = data is not None and len(data) <= MAX_LICENCE_BYTES
        name = PurePosixPath(path).name
        if path.startswith(_POINTED):
            _, scope, name = path.split("\0")
            self._add_text(self._folder(scope), name, data, strong=True, pointed=True)
        elif _DEBIAN_COPYRIGHT.fullmatch(path):
            self._debian = parse_copyright(data or b"")
            if self._debian is None:
                self._add_text(self._folder(""), "debian/copyright", data, strong=data is None)
        elif reuse.is_reuse(path):
            self._add_reuse(path, data if whole else None)
        elif is_metadata(name):
            self._add_metadata(path, name, data if whole else None)
        elif (file := names.sidecar_of(path)) is not None:
            found = licences_in_text(decoded(data)) if data is not None else []
            self._files.setdefault(file, []).extend(
                (spdx, f"{name} beside the file") for spdx in found or [UNRECOGNISED]
            )
        else:
            strong = names.licence_name(path) == "text"
            for scope in names.scopes(path):
                if not names.is_kept_for_reference(scope):
                    self._add_text(self._folder(scope), name, data, strong=strong)

    def _add_metadata(self, path: str, name: str, data: bytes | None) -> None:
        for scope in names.scopes(path):
            folder = self._folder(scope)
            if data is None:
                folder.declare(name, ())
                continue
            found = declared_by(name, data)
            folder.declare(name, found.said, inherits=found.inherits)
            for text in found.texts:
                self._add_text(
                    folder, f"the licence field of {name}", text.encode(), strong=True, pointed=True
                )
            for file in found.files:
                place = posixpath.normpath(posixpath.join(scope, file.replace("\\", "/")))
                if not place.startswith(("..", "/")):
                    self._wanted.setdefault(place, []).append((f"{_POINTED}{scope}\0{place}", 0))

    def _add_reuse(self, path: str, data: bytes | None) -> None:
        scope = PurePosixPath(path.removesuffix("/.reuse/dep5") if path.endswith("/.reuse/dep5") else path)
        scope = scope if path.endswith("/.reuse/dep5") else scope.parent
        folder = "" if path == ".reuse/dep5" or str(scope) == "." else str(scope)
        try:
            if data is None:
                raise ValueError("not read")
            self._annotations[folder] = (
                reuse.read_dep5(data) if path.endswith("dep5") else reuse.read_annotations(data)
            )
        except (ValueError, TypeError, LookupError, RecursionError):
            self._folder(folder).unrecognised.append(path)

    def _folder(self, scope: str) -> Folder:
        return self._folders.setdefault(scope, Folder())

    @staticmethod
    def _add_text(
        folder: Folder, name: str, data: bytes | None, *, strong: bool, pointed: bool = False
    ) -> None:
        found = licences_in_text(decoded(data)) if data is not None else []
        folder.texts += [(spdx, name) for spdx in found if (spdx, name) not in folder.texts]
        if found or (pointed and data is None):
            return
        if (data is None or strong) and not _is_template(data or b""):
            folder.unrecognised.append(name)
            if data is not None and len(data) <= MAX_POINTER_BYTES:
                folder.points_to[name] = set(_OTHER_FILE.findall(decoded(data)))

    def licence_of(self, path: str, data: bytes | None) -> Licence:
        """Return the licence of a file with these bytes (None: not read, so only what holds for its
        folder).
        """
        parts = [*self._package(path), *self._above(path), *self._files.get(path, ()), *self._annotated(path)]
        if data is not None:
            own, how = licences_in(data)
            parts += [(expression, how) for expression in own]
        if not parts:
            return self._declared or Licence(None, "nothing declares a licence")
        expression = combine(tuple(part for part, _ in parts))
        return Licence(expression, "; ".join(dict.fromkeys(how for _, how in parts)))

    def licence_of_package(self) -> Licence:
        """Return what the package says of itself as a whole."""
        if self._debian is not None:
            return Licence(*self._debian.of_all())
        return self.licence_of("", None)

    def _package(self, path: str) -> list[tuple[str, str]]:
        if self._concluded is not None:
            return [(self._concluded, "concluded by the lock")]
        spdx, how = self._by_debian(path)
        named = symbols(spdx) if spdx is not None else frozenset[str]()
        parts = (
            self._folders[""].parts(named, explained=self._debian is not None) if "" in self._folders else []
        )
        if spdx is not None:
            return [(spdx, how), *(part for part in parts if not covered(part[0], named))]
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
        """Return what the folders on the way to a file say, the root aside."""
        parts: list[tuple[str, str]] = []
        is_inherited = "" in self._folders and bool(self._folders[""].declared)
        for parent in reversed(PurePosixPath(path).parents):
            folder = self._folders.get(str(parent)) if str(parent) != "." else None
            if folder is not None:
                said = folder.parts(explained=self._debian is not None, inherited=is_inherited)
                parts += [(expression, f"{how} in {parent}") for expression, how in said]
                is_inherited = is_inherited or bool(folder.declared)
        return parts

    def _annotated(self, path: str) -> list[tuple[str, str]]:
        parts: list[tuple[str, str]] = []
        for parent in PurePosixPath(path).parents if self._annotations else ():
            folder = "" if str(parent) == "." else str(parent)
            found = self._annotations.get(folder)
            rest = path[len(folder) + 1 :] if folder else path
            if isinstance(found, DebianCopyright):
                spdx, _ = found.licence_of(rest)
                parts += [(spdx, ".reuse/dep5")] if spdx else []
            elif found is not None:
                parts += [(spdx, "REUSE.toml") for spdx in found.licence_of(rest)]
        return parts


# Begins no path: a file that metadata points to, then the folder and the file's name.
_POINTED = "\0"


def decoded(data: bytes) -> str:
    """Return the text of a licence file: UTF-8, or UTF-16 by its mark or by every other byte being
    NUL; "" for binary data.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if len(data) > 3 and not data[1::2].strip(b"\0"):
        return data.decode("utf-16-le", "replace")
    if len(data) > 3 and not data[0::2].strip(b"\0"):
        return data.decode("utf-16-be", "replace")
    return "" if b"\0" in data else data.decode("utf-8", "replace")


def _is_template(data: bytes) -> bool:
    """Return whether a file is R's list of holders, which says nothing of a licence."""
    return bool(re.fullmatch(rb"\s*(?:(?:YEAR|COPYRIGHT HOLDER|ORGANIZATION)\s*:[^\n]*\s*)+", data))


def licences_in_text(text: str) -> list[str]:
    """Return the licences of a file that is a licence by its name: whole texts, tags, notices, or
    the bare name of one.
    """
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
