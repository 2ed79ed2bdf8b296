"""What could leave without a row in the ledger: each is a named drop, or a refusal."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from package_builders import ar_of, deb_of, stored, tar_of, zip_of
from pyarrow import parquet

from sevenfold.core.errors import RecipeError, StorageError
from sevenfold.corpus.archives import read_archive
from sevenfold.corpus.document import SourceDocument, is_pointer
from sevenfold.corpus.fetch import PackageStore, read_lock
from sevenfold.corpus.fetch.pin import lock_of
from sevenfold.corpus.sources import read_source
from sevenfold.recipe.corpus_schema import (
    DatasetSource,
    DirectorySource,
    GitSource,
    JsonlSource,
    PinnedSource,
)

ONE, TWO = {"a.py": b"a = 1\n"}, {"b.py": b"b = 2\n"}


def faults(data: bytes) -> dict[str, str]:
    found = read_archive(io.BytesIO(data), "x", lambda path: True, 1000)
    return {entry.path: entry.fault or "" for entry in found}


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


CODECS = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_second_tar_behind_the_first_is_named(codec: Any) -> None:
    one, two = tar_of(ONE), tar_of(TWO)
    assert faults(codec(one)) == {"a.py": ""}
    if codec is not zstd:
        assert faults(codec(one) + bytes(4096)) == {"a.py": ""}
    assert faults(codec(one + two)) == {"a.py": "", "x": "trailing_data"}
    behind = faults(codec(one) + codec(two))
    assert behind["a.py"] == ""
    assert behind.get("x") in ("trailing_data", "corrupt")
    garbage = faults(codec(one) + b"garbage" * 200)
    assert garbage.get("x") in ("trailing_data", "corrupt")


def test_a_tar_whose_headers_break_off_is_corrupt() -> None:
    one = tar_of({"a.py": b"a = 1\n", "b.py": b"b = 2\n"})
    broken = one[:1024] + b"x" * 512 + one[1536:]
    assert faults(broken) == {"a.py": "", "x": "corrupt"}
    assert faults(one[:1024]) == {"a.py": "", "x": "corrupt"}
    assert faults(one[:1100])["x"] == "corrupt"


def test_bytes_of_a_zip_that_no_entry_accounts_for_are_named() -> None:
    one, two = zip_of(ONE), zip_of(TWO)
    assert faults(one) == {"a.py": ""}
    assert faults(one + two) == {"b.py": "", "x": "trailing_data"}
    assert faults(one + b"tail") == {"a.py": "", "x": "trailing_data"}
    assert faults(b"#!/bin/sh\n" + one) == {"x": "corrupt"}
    assert faults(b"PK\0\0prefix" + one) == {"a.py": "", "x": "trailing_data"}


def test_a_zip_written_as_a_stream_is_whole() -> None:
    import zipfile

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for name, data in (ONE | TWO).items():
            archive.writestr(name, data)
    assert faults(bytes(pipe.data)) == {"a.py": "", "b.py": ""}


def test_more_members_of_a_debian_package_are_named() -> None:
    data = lzma.compress(tar_of({"./a.py": b"a = 1\n"}))
    more = lzma.compress(tar_of({"./b.py": b"b = 2\n"}))
    assert faults(ar_of({"debian-binary": b"2.0\n", "data.tar.xz": data, "_gpg": b"x"})) == {"a.py": ""}
    assert faults(ar_of({"data.tar.xz": data, "data.tar": more})) == {"a.py": "", "x": "trailing_data"}
    assert faults(ar_of({"data.tar.xz": data, "more.tar": more})) == {
        "a.py": "",
        "x/more.tar": "trailing_data",
    }
    assert faults(deb_of({})) == {}


def test_a_package_without_documents_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PackageStore(tmp_path / "store")
    monkeypatch.setenv("S7_PACKAGES", str(tmp_path / "store"))
    pins = [stored(store, kind, {}, name=f"e{kind}") for kind in ("pypi", "npm", "deb")]
    pins.append(stored(store, "npm", {"x.bin": b"1"}, name="other"))
    pins.append(stored(store, "npm", {"x.py": b"a = 1\n"}, name="full"))
    (tmp_path / "l.lock.json").write_text(json.dumps(lock_of(pins)))
    found = list(read_source(PinnedSource(kind="lock", path="l.lock.json"), tmp_path, 1000))
    assert {f.origin.source: f.problem for f in found} == {
        "pypi:epypi": "no_documents",
        "npm:enpm": "no_documents",
        "deb:edeb": "no_documents",
        "npm:other": "no_documents",
        "npm:full": None,
    }


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"


@pytest.mark.parametrize(
    "data",
    [
        LFS,
        LFS.replace(b"\n", b"\r\n"),
        LFS.replace(b"git-lfs", b"hawser"),
        LFS.replace(b"oid", b"ext-0-foo sha256:00\noid"),
        b"/annex/objects/SHA256E-s1--aa.py\n",
        b"../../.git/annex/objects/q/w/SHA256E-s1--aa.py/SHA256E-s1--aa.py",
    ],
)
def test_a_pointer_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.py").write_bytes(data)
    (tmp_path / "t" / "b.py").write_bytes(b"# version https://git-lfs.github.com/spec/v1 is what it says\n")
    source = DirectorySource(kind="directory", path="t", licence="MIT", include=("*.py",))
    assert [f.problem for f in read_source(source, tmp_path, 1000)] == ["pointer", None]
    assert not is_pointer(data + b"x = 1\n" * 200)


TWICE = (
    '{"text": "one", "text": "two"}', '{"l": "GPL-3.0-only", "text": "x", "l": "MIT"}', '{"text": "x", "m": '
        '{"a": 1, "a": 1}}',
    '{"te\\u0078t": "one", "text": "two"}', '{"text": "x", "m": [{"a": 1, "a": 2}]}',
)  # fmt: skip


@pytest.mark.parametrize("line", TWICE)
def test_a_record_with_a_key_twice_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(line + '\n{"text": "fine"}\n')
    found = list(read_source(JsonlSource(kind="jsonl", path="r.jsonl", licence="MIT"), tmp_path, 1000))
    assert [f.problem for f in found] == ["duplicate_key", None]


def test_a_lock_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.lock.json"
    path.write_text('{"npm": [], "npm": []}')
    with pytest.raises(RecipeError, match="stands there twice"):
        read_lock(path)


def test_a_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["one"]), pa.array(["two"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(StorageError, match="stands there twice"):
        list(read_source(DatasetSource(kind="dataset", path="t.parquet", licence="MIT"), tmp_path, 1000))


# git


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    """A repository of two files, one in a folder, and its commit."""
    root = tmp_path / "repo"
    (root / "d").mkdir(parents=True)
    (root / "a.py").write_bytes(b"a = 1\n")
    (root / "d" / "b.py").write_bytes(b"b = 2\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    return root, git(root, "rev-parse", "HEAD")


def git(root: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(root), *settings, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def read(base: Path, commit: str, max_bytes: int = 1000) -> list[SourceDocument]:
    source = GitSource(kind="git", path="repo", commit=commit, licence="MIT")
    return list(read_source(source, base, max_bytes))


@pytest.mark.parametrize("of", ["", "^{tree}", ":d", ":a.py", ":d/b.py"])
@pytest.mark.parametrize("max_bytes", [1000, 3])
def test_a_loose_object_that_does_not_hash_to_its_name_is_refused(
    of: str, max_bytes: int, repository: tuple[Path, str], tmp_path: Path
) -> None:
    root, commit = repository
    assert [f.path for f in read(tmp_path, commit)] == ["a.py", "d/b.py"]
    name = git(root, "rev-parse", commit + of)
    kind = git(root, "cat-file", "-t", name)
    file = root / ".git" / "objects" / name[:2] / name[2:]
    whole = zlib.decompress(file.read_bytes())
    head, _, body = whole.partition(b"\0")
    changed = {"blob": body.replace(b"=", b"-"), "tree": body.replace(b".py", b".pz").replace(b"d\0", b"e\0")}
    file.chmod(0o644)
    file.write_bytes(zlib.compress(head + b"\0" + changed.get(kind, body[:-1] + b"y")))
    with pytest.raises(StorageError, match="has the hash"):
        read(tmp_path, commit, max_bytes)


def test_a_packed_object_that_is_another_is_refused(repository: tuple[Path, str], tmp_path: Path) -> None:
    root, commit = repository
    one, two = git(root, "rev-parse", f"{commit}:a.py"), git(root, "rev-parse", f"{commit}:d/b.py")
    git(root, "repack", "-adq")
    assert [f.data for f in read(tmp_path, commit)] == [b"a = 1\n", b"b = 2\n"]
    # The index says where each object is: two names change places, their offsets stay.
    [index] = (root / ".git" / "objects" / "pack").glob("*.idx")
    names = index.read_bytes()
    n = int.from_bytes(names[8 + 255 * 4 : 8 + 256 * 4], "big")
    offsets = 8 + 1024 + n * 20 + n * 4
    place = {k: (names.index(bytes.fromhex(k), 8 + 1024) - 8 - 1024) // 20 * 4 + offsets for k in (one, two)}
    swapped = bytearray(names)
    for ours, theirs in ((one, two), (two, one)):
        swapped[place[ours] : place[ours] + 4] = names[place[theirs] : place[theirs] + 4]
    index.chmod(0o644)
    index.write_bytes(bytes(swapped))
    with pytest.raises(StorageError, match=r"has the hash|is not in the repository"):
        read(tmp_path, commit)
