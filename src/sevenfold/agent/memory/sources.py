"""Read the texts of a source: a git repository at a commit, or a directory of files.

In = kept + every named drop. Links are never followed, so circular links do no harm. The reader of
the corpus stage reads and hashes git objects.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError, storage_error
from sevenfold.corpus.document import is_pointer, language_of
from sevenfold.corpus.sources.git_objects import Objects, TreeEntry, open_objects

MAX_FILE_BYTES = 8 << 20
_GIT_FOLDERS = frozenset((".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv"))
_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- \t]{1,200})")
_HEAD_BYTES = 4096
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile:
    """A file of a source. `read` returns its bytes, or the reason why it is dropped.

    Attributes:
        git: the name of its object; "" for a file of a directory.
    """

    path: str
    git: str
    read: Callable[[], bytes | str]


@dataclass(kw_only=True)
class MemorySource:
    """An open source: its name, the files by path, and the files that were left out without being
    read.
    """

    name: str
    commit: str
    time: int
    files: list[MemoryFile]
    dropped: Counter[str] = field(default_factory=Counter)


def refusal_of(data: bytes) -> str:
    """Return why a text is not stored; "" when it is."""
    if not data.strip():
        return "empty"
    if b"\0" in data[:8192]:
        return "binary"
    if is_pointer(data):
        return "pointer"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    return "binary" if b"\0" in data else ""


def licence_of(data: bytes, default: str) -> str:
    """Return the SPDX tag at the start of a text, or the licence of the source."""
    found = _TAG.search(data[:_HEAD_BYTES])
    return found[1].decode().strip().rstrip("*/- \t") if found else default


def language_name(path: str) -> str:
    """Return the language of a path by its ending."""
    return language_of(path)


@contextmanager
def open_source(path: Path, name: str = "") -> Iterator[MemorySource]:
    """Open a source: the commit HEAD of a repository, or the files of a directory.

    Args:
        name: the name in entries; "" takes the last part of the path.

    Raises:
        StorageError: the directory does not exist, or an object or a folder cannot be read.
        UsageError: git is needed but not installed, or the name is empty.
    """
    if not path.is_dir():
        raise StorageError(
            "no such directory" if not path.exists() else "it is a file",
            where=str(path),
            remedy="name a directory or a git repository",
        )
    name = name or path.resolve().name
    if not name or "\0" in name:
        raise UsageError(f"a source needs a name, {name!r} is none", remedy="give --source NAME")
    if (path / ".git").exists() or ((path / "objects").is_dir() and (path / "HEAD").is_file()):
        commit, time = _head(path)
        with open_objects(path) as objects:
            yield _of_repository(name, commit, time, objects)
    else:
        yield _of_directory(name, path)


def _head(path: Path) -> tuple[str, int]:
    """Return the commit HEAD of a repository and its time."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-c", "safe.directory=*", "-C", str(path), "show", "-s", "--format=%H %ct", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment | {"LC_ALL": "C"}
        )
    except FileNotFoundError:
        raise UsageError("a repository needs git, which is not installed", remedy="install git") from None
    commit, _, time = done.stdout.strip().partition(" ")
    if done.returncode or not _COMMIT.fullmatch(commit) or not time.isdigit():
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise StorageError(
            f"git finds no commit HEAD: {said[-1]}", where=str(path), remedy="commit something there first"
        )
    return commit, int(time)


def _of_repository(name: str, commit: str, time: int, objects: Objects) -> MemorySource:
    source = MemorySource(name=name, commit=commit, time=time, files=[])
    for entry in objects.tree(commit):
        if not entry.is_file:
            source.dropped["link" if entry.is_blob else "submodule"] += 1
        elif not _is_text(entry.name):
            source.dropped["path_not_utf8"] += 1
        else:
            source.files.append(
                MemoryFile(path=entry.name, git=entry.object, read=_object_reader(objects, entry))
            )
    return source


def _object_reader(objects: Objects, entry: TreeEntry) -> Callable[[], bytes | str]:
    def read() -> bytes | str:
        found = objects.read(entry.object, entry.name, MAX_FILE_BYTES)
        return "too_large" if found.data is None else found.data

    return read


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_directory(name: str, root: Path) -> MemorySource:
    source = MemorySource(name=name, commit="", time=0, files=[])

    def refuse(error: OSError) -> None:
        raise storage_error(error)

    found: list[tuple[bytes, str, str]] = []
    for directory, below, names in os.walk(root, onerror=refuse):
        source.dropped["link"] += sum(Path(directory, one).is_symlink() for one in below)
        below[:] = [one for one in below if one not in _GIT_FOLDERS]
        prefix = os.path.relpath(directory, root)
        for one in names:
            relative = one if prefix == "." else f"{prefix}/{one}"
            found.append((os.fsencode(relative), relative, f"{directory}/{one}"))
    for _, relative, file in sorted(found):
        if not _is_text(relative):
            source.dropped["path_not_utf8"] += 1
            continue
        mode = os.lstat(file).st_mode
        if not stat.S_ISREG(mode):
            source.dropped["link" if stat.S_ISLNK(mode) else "not_a_file"] += 1
            continue
        source.files.append(MemoryFile(path=relative, git="", read=_file_reader(file)))
    source.dropped += Counter()  # Leave out reasons that never occurred.
    return source


def _file_reader(file: str) -> Callable[[], bytes | str]:
    def read() -> bytes | str:
        try:
            with Path(file).open("rb") as handle:
                data = handle.read(MAX_FILE_BYTES + 1)
        except OSError:
            return "unreadable"
        return "too_large" if len(data) > MAX_FILE_BYTES else data

    return read
