"""Sources yield what they see, in canonical order, whatever the file system says first."""

from __future__ import annotations

import json
import os
import platform
import sysconfig
from pathlib import Path, PurePosixPath

import pytest

from sevenfold.core.errors import RecipeError, StorageError
from sevenfold.corpus.globs import glob_matches
from sevenfold.corpus.sources import SourceDocument, jsonl, read_source
from sevenfold.corpus.sources.stdlib import stdlib_licence
from sevenfold.recipe.corpus_schema import DirectorySource, JsonlSource, PinnedSource, StdlibSource


def read_directory(
    base: Path, include: tuple[str, ...] = ("**/*",), max_bytes: int = 1000
) -> list[SourceDocument]:
    return list(
        read_source(
            DirectorySource(kind="directory", path="tree", licence="MIT", include=include), base, max_bytes
        )
    )


def read_jsonl(base: Path, lines: list[bytes], max_bytes: int = 1000, **keys: str) -> list[SourceDocument]:
    (base / "records.jsonl").write_bytes(b"\n".join(lines))
    keys = keys or {"licence": "MIT"}
    return list(read_source(JsonlSource(kind="jsonl", path="records.jsonl", **keys), base, max_bytes))


def write_tree(base: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = base / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return base / "tree"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**/*", "a.py", True),
        ("**/*", "a/b/c.py", True),
        ("**", "a/b.py", True),
        ("**/*.py", "a.py", True),
        ("*.py", "a/b.py", False),
        ("a/**/c.py", "a/c.py", True),
        ("a/**/c.py", "a/x/y/c.py", True),
        ("a/**/c.py", "b/c.py", False),
        ("?.[ch]", "x.h", True),
        ("?.[ch]", "xy.h", False),
        ("**/*", ".git/config", False),
        ("**/*", "a/.hidden", False),
        (".git/*", ".git/config", True),
        ("a", "a/b", False),
    ],
)
def test_globs(pattern: str, path: str, expected: bool) -> None:
    assert glob_matches(PurePosixPath(path).parts, PurePosixPath(pattern).parts) is expected


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../b", ""])
def test_a_glob_that_leaves_the_source_is_refused(tmp_path: Path, pattern: str) -> None:
    write_tree(tmp_path, {"a.py": b"a"})
    with pytest.raises(RecipeError, match="does not stay inside"):
        read_directory(tmp_path, include=(pattern,))


def test_directory_order_is_by_path_bytes_not_by_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"b/z.py": b"1", "b.py": b"2", "a/y.py": b"3", "B.py": b"4", "a.py": b"5"})
    paths = [found.path for found in read_directory(tmp_path)]
    assert paths == sorted(paths, key=str.encode)
    walk = os.walk

    def backwards(top, **options):
        for directory, subdirectories, names in walk(top, **options):
            subdirectories.reverse()
            yield directory, subdirectories, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert [found.path for found in read_directory(tmp_path)] == paths


def test_links_do_not_lead_out_of_the_source(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, {"a.py": b"inside"})
    (tmp_path / "outside.py").write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.py").write_bytes(b"secret")
    (tree / "out.py").symlink_to(tmp_path / "outside.py")
    (tree / "dir").symlink_to(tmp_path / "elsewhere")
    (tree / "in.py").symlink_to("a.py")
    (tree / "dangling.py").symlink_to("nowhere")
    (tree / "loop.py").symlink_to("loop.py")
    (tree / "self").symlink_to(".")
    found = read_directory(tmp_path)
    assert [item.path for item in found] == ["a.py", "in.py"]
    assert {item.data for item in found} == {b"inside"}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, {"a.py": b"a"})
    os.mkfifo(tree / "pipe.py")
    assert [item.path for item in read_directory(tmp_path)] == ["a.py"]


def test_too_large_is_measured_and_hashed_but_not_held(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.py": b"x" * 1001, "b.py": b"x" * 1000})
    large, fits = read_directory(tmp_path)
    assert (large.problem, large.data, large.n_bytes) == ("too_large", None, 1001)
    assert large.sha256 != fits.sha256
    assert (fits.problem, fits.n_bytes) == (None, 1000)


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"a.py": b"a", "b.py": b"b"})
    opened = Path.open

    def refuse(self, *args, **options):
        if self.name == "a.py":
            raise PermissionError(13, "denied", str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert [(f.path, f.problem) for f in read_directory(tmp_path)] == [("a.py", "unreadable"), ("b.py", None)]


def test_a_name_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, {"a.py": b"a"})
    Path(os.fsdecode(os.fsencode(tree) + b"/b\xff.py")).write_bytes(b"b")
    assert [found.path for found in read_directory(tmp_path)] == ["a.py", "b\\xff.py"]


