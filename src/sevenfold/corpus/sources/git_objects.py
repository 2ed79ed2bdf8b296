"""Read objects of a git repository, loose or packed, and check each against the hash that is its
name.

git itself trusts the name of a loose object, and hashes it only when it checks a repository. Here
an object is used only when its bytes match the requested hash, so a commit binds every byte below
it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import sha256
from sevenfold.corpus.archives import Entry
from sevenfold.corpus.archives.entry import BLOCK

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}
_SETTINGS = ("safe.directory=*", "core.hooksPath=" + os.devnull, "core.fsmonitor=false")
_FILE_MODES = (b"100644", b"100755", b"100664")
_SUBMODULE = b"160000"
_TREE_MODES = (b"40000", b"040000")
MAX_TREE_BYTES = 64 << 20
MAX_DEPTH = 200


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A path of a commit. `name` is the name in the repository, `object` is hexadecimal. Links are
    blobs and not files.
    """

    name: str
    object: str
    is_file: bool
    is_blob: bool


def _environment() -> dict[str, str]:
    # Variables for the git of the caller (GIT_DIR, GIT_OBJECT_DIRECTORY) must not reach this one.
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _ENVIRONMENT


class Objects:
    """A process `git cat-file --batch` that returns one object after the other."""

    def __init__(self, process: subprocess.Popen[bytes], repository: Path) -> None:
        if process.stdin is None or process.stdout is None:
            raise UsageError("git was started without pipes")
        self._process = process
        self._ask: IO[bytes] = process.stdin
        self._answer: IO[bytes] = process.stdout
        self._repository = repository

    def tree(self, commit: str) -> list[TreeEntry]:
        """Return all paths of a commit, ordered by their bytes.

        Raises:
            StorageError: the commit does not exist, an object is missing, or one does not match its
                name.
        """
        try:
            head = self._read(commit, "the commit", b"commit", MAX_TREE_BYTES)
        except _Missing as missing:
            raise StorageError(
                f"git cannot list commit {commit}: {missing.why}",
                where=str(self._repository),
                remedy="fetch the commit into that repository, or correct the path",
            ) from None
        first = head.partition(b"\n")[0].split(b" ")
        if len(first) != 2 or first[0] != b"tree":
            raise self._damaged(commit, "the commit", "names no tree")
        found: list[tuple[bytes, TreeEntry]] = []
        waiting = [(b"", first[1].decode("ascii", "replace"), 0)]
        while waiting:
            path, identifier, depth = waiting.pop()
            shown = os.fsdecode(path) or "the root"
            if depth > MAX_DEPTH:
                raise self._damaged(identifier, shown, f"is more than {MAX_DEPTH} folders deep")
            data = self._tree_bytes(identifier, shown)
            for mode, name, child in self._entries(data, identifier, shown):
                below = path + b"/" + name if path else name
                if mode in _TREE_MODES:
                    waiting.append((below, child, depth + 1))
                else:
                    entry = TreeEntry(os.fsdecode(below), child, mode in _FILE_MODES, mode != _SUBMODULE)
                    found.append((below, entry))
        return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]

    def _tree_bytes(self, identifier: str, path: str) -> bytes:
        try:
            return self._read(identifier, path, b"tree", MAX_TREE_BYTES)
        except _Missing:
            raise self._missing(identifier, path) from None

    def _entries(self, data: bytes, identifier: str, path: str) -> Iterator[tuple[bytes, bytes, str]]:
        """Yield (mode, name, object) of a tree, which is a sequence of `mode SP name NUL hash`."""
        n_hash, place = len(identifier) // 2, 0
        while place < len(data):
            end = data.find(b"\0", place)
            mode, _, name = data[place:end].partition(b" ")
            place = end + 1 + n_hash
            if end < 0 or not name or b"/" in name or place > len(data):
                raise self._damaged(identifier, path, "is no tree")
            yield mode, name, data[end + 1 : place].hex()

    def read(self, identifier: str, path: str, max_bytes: int) -> Entry:
        """Return one blob. A longer one is hashed and counted and not held.

        Raises:
            StorageError: it is missing, or does not match its name.
        """
        hasher, held = hashlib.sha256(), bytearray()
        try:
            n_bytes = self._stream(identifier, path, b"blob", max_bytes, hasher, held)
        except _Missing:
            raise self._missing(identifier, path) from None
        if n_bytes > max_bytes:
            return Entry(path, None, n_bytes, hasher.hexdigest(), "too_large")
        return Entry(path, bytes(held), n_bytes, sha256(bytes(held)).hex())

    def _read(self, identifier: str, path: str, kind: bytes, max_bytes: int) -> bytes:
        held = bytearray()
        if self._stream(identifier, path, kind, max_bytes, hashlib.sha256(), held) > max_bytes:
            raise self._damaged(identifier, path, f"has more than {max_bytes} bytes")
        return bytes(held)

    def _stream(
        self, identifier: str, path: str, kind: bytes, max_bytes: int, content: hashlib._Hash, held: bytearray
    ) -> int:
        """Read one object to its end, and hold up to `max_bytes`. Return its length after its hash
        was checked.
        """
        try:
            self._ask.write(identifier.encode("ascii", "replace") + b"\n")
            self._ask.flush()
        except BrokenPipeError:
            raise _Missing(self._last_word()) from None
        header = self._answer.readline().split()
        if len(header) != 3 or header[1] != kind:
            raise _Missing(b" ".join(header[1:2]).decode("ascii", "replace") or self._last_word())
        n_bytes = left = int(header[2])
        name = hashlib.new("sha1" if len(identifier) == 40 else "sha256", usedforsecurity=False)
        name.update(b"%s %d\0" % (kind, n_bytes))
        while left:
            block = self._answer.read(min(left, BLOCK))
            if not block:
                raise self._damaged(identifier, path, "ends early")
            left -= len(block)
            content.update(block)
            name.update(block)
            if n_bytes <= max_bytes:
                held += block
        self._answer.read(1)
        if name.hexdigest() != identifier:
            raise self._damaged(identifier, path, f"has the hash {name.hexdigest()}")
        return n_bytes

    def _last_word(self) -> str:
        """Return the last message of git before it ended."""
        error = self._process.stderr
        said = error.read().decode("utf-8", "replace").strip().splitlines() if error else []
        return said[-1] if said else "no reason given"

    def _missing(self, identifier: str, path: str) -> StorageError:
        return StorageError(
            f"object {identifier} ({path}) is not in the repository",
            where=str(self._repository),
            remedy="a partial or shallow clone lacks it: fetch it there first",
        )

    def _damaged(self, identifier: str, path: str, why: str) -> StorageError:
        return StorageError(
            f"object {identifier} ({path}) {why}",
            where=str(self._repository),
            remedy="the repository is damaged: `git fsck` lists what is, and a fresh clone mends it",
        )


class _Missing(Exception):  # noqa: N818  (an outcome that the caller names)
    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


@contextmanager
def open_objects(repository: Path) -> Iterator[Objects]:
    """Yield the objects of a repository.

    Raises:
        StorageError: no such directory.
        UsageError: git is not installed.
    """
    if not repository.is_dir():
        raise StorageError("no such repository", where=str(repository), remedy="clone it there first")
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    command = ["git", *settings, "-C", str(repository), "cat-file", "--batch"]
    try:
        process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise UsageError(
            "reading a repository needs git, which is not installed", remedy="install git"
        ) from None
    try:
        yield Objects(process, repository)
    finally:
        process.kill()
        process.communicate()
