"""Determine the licence of each file of a package from metadata, licence files by folder, Debian's
copyright, and the file itself.

`read_through` gives a survey the files of a package that it wants (see `reading`). Then `licence_of`
judges each document. A folder with metadata or licence texts of its own (vendored code) adds them to
those of the folders above, and a file that states a licence adds that. All must be allowed, so the
strictest decides. A licence text that the expression of the package already names adds nothing, so the
two files of "MIT OR Apache-2.0" do not make an AND.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from sevenfold.core.process.log import one_line
from sevenfold.corpus.licences import names
from sevenfold.corpus.licences.declared import reuse
from sevenfold.corpus.licences.declared.debian import DebianCopyright, parse_copyright
from sevenfold.corpus.licences.declared.metadata import Declaration, declared_by, is_metadata
from sevenfold.corpus.licences.folder import Folder, Unknown, covered
from sevenfold.corpus.licences.links import Links
from sevenfold.corpus.licences.path_patterns import pep639_pattern
from sevenfold.corpus.licences.policy import UNRECOGNISED, combine, symbols
from sevenfold.corpus.licences.reading import MAX_ROUNDS, FileListener, Look, Seen, Waiting
from sevenfold.corpus.licences.wording.licence_text import (
    MAX_LICENCE_BYTES,
    decoded,
    files_named,
    is_template,
    judge_licence,
)
from sevenfold.corpus.licences.wording.own import licences_in
from sevenfold.corpus.licences.wording.speech import SOFT, STERN

# Directories of a Debian binary package that hold an unchanged source tree.
_SOURCE_TREES = (
    re.compile(r"usr/share/cargo/registry/[^/]+/(?P<rest>.+)"),
    re.compile(r"usr/share/gocode/src/(?:[^/]*\.[^/]+/[^/]+/[^/]+)/(?P<rest>.+)"),
)
_DEBIAN_COPYRIGHT = re.compile(r"debian/copyright|usr/share/doc/[^/]+/copyright")


@dataclass(frozen=True, slots=True)
class Licence:
    """An SPDX expression (None when nothing declares one) and its evidence."""

    expression: str | None
    evidence: str


def read_through(survey: Survey, look: Look) -> None:
    """Give a survey all files of a package that it wants."""
    for seen in look(survey.wants):
        survey.tell(seen)
    follow(survey, look)


def follow(survey: Survey, look: Look) -> None:
    """Give a survey, after its first round, the files that links and metadata point to."""
    for _ in range(MAX_ROUNDS):
        if not survey.unread():
            break
        for seen in look(survey.asks_for):
            survey.tell(seen)
        survey.end_round()
    survey.missing()


@dataclass(slots=True, eq=False)
class _Pointer:
    """A pointer of metadata to a licence file: the metadata, the folder that it applies to, and
    whether the file was found.
    """

    metadata: str
    scope: str
    name: str
    is_found: bool = False


_Read = Callable[[_Pointer, str, bytes | None], None]


class Survey:
    """The licences of one package.

    Args:
        declared: the licence of a package that states none itself, with its evidence.
        concluded: the licence that a person decided for the package as a whole. Its own statements
            about the whole then do not count. Those of its folders and files still do.
        stated: licences that apply to the whole besides its own statements, with their evidence.
        binary: whether it is a Debian binary package, whose paths are not those of its source.
        judged: whether `debian/copyright` is Debian's own, so that a person has judged each file.
        link_at: returns the target of the link at a path, for a source that does not report all
            links.
    """

    def __init__(
        self,
        declared: Licence | None = None,
        concluded: str | None = None,
        *,
        stated: Licence | None = None,
        binary: bool = False,
        judged: bool = False,
        link_at: Callable[[str], str | None] | None = None,
    ) -> None:
        self._declared, self._concluded, self._stated = declared, concluded, stated
        self._binary, self._judged = binary, judged or binary
        self._folders: dict[str, Folder] = {}
        self._files: dict[str, list[tuple[str, str]]] = {}
        self._annotations: dict[str, reuse.Annotations | DebianCopyright] = {}
        self._waiting = Waiting(Links(link_at))
        self._pointers: list[_Pointer] = []
        self._read: set[str] = set()
        self._debian: list[DebianCopyright] = []

    @staticmethod
    def wants(path: str) -> bool:
        """Return whether the first round needs the bytes of this file."""
        return (
            is_metadata(path.rpartition("/")[2])
            or bool(_DEBIAN_COPYRIGHT.fullmatch(path))
            or reuse.is_reuse(path)
            or bool(names.licence_name(path))
            or names.sidecar_of(path) is not None
            or names.listed_licence(path)
        )

    def tell(self, seen: Seen) -> None:
        """Add one requested file, or a link."""
        if seen.target is None:
            self.add(seen.path, seen.data)
        else:
            self.add_link(seen.path, seen.target)

    def add_link(self, path: str, target: str) -> None:
        """Add a link, which states what its target states. A link that leaves the package or has no
        target is unknown.
        """
        if path not in self._waiting.links:
            self._waiting.links.add(path, target)
            if self.wants(path):
                reader = FileListener(lambda _, data: self._add(path, data), partial(self._add, path, None))
                self._waiting.ask(path, reader)

    def add(self, path: str, data: bytes | None) -> None:
        """Read one file: its bytes, or None when it cannot be read."""
        for reader in self._waiting.readers_of(path):
            reader.read(path, data)
        if path not in self._read and self.wants(path):
            self._read.add(path)
            self._add(path, data)

    def unread(self) -> frozenset[str]:
        """Begin the next round. Return the paths and globs of the files that it requests."""
        return self._waiting.start_round()

    def asks_for(self, path: str) -> bool:
        """Return whether `add` needs a file in this round."""
        return self._waiting.asks_for(path)

    def end_round(self) -> None:
        """Treat requested files that were not added since `unread` as missing."""
        self._waiting.end_round()

    def missing(self) -> None:
        """Mark pointers to files that the package lacks as unknown."""
        self._waiting.start_round()
        self._waiting.end_round()
        for pointer in self._pointers:
            if not pointer.is_found:
                why = f"is where {pointer.metadata} points to, and is not there"
                self._folder(pointer.scope).unknowns.append(Unknown(pointer.name, why))
        self._pointers.clear()

    def _add(self, path: str, data: bytes | None) -> None:
        whole = data if data is not None and len(data) <= MAX_LICENCE_BYTES else None
        name = PurePosixPath(path).name
        if _DEBIAN_COPYRIGHT.fullmatch(path):
            found = parse_copyright(whole or b"")
            if found is None:
                self._add_text("", "debian/copyright", whole, is_strong=whole is None)
            else:
                self._debian.append(found)
        elif reuse.is_reuse(path):
            self._add_reuse(path, whole)
        elif is_metadata(name):
            self._add_metadata(path, name, whole)
        elif (file := names.sidecar_of(path)) is not None:
            self._add_sidecar(file, name, whole)
        else:
            is_strong = names.licence_name(path) == "text" or (
                names.listed_licence(path) and names.licence_name(path) != "mention"
            )
            for scope in names.scopes(path):
                if not names.is_kept_for_reference(scope):
                    self._add_text(scope, name, whole, is_strong=is_strong)

    def _add_sidecar(self, file: str, name: str, data: bytes | None) -> None:
        found = judge_licence(decoded(data or b""))
        said = [*found.licences, *([UNRECOGNISED] if found.strange or not found.licences else [])]
        self._files.setdefault(file, []).extend((spdx, f"{name} beside the file") for spdx in said)

    def _add_metadata(self, path: str, name: str, data: bytes | None) -> None:
        found = declared_by(name, data)
        for scope in names.scopes(path):
            self._folder(scope).declare(name, found.said, inherits=found.inherits)
            for text in found.texts:
                self._add_text(scope, f"the licence field of {name}", text.encode(), is_strong=True)
            self._point(path, scope, found)

    def _point(self, path: str, scope: str, found: Declaration) -> None:
        """Request the files that a metadata file points to. A missing file is unknown."""
        name = PurePosixPath(path).name
        for file in found.files:
            pointer = _Pointer(name, scope, file)
            self._ask(pointer, (f"{scope}/{file}" if scope else file,), is_strong=True)
            self._ask_wheel(pointer, file, self._read_pointed)
        for file in found.listed:
            pointer = _Pointer(name, scope, file, is_found=names.is_prose(PurePosixPath(file).name))
            self._ask(pointer, names.places_of_listed(path, file), is_strong=False)
        for glob, is_required in found.globs:
            pointer = _Pointer(name, scope, glob, is_found=not is_required)
            self._pointers.append(pointer)
            self._ask_all(pointer, f"{_literal(scope)}/{glob}" if scope else glob, self._read_listed)
            self._ask_wheel(pointer, glob, self._read_listed)

    def _ask(self, pointer: _Pointer, places: tuple[str, ...], *, is_strong: bool) -> None:
        self._pointers.append(pointer)
        read = self._read_pointed if is_strong else self._read_listed
        for place in places:
            self._waiting.ask(place, FileListener(partial(read, pointer)))

    def _ask_wheel(self, pointer: _Pointer, file: str, read: _Read) -> None:
        """Look for a file where a wheel keeps it. The metadata that the wheel was built from may be in
        it as a leftover, without its licence.
        """
        for folder in ("*.dist-info/licenses", "*.dist-info"):
            self._ask_all(pointer, f"{folder}/{file}", read)

    def _ask_all(self, pointer: _Pointer, glob: str, read: _Read) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.ask_all(pep639_pattern(glob), FileListener(partial(read, pointer)))

    def _read_pointed(self, pointer: _Pointer, path: str, data: bytes | None) -> None:
        """Read the file that states what a field leaves open. It applies to the folder of the
        field.
        """
        pointer.is_found = True
        self._add_text(pointer.scope, PurePosixPath(path).name, _limited(data), is_strong=True)

    def _read_listed(self, pointer: _Pointer, path: str, data: bytes | None) -> None:
        """Read a file that is listed as a licence file. It applies to its own folder."""
        pointer.is_found = True
        name = PurePosixPath(path).name
        if self.wants(path) or names.is_prose(name):
            return
        for scope in names.scopes_of_listed(path):
            if not names.is_kept_for_reference(scope):
                self._add_text(scope, name, _limited(data), is_strong=True)

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
            self._folder(folder).unknowns.append(Unknown(path, "cannot be understood"))

    def _folder(self, scope: str) -> Folder:
        return self._folders.setdefault(scope, Folder())

    def _add_text(self, scope: str, name: str, data: bytes | None, *, is_strong: bool) -> None:
        """Add a file that is a licence (`is_strong`), or that may state some, to its folder."""
        folder, restricts = self._folder(scope), names.restricts(name)
        if data is None:
            folder.unknowns.append(Unknown(name, "cannot be read", restricts))
            return
        text = decoded(data)
        found = judge_licence(text)
        folder.texts += [(spdx, name) for spdx in found.texts if (spdx, name) not in folder.texts]
        folder.words += [(spdx, name) for spdx in found.words if (spdx, name) not in folder.words]
        named, is_all = files_named(text)
        why = ""
        if found.strange and (is_strong or found.level != SOFT):
            why = f"says {found.strange!r}, which no licence in it explains"
        elif is_strong and not found.licences and not is_template(text):
            why = "is no licence text that is known"
        elif is_strong and named:
            # The file states only a part. The files that it names state the rest.
            why, is_all = "names licence files that are not known", True
        if why:
            restricts = restricts or found.level == STERN
            folder.unknowns.append(Unknown(name, why, restricts, named if is_all else frozenset()))

    def licence_of(self, path: str, data: bytes | None, *, itself: str | None = None) -> Licence:
        """Return the licence of a file with these bytes.

        Args:
            path: of the file in the package.
            data: None for a file that is not read: only what holds for its folder counts.
            itself: the path of the file that a link at `path` leads to:
                what is said there holds, too.
        """
        parts = self._parts(path)
        if itself is not None and itself != path:
            parts += self._parts(itself)
        if data is not None:
            own, how = licences_in(data)
            parts += [(expression, how) for expression in own]
        if not parts:
            return self._declared or Licence(None, "nothing declares a licence")
        expression = combine(tuple(part for part, _ in parts))
        return Licence(expression, one_line("; ".join(dict.fromkeys(how for _, how in parts))))

    def licence_of_package(self) -> Licence:
        """Return the statements of the package about itself as a whole."""
        if self._debian:
            spdx, how = self._all_of_debian()
            return Licence(spdx, one_line(how))
        return self.licence_of("", None)

    def _parts(self, path: str) -> list[tuple[str, str]]:
        by_debian, how = self._by_debian(path)
        # A file that Debian's paragraphs do not cover was not judged by anybody.
        explained = self._judged and by_debian is not None
        return [
            *self._package(by_debian, how, explained=explained),
            *self._above(path, explained=explained),
            *self._files.get(path, ()),
            *self._annotated(path),
        ]

    def _package(self, by_debian: str | None, how: str, *, explained: bool) -> list[tuple[str, str]]:
        if self._concluded is not None:
            return [(self._concluded, "concluded by the lock")]
        beside = [(by_debian, how)] if by_debian is not None else []
        if self._stated is not None and self._stated.expression:
            beside = [(self._stated.expression, self._stated.evidence), *beside]
        named = frozenset(name for spdx, _ in beside for name in symbols(spdx))
        root = self._folders.get("")
        parts = root.parts(named, explained=explained) if root is not None else []
        if beside:
            return [*beside, *(part for part in parts if not covered(part[0], named))]
        if not parts and self._declared and self._declared.expression:
            return [(self._declared.expression, self._declared.evidence)]
        return parts

    def _by_debian(self, path: str) -> tuple[str | None, str]:
        """Return the statements of Debian's copyright files about a file. All of several apply."""
        if not self._debian:
            return None, ""
        if self._binary:
            rest = next((match["rest"] for tree in _SOURCE_TREES if (match := tree.fullmatch(path))), None)
            if rest is None or len(self._debian) > 1:
                return self._all_of_debian()
            return self._debian[0].licence_of(rest)
        said = [found for copyright in self._debian if (found := copyright.licence_of(path))[0] is not None]
        return _together(said)

    def _all_of_debian(self) -> tuple[str | None, str]:
        return _together([found for c in self._debian if (found := c.of_all())[0] is not None])

    def _above(self, path: str, *, explained: bool) -> list[tuple[str, str]]:
        """Return the statements of the folders on the way to a file, without the root."""
        parts: list[tuple[str, str]] = []
        is_inherited = "" in self._folders and self._folders[""].is_workspace()
        end = path.find("/")
        while end >= 0:
            parent = path[:end]
            end = path.find("/", end + 1)
            folder = self._folders.get(parent)
            if folder is not None:
                said = folder.parts(explained=explained, inherited=is_inherited)
                parts += [(expression, f"{how} in {parent}") for expression, how in said]
                is_inherited = is_inherited or folder.is_workspace()
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


def _together(said: list[tuple[str | None, str]]) -> tuple[str | None, str]:
    known = [(spdx, how) for spdx, how in said if spdx is not None]
    if not known:
        return None, ""
    return combine(tuple(spdx for spdx, _ in known)), "; ".join(dict.fromkeys(how for _, how in known))


def _limited(data: bytes | None) -> bytes | None:
    return data if data is not None and len(data) <= MAX_LICENCE_BYTES else None


def _literal(path: str) -> str:
    """Return a glob that matches only this path."""
    return re.sub(r"([*?\[])", r"[\1]", path)
