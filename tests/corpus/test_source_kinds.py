"""Installed packages, pinned packages, git repositories and data sets as sources."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from package_builders import Files, store_in, stored

from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.corpus.fetch.pin import lock_of
from sevenfold.corpus.query import ledger_path, query, summary_sql
from sevenfold.corpus.sources import SourceDocument, dataset, read_source, records
from sevenfold.corpus.stage import run
from sevenfold.recipe.corpus_schema import (
    DatasetSource,
    DirectorySource,
    GitSource,
    InstalledSource,
    JsonlSource,
    PinnedSource,
)
from sevenfold.runs.job import Job

GPL = b"# SPDX-License-Identifier: GPL-3.0-only\n"


def read(source: Any, base: Path, max_bytes: int = 1 << 20) -> list[SourceDocument]:
    return list(read_source(source, base, max_bytes))


def test_a_directory_file_that_states_another_licence_is_under_both(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.py").write_bytes(GPL + b"a = 1\n")
    (tmp_path / "d" / "b.py").write_bytes(b"# SPDX-License-Identifier: MIT\nb = 1\n")
    found = read(DirectorySource(kind="directory", path="d", licence="MIT"), tmp_path)
    assert [f.origin.licence for f in found] == ["GPL-3.0-only AND MIT", "MIT"]
    assert found[0].origin.licence_evidence == "declared by the recipe; SPDX tag in the file"


# installed


def install(base: Path, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    site = base / "site"
    for name, data in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.syspath_prepend(str(site))


def test_installed_packages_are_read_by_their_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = b"\n".join(f"{n},,".encode() for n in ("tiny/b.py", "tiny/a.py", "tiny/gpl.py", "tiny/lib.so",
            "../../../etc/x.py",
                                                    "tiny-1.2.dist-info/METADATA",
                                                    "tiny/gone.py"))  # fmt: skip
    install(tmp_path, monkeypatch, {
        "tiny/a.py": b"a = 1\n", "tiny/b.py": b"b = 2\n", "tiny/gpl.py": GPL, "tiny/lib.so": b"\x7fELF",
        "tiny/unlisted.py": b"c\n",
        "tiny-1.2.dist-info/METADATA": b"Name: tiny\nVersion: 1.2\nLicense-Expression: MIT\n",
        "tiny-1.2.dist-info/RECORD": record,
    })  # fmt: skip
    found = read(InstalledSource(kind="installed", packages=("tiny",)), tmp_path)
    assert [(f.path, f.origin.licence, f.problem) for f in found] == [
        ("tiny/a.py", "MIT", None), ("tiny/b.py", "MIT", None), ("tiny/gone.py", "MIT", "unreadable"),
        ("tiny/gpl.py", "GPL-3.0-only AND MIT", None),
    ]  # fmt: skip
    assert {(f.origin.source, f.origin.version) for f in found} == {("installed:tiny", "1.2")}
    some = read(
        InstalledSource(kind="installed", packages=("tiny",), include=("**/*.py",), exclude=("**/b.py",)),
        tmp_path,
    )
    assert "tiny/b.py" not in {f.path for f in some}


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="'no-such-package' is not installed"):
        read(InstalledSource(kind="installed", packages=("no-such-package",)), tmp_path)


def test_a_package_of_this_environment() -> None:
    found = read(InstalledSource(kind="installed", packages=("pluggy",)), Path())
    assert {f.origin.licence for f in found} == {"MIT"}
    assert "pluggy/_manager.py" in {f.path for f in found}


# lock


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Packages in a store, and the lock that pins them beside the recipe."""

    def make(**packages: tuple[Any, Files]) -> Path:
        store = store_in(tmp_path)
        monkeypatch.setenv("S7_PACKAGES", str(store.directory))
        pins = [stored(store, kind, files, name=name) for name, (kind, files) in packages.items()]
        (tmp_path / "x.lock.json").write_text(json.dumps(lock_of(pins)))
        return tmp_path

    return make


NPM = {
    "package.json": b'{"license": "MIT"}',
    "a.js": b"var a;\n",
    "lib/b.ts": b"let b;\n",
    "c.png": b"\x89PNG",
}


def test_pinned_packages_are_documents_with_source_version_and_licence(pinned: Callable[..., Path]) -> None:
    base = pinned(one=("npm", NPM), two=("deb", {"usr/share/x/a.py": b"a = 1\n"}))
    found = read(PinnedSource(kind="lock", path="x.lock.json"), base)
    assert [(f.origin.source, f.origin.version, f.path, f.origin.licence, f.language) for f in found] == [
        ("npm:one", "1.0", "package.json", "MIT", "json"), ("npm:one", "1.0", "a.js", "MIT", "javascript"),
        ("npm:one", "1.0", "lib/b.ts", "MIT", "typescript"),
        ("deb:two", "1.0", "usr/share/x/a.py", None, "python"),
    ]  # fmt: skip
    for only in (("npm",), ("on*",)):
        some = read(PinnedSource(kind="lock", path="x.lock.json", only=only, include=("**/*.js",)), base)
        assert [f.path for f in some] == ["a.js"]
    with pytest.raises(StorageError, match="no package in the lock"):
        read(PinnedSource(kind="lock", path="x.lock.json", only=("zz*",)), base)


