"""Read the files of a package for its licences, in rounds.

The first round reads metadata, files that are licences by their names, and all links. Later rounds
read the files that links and metadata point to. Nothing is followed on a disk. A source only returns
requested files of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sevenfold.corpus.licences.links import Links
from sevenfold.corpus.licences.path_patterns import PathPattern

# Rounds after the first. Metadata behind a link may point to a file behind another link.
MAX_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """A file of a package with its bytes (None if it cannot be read), or a link with its target."""

    path: str
    data: bytes | None = None
    target: str | None = None


# A function that returns the files whose paths are wanted, and all links.
Look = Callable[[Callable[[str], bool]], Iterable[Seen]]


@dataclass(frozen=True, slots=True, eq=False)
class FileListener:
    """A request for a file. `read` receives the path of the file itself and its bytes. `absent` is
    called when the package lacks it.
    """

    read: Callable[[str, bytes | None], None]
    absent: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Waiting:
    """The files that are still to be read, and the links of the package."""

    links: Links
    # Paths that may lead over links.
    _asked: list[tuple[str, FileListener]] = field(default_factory=list)
    # Paths of files themselves, of this round.
    _wanted: dict[str, list[FileListener]] = field(default_factory=dict)
    _globs: list[tuple[PathPattern, FileListener]] = field(default_factory=list)

    def ask(self, path: str, reader: FileListener) -> None:
        """Ask for the file at a path from the top of the package. The path may contain links."""
        self._asked.append((path, reader))

    def ask_all(self, pattern: PathPattern, reader: FileListener) -> None:
        """Ask for all files whose path from the top of the package matches."""
        self._globs.append((pattern, reader))

    def readers_of(self, path: str) -> list[FileListener]:
        """Return the requests for a file, and remove those for this file alone."""
        matching = [reader for pattern, reader in self._globs if pattern.matches(path)]
        return [*self._wanted.pop(path, []), *matching]

    def start_round(self) -> frozenset[str]:
        """Return the requested paths and globs with links resolved."""
        for pattern, reader in self._globs:
            self._asked += [(path, reader) for path in self.links if pattern.matches(path)]
        asked, self._asked = self._asked, []
        for path, reader in asked:
            place = self.links.resolve(path)
            if place is None:
                reader.absent()
            else:
                self._wanted.setdefault(place, []).append(reader)
        return frozenset((*self._wanted, *(str(pattern) for pattern, _ in self._globs)))

    def asks_for(self, path: str) -> bool:
        """Return whether a file is requested in this round."""
        return path in self._wanted or any(glob.matches(path) for glob, _ in self._globs)

    def end_round(self) -> None:
        """Call `absent` of the requests for files that the package lacks."""
        absent = [reader for readers in self._wanted.values() for reader in readers]
        self._wanted.clear()
        self._globs.clear()
        for reader in absent:
            reader.absent()
