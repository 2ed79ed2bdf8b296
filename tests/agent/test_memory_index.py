"""What goes into a memory: in = kept + every named drop, and only what changed is read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from memories import FILES, commit, remember, write_files

from sevenfold.agent.memory import MemoryQuery, MemorySearch, open_memory, open_source
from sevenfold.agent.memory import sources as memory_sources
from sevenfold.core.errors import StorageError, UsageError


def test_drops_are_named_and_links_end_nothing(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source")
    (source / "picture.png").write_bytes(b"\x89PNG\0\0")
    (source / "latin.txt").write_bytes(b"caf\xe9 cr\xe8me")
    (source / "late.bin").write_bytes(b"a" * 9000 + b"\0")
    (source / "blank.py").write_bytes(b" \n\n")
    (source / "pointer").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    (source / "pkg" / "circle").symlink_to(source, target_is_directory=True)
    (source / "pkg" / "self").symlink_to("self")
    (source / "copy.py").symlink_to("pkg/texts.py")
    (source / "nowhere").symlink_to("/does/not/exist")
    report = remember(tmp_path / "memory", source)
    assert dict(report.dropped) == {"binary": 2, "not_utf8": 1, "empty": 1, "pointer": 1, "link": 4}
    assert report.n_in == report.n_added + sum(report.dropped.values()) == len(FILES) + 9
    assert {path for _, path in open_memory(tmp_path / "memory").entries} == set(FILES)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_sources, "MAX_FILE_BYTES", 100)
    report = remember(tmp_path / "memory", write_files(tmp_path / "source"))
    assert report.dropped["too_large"] == 3
    commit(tmp_path / "source")
    assert remember(tmp_path / "other", tmp_path / "source").dropped["too_large"] == 3


def test_only_changed_blobs_of_a_repository_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, memory = write_files(tmp_path / "source"), tmp_path / "memory"
    (source / "link").symlink_to("README.md")
    commit(source)
    first = remember(memory, source)
    assert (first.n_added, dict(first.dropped)) == (4, {"link": 1})
    again = remember(memory, source)
    assert (again.n_unchanged, again.n_embedded, again.root) == (4, 0, first.root)

    asked: list[str] = []
    read = memory_sources.Objects.read

    def counted(self: object, identifier: str, path: str, max_bytes: int) -> object:
        asked.append(path)
        return read(self, identifier, path, max_bytes)  # type: ignore[arg-type]

    monkeypatch.setattr(memory_sources.Objects, "read", counted)
    write_files(source, {"pkg/texts.py": b"def open_text(path):\n    return 1\n", "new.py": b"x = 1\n"})
    (source / "README.md").unlink()
    commit(source, 1_800_000_000)
    (source / "uncommitted.py").write_text("y = 2\n")
    third = remember(memory, source)
    assert sorted(asked) == ["new.py", "pkg/texts.py"]
    assert (third.n_added, third.n_changed, third.n_removed, third.n_unchanged) == (1, 1, 1, 2)
    found = open_memory(memory)
    assert {path for _, path in found.entries} == {"pkg/tables.py", "pkg/texts.py", "pkg/rows.rs", "new.py"}
    times = {path: entry.time for (_, path), entry in found.entries.items()}
    assert times["new.py"] == 1_800_000_000
    assert times["pkg/rows.rs"] == 1_700_000_000


def test_one_text_at_two_places_is_kept_once(tmp_path: Path) -> None:
    files = FILES | {"vendored/pkg/texts.py": FILES["pkg/texts.py"]}
    report = remember(tmp_path / "memory", write_files(tmp_path / "source", files))
    assert report.n_duplicates == 1
    memory = open_memory(tmp_path / "memory")
    assert len(memory.blobs) == len(memory.entries) - 1
    hits = MemorySearch(memory).ask(MemoryQuery(text="where is `open_text` defined?"))
    assert hits[0].entry.path == "pkg/texts.py"
    assert hits[0].also == ("source:vendored/pkg/texts.py",)
    # The place that stands for the text goes, and the text stays.
    (tmp_path / "source" / "pkg" / "texts.py").unlink()
    assert remember(tmp_path / "memory", tmp_path / "source").n_embedded == 0
    hits = MemorySearch(open_memory(tmp_path / "memory")).ask(MemoryQuery(text="`open_text` defined?"))
    assert hits[0].entry.path == "vendored/pkg/texts.py"


def test_many_tiny_files(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(3000):
        (folder / f"f{i}.txt").write_bytes(b"value %d\n" % (i % 1500))
    report = remember(tmp_path / "memory", folder)
    assert report.n_added == 3000
    assert len(open_memory(tmp_path / "memory").entries) == 3000


def test_settings_and_terms_are_held(tmp_path: Path) -> None:
    source, memory = write_files(tmp_path / "source"), tmp_path / "memory"
    for wrong in ({"chunk_tokens": 5999}, {"chunk_tokens": 12001}, {"trust": 9}, {"time": -1}):
        with pytest.raises(UsageError):
            remember(memory, source, **wrong)
    assert not memory.exists()
    remember(memory, source)
    with pytest.raises(UsageError, match="8192"):
        remember(memory, source, chunk_tokens=6000)
    changed = remember(memory, source, trust=8, licence="Apache-2.0")
    assert changed.n_changed == 4
    licences = {path: entry.licence for (_, path), entry in open_memory(memory).entries.items()}
    assert licences["pkg/tables.py"] == "MIT"
    assert licences["README.md"] == "Apache-2.0"


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such directory"), open_source(tmp_path / "none"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="it is a file"), open_source(tmp_path / "file"):
        pass
    (tmp_path / "bare" / ".git").mkdir(parents=True)
    with pytest.raises(StorageError, match="no commit HEAD"), open_source(tmp_path / "bare"):
        pass


def test_an_empty_source_makes_an_empty_memory(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    report = remember(tmp_path / "memory", tmp_path / "source")
    assert report.n_in == 0
    assert MemorySearch(open_memory(tmp_path / "memory")).ask(MemoryQuery(text="anything")) == []