def test_a_lock_that_is_not_fetched_is_one_line_with_the_command(
    pinned: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = pinned(**{f"n{i}": ("npm", NPM | {"i": str(i).encode()}) for i in range(7)})
    monkeypatch.setenv("S7_PACKAGES", str(base / "elsewhere"))
    with pytest.raises(StorageError) as caught:
        read(PinnedSource(kind="lock", path="x.lock.json"), base)
    assert "7 of 7 packages are not fetched: npm:n0 1.0" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert f"run `s7 corpus fetch {base / 'x.lock.json'}`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stored_package_with_another_hash_is_refused(pinned: Callable[..., Path]) -> None:
    base = pinned(one=("npm", NPM))
    [path] = (base / "packages").glob("sha512-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="not the one that was pinned"):
        read(PinnedSource(kind="lock", path="x.lock.json"), base)


def test_an_archive_that_is_damaged_is_a_named_drop_and_the_next_is_read(pinned: Callable[..., Path]) -> None:
    import hashlib

    base = pinned(one=("npm", NPM))
    lock = json.loads((base / "x.lock.json").read_text())
    data = b"not a package"
    (base / "packages" / f"sha256-{hashlib.sha256(data).hexdigest()}").write_bytes(data)
    lock["deb"] = [{"name": "bad", "version": "1", "sha256": hashlib.sha256(data).hexdigest()}]
    (base / "x.lock.json").write_text(json.dumps(lock))
    found = read(PinnedSource(kind="lock", path="x.lock.json"), base)
    assert [(f.path, f.problem) for f in found][-1] == ("bad_1.deb", "corrupt")
    assert len(found) == 4


def test_sources_of_debian_with_a_patch_instead_of_a_directory(tmp_path: Path) -> None:
    import hashlib

    from package_builders import tar_of

    from sevenfold.corpus.fetch.lock import Pin
    from sevenfold.corpus.globs import chooser
    from sevenfold.corpus.sources.packages import read_package

    store = store_in(tmp_path)
    patch = b"--- a/debian/copyright\n+++ b/debian/copyright\n@@ -0,0 +1,4 @@\n+Format: x\n+\n+Files: *\n"
    patch += b"+License: Expat\n--- a/z\n+++ b/z\n+no\n"
    lines = ["Checksums-Sha256:"]
    for name, data in (
        ("s_1.orig.tar.gz", gzip.compress(tar_of({"s-1/a.py": b"a = 1\n"}))),
        ("s_1-1.diff.gz", gzip.compress(patch)),
    ):
        digest = hashlib.sha256(data).hexdigest()
        (store.directory / f"sha256-{digest}").write_bytes(data)
        lines.append(f" {digest} {len(data)} {name}")
    dsc = ("\n".join(lines) + "\n").encode()
    digest = hashlib.sha256(dsc).hexdigest()
    (store.directory / f"sha256-{digest}").write_bytes(dsc)
    pin = Pin(kind="dsc", name="s", version="1-1", file="s_1-1.dsc", algorithm="sha256", digest=digest)
    found = list(read_package(store, pin, chooser(()), "code", 1000))
    assert [(f.path, f.origin.licence) for f in found] == [("a.py", "MIT")]


def test_the_corpus_of_a_lock_has_the_same_root_twice(
    pinned: Callable[..., Path], make_job: Callable[..., Job]
) -> None:
    from sevenfold.core.manifest import hash_outputs, output_root

    files = {f"f{i}.js": f"var f{i} = {i};\n".encode() for i in range(40)}
    pinned(
        one=("npm", NPM | files),
        two=("npm", NPM | {"gpl.js": b"// SPDX-License-Identifier: GPL-3.0-only\nvar a;\n"}),
    )
    roots = []
    for out in ("1", "2"):
        job = make_job([{"kind": "lock", "path": "x.lock.json"}], out=out)
        roots.append(output_root(hash_outputs(job.directory("corpus"), run(job).outputs)))
    assert roots[0] == roots[1]
    path = ledger_path(job.out)
    columns, rows = query(path, summary_sql("licence"))
    assert columns[:3] == ["licence", "seen", "kept"]
    assert {(row[0], row[1], row[2]) for row in rows} == {("MIT", 46, 43), ("GPL-3.0-only AND MIT", 1, 0)}
    assert query(path, "SELECT path FROM ledger WHERE reason = 'licence_not_allowed'")[1] == [("gpl.js",)]


# the ledger's questions


def test_the_ledger_answers_and_reaches_nothing_else(tmp_path: Path, make_job: Callable[..., Job]) -> None:
    (tmp_path / "tree").mkdir()
    for i in range(40):
        (tmp_path / "tree" / f"{i}.py").write_text(f"a = {i}\n")
    job = make_job([{"kind": "directory", "path": "tree", "licence": "MIT"}])
    run(job)
    path = ledger_path(job.out)
    assert ledger_path(path) == path == ledger_path(job.directory("corpus"))
    for by in ("source", "language", "licence", "evidence", "reason", "domain"):
        assert query(path, summary_sql(by))[1][0][1:3] == (40, 40)
    for bad in (
        "SELEC",
        "SELECT nothing FROM ledger",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SET enable_external_access = true",
        f"COPY ledger TO '{tmp_path / 'x'}'",
    ):
        with pytest.raises(UsageError, match="the question is refused"):
            query(path, bad)
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="cannot group by 'x'"):
        summary_sql("x")
    with pytest.raises(StorageError, match="no ledger"):
        ledger_path(tmp_path / "tree")
    with pytest.raises(StorageError, match="not a readable Parquet"):
        query(tmp_path / "tree" / "1.py", "SELECT 1")


# git


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[Files], str]:
    """repository(files) -> the commit that holds them, in tmp_path/repo."""

    def git(*arguments: str) -> str:
        settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path / "repo"), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def make(files: Files) -> str:
        root = tmp_path / "repo"
        root.mkdir(exist_ok=True)
        if not (root / ".git").exists():
            git("init", "-q")
        for name, data in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if not (root / "link.py").is_symlink():
            (root / "link.py").symlink_to("/etc/passwd")
        git("add", "-A")
        git("commit", "-q", "-m", "x")
        return git("rev-parse", "HEAD")

    return make


