"""A git repository at one commit, read from its objects: `ls-tree` and `cat-file`, no work tree, no hooks, no network.

A commit names its bytes, so nothing of the machine enters: no attributes, no replacements, no filters, no configuration.
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
from sevenfold.corpus.archives.entry import BLOCK, faulty, safe_path, shown
from sevenfold.corpus.document import Found, Origin, found_entry
from sevenfold.corpus.globs import chooser
from sevenfold.corpus.licences import Survey
from sevenfold.corpus.licences.survey import MAX_LICENCE_BYTES, MAX_LINKS
from sevenfold.recipe.schema import GitSource

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
_SUBMODULE = "160000"
_FILE_MODES = ("100644", "100755", "100664")


def read_git(source: GitSource, base: Path, max_bytes: int) -> Iterator[Found]:
    """Documents of a repository at a commit, by path compared as bytes.

    Raises:
        StorageError: no such repository, no such commit, or an object is missing.
        UsageError: git is not installed.
    """
    wants = chooser(source.include, source.exclude)
    repository = base / source.path
    entries = _tree(repository, source.commit)
    survey = Survey(None, source.licence)
    origin = Origin(
        source=f"git:{source.path}",
        version=source.commit,
        licence=None,
        licence_evidence="",
        domain=source.domain,
    )
    with _objects(repository) as objects:
        _look_through(survey, entries, objects)
        for entry in entries:
            path = safe_path(entry.name)
            if path is None:
                yield found_entry(origin, faulty(entry.name, "unsafe_path"))
            elif not wants(shown(path)):
                continue
            elif not entry.is_file:
                yield found_entry(origin, faulty(path, "link"))
            else:
                found = objects.read(entry.object, shown(path), max_bytes)
                yield found_entry(origin.under(survey.licence_of(path, found.data)), found)


def _look_through(survey: Survey, entries: list[_TreeEntry], objects: _Objects) -> None:
    """Give a survey what it wants of a tree; links are followed within the tree."""
    by_path = {path: entry for entry in entries if (path := safe_path(entry.name))}
    wanted = [path for path in by_path if survey.wants(path)]
    for _ in range(MAX_LINKS + 1):
        for path in wanted:
            entry = by_path[path]
            found = objects.read(entry.object, path, MAX_LICENCE_BYTES).data if entry.is_blob else None
            if entry.is_file or found is None:
                survey.add(path, found)
            else:
                survey.add_link(path, os.fsdecode(found))
        wanted = [path for path in survey.unread() if path in by_path]
        if not wanted:
            break
    survey.missing()


@dataclass(frozen=True, slots=True)
class _TreeEntry:
    name: str
    object: str
    is_file: bool
    is_blob: bool


def _command(repository: Path, *arguments: str) -> list[str]:
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    return ["git", *settings, "-C", str(repository), *arguments]


def _environment() -> dict[str, str]:
    # What the caller's own git was told (GIT_DIR, GIT_OBJECT_DIRECTORY) must not reach this one.
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _ENVIRONMENT


def _tree(repository: Path, commit: str) -> list[_TreeEntry]:
    if not repository.is_dir():
        raise StorageError("no such repository", where=str(repository), remedy="clone it there first")
    command = _command(repository, "ls-tree", "-r", "-z", "--full-tree", f"{commit}^{{commit}}")
    try:
        done = subprocess.run(
            command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise UsageError(
            "reading a repository needs git, which is not installed", remedy="install git"
        ) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise StorageError(
            f"git cannot list commit {commit}: {said[-1] if said else 'no reason given'}",
            where=str(repository),
            remedy="fetch the commit into that repository, or correct the path",
        )
    found = []
    for line in sorted(done.stdout.split(b"\0"), key=lambda line: line.partition(b"\t")[2]):
        about, _, name = line.partition(b"\t")
        if name:
            mode, _, identifier = about.decode("ascii").split(" ")
            found.append(_TreeEntry(os.fsdecode(name), identifier, mode in _FILE_MODES, mode != _SUBMODULE))
    return found


class _Objects:
    """`git cat-file --batch`: one process, one object after the other."""

    def __init__(self, process: subprocess.Popen[bytes], repository: Path) -> None:
        if process.stdin is None or process.stdout is None:
            raise UsageError("git was started without pipes")
        self._ask: IO[bytes] = process.stdin
        self._answer: IO[bytes] = process.stdout
        self._repository = repository

    def read(self, identifier: str, path: str, max_bytes: int) -> Entry:
        """One blob; a longer one is hashed and counted, never held."""
        self._ask.write(identifier.encode() + b"\n")
        self._ask.flush()
        header = self._answer.readline().split()
        if len(header) != 3 or header[1] != b"blob":
            raise StorageError(
                f"object {identifier} ({path}) is not in the repository",
                where=str(self._repository),
                remedy="a partial or shallow clone lacks it: fetch it there first",
            )
        n_bytes = left = int(header[2])
        hasher, held = hashlib.sha256(), bytearray()
        while left:
            block = self._answer.read(min(left, BLOCK))
            if not block:
                raise StorageError(f"object {identifier} ({path}) ends early", where=str(self._repository))
            left -= len(block)
            hasher.update(block)
            if n_bytes <= max_bytes:
                held += block
        self._answer.read(1)
        if n_bytes > max_bytes:
            return Entry(path, None, n_bytes, hasher.hexdigest(), "too_large")
        return Entry(path, bytes(held), n_bytes, sha256(bytes(held)).hex())


@contextmanager
def _objects(repository: Path) -> Iterator[_Objects]:
    process = subprocess.Popen(
        _command(repository, "cat-file", "--batch"),
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _Objects(process, repository)
    finally:
        process.kill()
        process.communicate()
