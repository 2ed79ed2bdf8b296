"""Yield every file of an archive in its own order, with a named fault for each that cannot be read.

An archive that fails as a whole gives one entry with its name and `corrupt` or `bomb`, after the
entries that could be read. Nothing is written to disk. Memory: one file of `max_bytes`, and the
names.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, cast

from sevenfold.corpus.archives.entry import (
    DAMAGE,
    Bomb,
    Budget,
    Entry,
    Fault,
    faulty,
    read_entry,
    safe_path,
    shown,
)
from sevenfold.corpus.archives.streams import Forward, Slice, decompressed

Wanted = Callable[[str], bool]

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
# Maximal length of the path of a link in bytes.
_MAX_TARGET = 4096
# Members of a Debian package that hold no files of it. Names with an underscore are free for other
# tools (deb(5)).
_OTHER_MEMBER = re.compile(r"(?:debian-binary|control\.tar(?:\.\w+)?|_.*)/?")
# What follows a zip entry that was written as a stream: sizes of four or eight bytes, with or
# without a signature.
_ZIP_DESCRIPTORS = (0, 12, 16, 20, 24)
_ZIP_LOCAL = struct.Struct("<26xHH")
_ZIP_END = struct.Struct("<4s16xH")


def read_archive(
    file: IO[bytes], name: str, wanted: Wanted, max_bytes: int, *, links: bool = False
) -> Iterator[Entry]:
    """Yield the entries whose path `wanted` accepts. Faults of names are reported for every entry.

    Args:
        file: a seekable binary file that holds a zip, a tar (plain or compressed) or a .deb; its
            bytes decide which.
        name: the name of the archive, when it fails as a whole.
        wanted: decides for a safe path whether to read it.
        max_bytes: a longer file is yielded without its bytes.
        links: yield every link, also one that is not wanted.
    """
    n_stored = file.seek(0, os.SEEK_END)
    file.seek(0)
    names = _Names(wanted, Budget(n_stored), links=links)
    try:
        head = file.read(8)
        file.seek(0)
        if head == _AR_MAGIC:
            yield from _read_deb(file, name, n_stored, names, max_bytes)
        elif head.startswith(b"PK"):
            yield from _read_zip(file, name, n_stored, names, max_bytes)
        else:
            yield from _read_tar(file, name, names, max_bytes)
    except Bomb:
        yield faulty(name, "bomb")
    except DAMAGE:
        yield faulty(name, "corrupt")


class _Names:
    """Checks names and returns the path to use, or the fault. A repeated name is reported as a
    duplicate and not read again.
    """

    def __init__(self, wanted: Wanted, budget: Budget, *, links: bool) -> None:
        self._wanted, self._links = wanted, links
        self.budget = budget
        self._seen: set[str] = set()

    def judge(self, name: str, *, is_link: bool) -> tuple[str | None, Entry | None]:
        """Return (path to read, None), (None, entry with the fault), or (None, None) when it is not
        wanted.
        """
        self.budget.enter()
        path = safe_path(name)
        if path is None:
            return None, faulty(name, "unsafe_path")
        path = shown(path)
        if path in self._seen:
            return None, faulty(name, "duplicate_name")
        self._seen.add(path)
        is_wanted = self._wanted(path)
        return (path, None) if is_wanted or (is_link and self._links) else (None, None)


def _read_zip(file: IO[bytes], name: str, n_stored: int, names: _Names, max_bytes: int) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        if _has_hidden_bytes(file, archive, n_stored):
            yield faulty(name, "trailing_data")
        for info in archive.infolist():
            if info.is_dir():
                continue
            # `filename` ends at a NUL. The archive holds `orig_filename`.
            mode = info.external_attr >> 16
            is_special = stat.S_IFMT(mode) not in (0, stat.S_IFREG)
            path, fault = names.judge(info.orig_filename, is_link=is_special)
            if fault is not None:
                yield fault
            if path is None:
                continue
            if is_special:
                yield faulty(path, "link", target=_zip_target(archive, info, mode))
            elif info.flag_bits & 1:
                yield faulty(path, "encrypted", info.file_size)
            else:
                yield _zip_entry(archive, info, path, max_bytes, names.budget)


def _zip_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo, mode: int) -> str | None:
    """Return the target of a link, which is the bytes of its entry."""
    if not stat.S_ISLNK(mode) or info.flag_bits & 1:
        return None
    try:
        with archive.open(info) as member:
            return shown(os.fsdecode(member.read(_MAX_TARGET)))
    except DAMAGE:
        return None


def _tar_target(member: tarfile.TarInfo, path: str) -> str | None:
    """Return the target of a link. The path of a hard link starts at the top of the archive."""
    if member.issym():
        return shown(member.linkname)
    top = safe_path(member.linkname) if member.islnk() else None
    return posixpath.relpath(shown(top), posixpath.dirname(path) or ".") if top else None


def _has_hidden_bytes(file: IO[bytes], archive: zipfile.ZipFile, n_stored: int) -> bool:
    """Return whether bytes stand before, between or after the entries in the directory of a zip."""
    place = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if not 0 <= info.header_offset - place <= (0 if not place else max(_ZIP_DESCRIPTORS)):
            return True
        file.seek(info.header_offset)
        n_name, n_extra = _ZIP_LOCAL.unpack(file.read(_ZIP_LOCAL.size))
        if place and info.header_offset - place not in _ZIP_DESCRIPTORS:
            return True
        place = info.header_offset + _ZIP_LOCAL.size + n_name + n_extra + info.compress_size
    if archive.start_dir - place not in _ZIP_DESCRIPTORS:
        return True
    end = n_stored - _ZIP_END.size - len(archive.comment)
    file.seek(max(0, end))
    mark, n_comment = _ZIP_END.unpack(file.read(_ZIP_END.size))
    return bool(mark != b"PK\5\6" or n_comment != len(archive.comment))


def _zip_entry(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, max_bytes: int, budget: Budget
) -> Entry:
    try:
        with archive.open(info) as member:
            return read_entry(path, member, max_bytes, budget)
    except DAMAGE:
        return faulty(path, "corrupt", info.file_size)


def _read_tar(file: IO[bytes], name: str, names: _Names, max_bytes: int) -> Iterator[Entry]:
    stream = Forward(decompressed(file), names.budget)
    n_members = 0
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", errors="surrogateescape") as archive:
        while (member := archive.next()) is not None:
            # The library would keep them all.
            archive.members.clear()  # type: ignore[attr-defined]  # typeshed leaves the list out
            n_members += 1
            if member.isdir():
                continue
            path, fault = names.judge(member.name, is_link=not member.isfile())
            if fault is not None:
                yield fault
            if path is None:
                continue
            if not member.isfile() or member.issparse():
                kind: Fault = "link" if not member.isfile() else "corrupt"
                yield faulty(path, kind, member.size, _tar_target(member, path))
                continue
            source = archive.extractfile(member)
            if source is None:
                yield faulty(path, "corrupt", member.size)
                continue
            # The stream below counts these bytes.
            entry = read_entry(path, source, max_bytes, None)
            if entry.n_bytes != member.size:
                raise EOFError(f"{path} ends early")
            yield entry
    # The library stops without an error at an invalid header, and does not read past the two blocks
    # of zeros.
    if any(stream.last):
        raise EOFError(f"no header behind member {n_members}")
    if len(stream.last) < tarfile.BLOCKSIZE:
        raise EOFError("no end of the archive")
    if stream.has_more():
        yield faulty(name, "trailing_data")


def _read_deb(file: IO[bytes], name: str, n_stored: int, names: _Names, max_bytes: int) -> Iterator[Entry]:
    found, others = False, list[Entry]()
    for member, offset, size in _ar_members(file, n_stored):
        if re.fullmatch(r"data\.tar(?:\.\w+)?/?", member):
            if found:
                yield faulty(name, "trailing_data")
                return
            found = True
            part = cast("IO[bytes]", Slice(file, offset, size))
            yield from _read_tar(part, name, names, max_bytes)
        elif not _OTHER_MEMBER.fullmatch(member):
            others.append(faulty(f"{name}/{member}", "trailing_data", size))
    if not found:
        raise EOFError("no data.tar in the package")
    yield from others


def _ar_members(file: IO[bytes], n_stored: int) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset, size) of the members of an ar archive (header: 16 name, 12, 6, 6, 8, 10
    size, 2 end).
    """
    offset = len(_AR_MAGIC)
    while offset < n_stored:
        file.seek(offset)
        header = file.read(_AR_HEADER)
        if len(header) < _AR_HEADER or header[58:] != b"`\n":
            raise EOFError("a damaged ar header")
        size = int(header[48:58].decode("ascii"))
        offset += _AR_HEADER
        if size < 0 or offset + size > n_stored:
            raise EOFError("an ar member longer than the file")
        yield header[:16].decode("utf-8", "replace").rstrip(), offset, size
        offset += size + size % 2