def test_a_repository_is_read_at_its_commit_whatever_the_work_tree_says(
    tmp_path: Path, repository: Callable[[Files], str]
) -> None:
    from identify.vendor.licenses import LICENSES

    files = {
        "b.py": b"b\r\n",
        "a/x.py": b"x\n",
        "LICENSE": dict(LICENSES)["MIT"].encode(),
        "big.py": b"y" * 5000,
        "v/LICENSE": dict(LICENSES)["GPL-3.0"].encode(),
        "v/z.py": b"z\n",
    }
    commit = repository(files)
    later = repository({"b.py": b"changed\n", ".gitattributes": b"* text eol=lf\n"})
    (tmp_path / "repo" / "b.py").write_bytes(b"not committed\n")
    marker = tmp_path / "ran"
    for hook in ("post-checkout", "fsmonitor-watchman"):
        (tmp_path / "repo" / ".git" / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (tmp_path / "repo" / ".git" / "hooks" / hook).chmod(0o755)
    found = read(GitSource(kind="git", path="repo", commit=commit), tmp_path, max_bytes=4000)
    assert [(f.path, f.data, f.problem, f.origin.licence) for f in found] == [
        ("a/x.py", b"x\n", None, "MIT"), ("b.py", b"b\r\n", None, "MIT"),
        ("big.py", None, "too_large", "MIT"),
        ("link.py", None, "link", None), ("v/z.py", b"z\n", None, "GPL-3.0-only AND MIT"),
    ]  # fmt: skip
    assert {f.origin.version for f in found} == {commit}
    assert not marker.exists()
    concluded = read(
        GitSource(kind="git", path="repo", commit=later, licence="Apache-2.0", include=("b.py",)), tmp_path
    )
    assert [(f.data, f.origin.licence) for f in concluded] == [(b"changed\n", "Apache-2.0")]


def test_a_repository_or_commit_that_is_not_there(tmp_path: Path, repository: Callable[[Files], str]) -> None:
    with pytest.raises(StorageError, match="no such repository"):
        read(GitSource(kind="git", path="nowhere", commit="0" * 40), tmp_path)
    repository({"a.py": b"a\n"})
    with pytest.raises(StorageError, match="cannot list commit 0000"):
        read(GitSource(kind="git", path="repo", commit="0" * 40), tmp_path)


def test_an_object_that_is_missing_is_named(tmp_path: Path, repository: Callable[[Files], str]) -> None:
    commit = repository({"a.py": b"unique text\n"})
    blob = subprocess.run(
        ["git", "-C", str(tmp_path / "repo"), "rev-parse", f"{commit}:a.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (tmp_path / "repo" / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(StorageError, match="is not in the repository"):
        read(GitSource(kind="git", path="repo", commit=commit), tmp_path)


# data sets


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)


def test_a_hub_directory_is_read_by_path_and_row(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "l": "MIT"} for i in range(7)]
    parquet(tmp_path / "hub/data/train-00001-of-00002.parquet", rows[4:])
    parquet(tmp_path / "hub/data/train-00000-of-00002.parquet", rows[:4])
    (tmp_path / "hub" / "README.md").write_text("about")
    found = read(DatasetSource(kind="dataset", path="hub", licence_key="l"), tmp_path)
    assert [f.data for f in found] == [f"t{i}".encode() for i in range(7)]
    assert found[4].path == "data/train-00001-of-00002.parquet:1"
    assert {f.origin.licence for f in found} == {"MIT"}


def test_the_stack_layout(tmp_path: Path) -> None:
    rows = [
        ("a = 1\n", ["MIT"], "x/a.py", "Python", "o/r"),
        ("b\n", ["MIT", "GPL-3.0"], "b", "C++", "o/s"),
        ("c\n", [], None, None, None),
        (None, ["MIT"], "d", "C", "o/r"),
    ]  # fmt: skip
    columns = records.LAYOUTS["the-stack"].columns()
    parquet(tmp_path / "stack.parquet", [dict(zip(columns, row, strict=True)) for row in rows])
    found = read(DatasetSource(kind="dataset", path="stack.parquet", layout="the-stack"), tmp_path)
    assert [(f.origin.licence, f.language, f.group, f.problem) for f in found] == [
        ("MIT", "python", "o/r", None), ("GPL-3.0-only AND MIT", "c++", "o/s", None),
        (None, "unknown", "", None),
        (None, "unknown", "", "unreadable"),
    ]  # fmt: skip


def zstd(data: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(data, asbytes=True)


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress),
                                              (".zst", zstd)])  # fmt: skip