def test_a_missing_directory_and_one_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such directory"):
        read_directory(tmp_path)
    (tmp_path / "tree").write_bytes(b"")
    with pytest.raises(StorageError, match="not a directory"):
        read_directory(tmp_path)


def test_a_directory_that_cannot_be_listed_is_an_error_not_a_silent_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"a/b.py": b"a"})
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="permission denied"):
        read_directory(tmp_path)


def test_language_by_extension(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.RS": b"a", "b.unheard": b"b", "c": b"c"})
    assert [found.language for found in read_directory(tmp_path)] == ["rust", "unknown", "unknown"]


def test_jsonl_records(tmp_path: Path) -> None:
    lines = [b'{"text": "one"}', b"", b"  ", json.dumps({"text": "zwei \u00e4"}).encode()]
    found = read_jsonl(tmp_path, lines)
    assert [(f.path, f.data) for f in found] == [
        ("records.jsonl:1", b"one"),
        ("records.jsonl:4", "zwei \u00e4".encode()),
    ]
    assert {f.origin.licence for f in found} == {"MIT"}


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"3", b'"text"', b"{}", b'{"text": 3}', b'{"text": null}', b"\xff\xfe", b"[" * 5000]
)
def test_a_bad_record_is_unreadable_and_the_next_is_read(tmp_path: Path, line: bytes) -> None:
    found = read_jsonl(tmp_path, [line, b'{"text": "ok"}'], max_bytes=10000)
    assert [f.problem for f in found] == ["unreadable", None]


def test_jsonl_licence_of_each_record(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "l": "MIT"}', b'{"text": "b"}', b'{"text": "c", "l": 3}']
    found = read_jsonl(tmp_path, lines, licence_key="l")
    assert [f.origin.licence for f in found] == ["MIT", None, None]


@pytest.mark.parametrize("keys", [{"text_key": "text"}, {"licence": "MIT", "licence_key": "l"}])
def test_jsonl_needs_exactly_one_way_to_a_licence(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="either `licence` or `licence_key`"):
        read_jsonl(tmp_path, [b'{"text": "a"}'], **keys)


def test_a_line_past_every_limit_is_skipped_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", 100)
    long = b'{"text": "' + b"x" * 5000 + b'"}'
    found = read_jsonl(tmp_path, [long, b'{"text": "ok"}', b'{"text": "' + b"y" * 60 + b'"}'], max_bytes=50)
    assert [(f.path[-1], f.problem) for f in found] == [("1", "too_large"), ("2", None), ("3", "too_large")]
    assert found[0].n_bytes == len(long) + 1


def test_missing_jsonl(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        list(read_source(JsonlSource(kind="jsonl", path="absent.jsonl", licence="MIT"), tmp_path, 10))


def test_a_lock_that_is_not_there_is_one_line_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such lock") as caught:
        list(read_source(PinnedSource(kind="lock", path="corpus.lock.json"), tmp_path, 10))
    assert "corpus.lock.json" in str(caught.value)
    assert "s7 corpus pin" in str(caught.value)


@pytest.fixture
def stdlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "stdlib"
    for name in (
        "os.py",
        "json/decoder.py",
        "json/tests/test_a.py",
        "test/test_b.py",
        "site-packages/c.py",
        "dist-packages/d.py",
        "idlelib/idle_test/e.py",
        "__pycache__/f.py",
        "_sysconfigdata__x.py",
        "g.txt",
        "testing.py",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    return root


def test_stdlib_leaves_out_tests_packages_and_what_the_build_wrote(stdlib: Path) -> None:
    found = list(read_source(StdlibSource(kind="stdlib"), stdlib, 1000))
    assert [f.path for f in found] == ["json/decoder.py", "os.py", "testing.py"]
    assert {f.origin.version for f in found} == {f"CPython {platform.python_version()}"}


def test_stdlib_licence_comes_from_the_interpreter_itself(
    stdlib: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    licence, evidence = stdlib_licence(stdlib)
    assert licence == "PSF-2.0"
    assert "sys.copyright" in evidence
    (stdlib / "LICENSE.txt").write_text("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n")
    licence, evidence = stdlib_licence(stdlib)
    assert licence == "PSF-2.0"
    assert "LICENSE.txt" in evidence
    assert str(stdlib) not in evidence
    monkeypatch.setattr(platform, "python_implementation", lambda: "Other")
    assert stdlib_licence(stdlib)[0] is None


def test_the_real_standard_library_is_there() -> None:
    found = list(read_source(StdlibSource(kind="stdlib"), Path(), 1 << 20))
    paths = [f.path for f in found]
    assert len(paths) > 400
    assert "json/decoder.py" in paths
    assert not [
        path for path in paths if "/test/" in path or "site-packages" in path or path.startswith("test/")
    ]
    assert paths == sorted(paths, key=str.encode)
