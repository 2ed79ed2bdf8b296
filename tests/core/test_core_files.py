"""Files appear whole or not at all, also when the disk is full or the writer fails."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NoReturn

import pytest

from sevenfold.core import files
from sevenfold.core.errors import StorageError
from sevenfold.core.files import (
    atomic_writer,
    read_bytes,
    read_json,
    remove_partials,
    write_bytes,
    write_json,
)


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_writer(path) as file:
        file.write(b"half of the ne")
        raise error


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_round_trip_in_a_new_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"one")
    write_bytes(path, memoryview(b"two"))
    assert read_bytes(path) == b"two"
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o600])
def test_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"x", mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    write_bytes(path, b"y", mode)  # a read-only file is replaced, not written into
    assert path.read_bytes() == b"y"


def test_json_is_canonical_and_ends_the_line(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"b": 1, "a": [2.5]})
    assert path.read_bytes() == b'{"a":[2.5],"b":1}\n'
    assert read_json(path) == {"a": [2.5], "b": 1}


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_writer_that_fails_leaves_what_was_there(
    tmp_path: Path, old: bytes | None, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error):
        write_half(path, error)
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_readers_see_nothing_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_writer(path) as file:
        file.write(b"data")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"data"


def test_data_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    path = tmp_path / "file"
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "data")
        real_fsync(handle)

    def replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_bytes(path, b"x")
    assert order == ["data", "rename", "directory"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no space left on the device (free some space"),
        (errno.EDQUOT, "disk quota exceeded (free some space"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: write_bytes(path, b"new"), lambda: write_json(path, {})):
        with pytest.raises(StorageError) as caught:
            write()
        assert caught.value.exit_code == 4
        assert str(caught.value).startswith(f"{path}: {message}")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_part_of_the_path_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        write_bytes(tmp_path / "file" / "below", b"x")
    assert caught.value.exit_code == 4


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    for read in (read_bytes, read_json):
        with pytest.raises(StorageError, match=r"no such file or directory \(check the path\)"):
            read(tmp_path / "absent")
    with pytest.raises(StorageError, match="it is a directory"):
        read_bytes(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"{} {}", b"\x80"])
def test_json_that_is_not(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="not valid JSON") as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path))


def test_partial_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for name in ("kept", "kept.partial", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    for name in (".model.s7l.abc123.partial", ".x.partial"):
        (tmp_path / name).write_bytes(b"half")
    remove_partials(tmp_path)
    assert names(tmp_path) == [".hidden", "directory", "kept", "kept.partial"]
    remove_partials(tmp_path / "directory")


def test_a_killed_writer_leaves_only_a_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SIGKILL runs no clean-up: the file under its temporary name is all that stays,
    # and its name is recognised.
    path = tmp_path / "file"
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(ZeroDivisionError):
        write_half(path, ZeroDivisionError)
    monkeypatch.undo()
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].endswith(files.PARTIAL_SUFFIX)
    remove_partials(tmp_path)
    assert names(tmp_path) == []