def test_json_lines_in_every_compression(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    data = b"\n".join(json.dumps({"text": f"t{i}"}).encode() for i in range(100)) + b"\n[]\n"
    (tmp_path / f"x.jsonl{ending}").write_bytes(pack(data))
    for source in (
        JsonlSource(kind="jsonl", path=f"x.jsonl{ending}", licence="MIT"),
        DatasetSource(kind="dataset", path=f"x.jsonl{ending}", licence="MIT"),
    ):
        found = read(source, tmp_path)
        assert len(found) == 101
        assert (found[99].data, found[100].problem) == (b"t99", "unreadable")


def test_a_truncated_compression_is_an_error_not_a_silent_end(tmp_path: Path) -> None:
    data = gzip.compress(b"\n".join(json.dumps({"text": os.urandom(50).hex()}).encode() for i in range(200)))
    (tmp_path / "x.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match="damaged compression"):
        read(JsonlSource(kind="jsonl", path="x.jsonl.gz", licence="MIT"), tmp_path)


def test_parquet_that_is_damaged_or_has_no_text(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", [{"body": "x"}])
    with pytest.raises(StorageError, match="no column 'text'; it has body"):
        read(DatasetSource(kind="dataset", path="x.parquet", licence="MIT"), tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StorageError, match="not a readable Parquet file"):
        read(DatasetSource(kind="dataset", path="x.parquet", licence="MIT"), tmp_path)


@pytest.mark.parametrize("keys", [{}, {"licence": "MIT", "licence_key": "l"}])
def test_a_dataset_needs_one_way_to_a_licence(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="either `licence` or `licence_key`"):
        read(DatasetSource(kind="dataset", path="x.parquet", **keys), tmp_path)


def test_parquet_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": os.urandom(20_000).hex(), "l": "MIT"} for _ in range(400)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=20)
    monkeypatch.setattr(dataset, "ROWS_AT_ONCE", 4)
    tracemalloc.start()
    n_bytes = sum(
        f.n_bytes
        for f in read_source(
            DatasetSource(kind="dataset", path="x.parquet", licence_key="l"), tmp_path, 1 << 20
        )
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_bytes == 400 * 40_000
    assert peak < 4 << 20


def test_a_line_of_a_gigabyte_is_counted_and_never_held(tmp_path: Path) -> None:
    """200 MB here, for the time it takes; the limit on memory does not depend on the length."""
    with gzip.open(tmp_path / "x.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"text": "')
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"text": "next"}\n')
    began = time.monotonic()
    tracemalloc.start()
    found = read(JsonlSource(kind="jsonl", path="x.jsonl.gz", licence="MIT"), tmp_path, max_bytes=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(f.problem, f.n_bytes) for f in found] == [("too_large", 200_000_013), (None, 4)]
    assert peak < 16 << 20
    assert time.monotonic() - began < 120
