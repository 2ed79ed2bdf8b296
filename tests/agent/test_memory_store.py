"""A memory on disk: a changed bit is found and named, and a writer that is killed loses nothing."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from memories import FILES, remember, write_files

from sevenfold.agent.memory import MemoryQuery, MemorySearch, compact, open_memory
from sevenfold.agent.memory.errors import DamagedMemoryError, ForeignMemoryError, NoMemoryError
from sevenfold.agent.memory.frames import MAGIC, frame_bytes, read_frames
from sevenfold.agent.memory.store import LOCK_NAME, MANIFEST_NAME, SEGMENTS, check_vectors, writing
from sevenfold.core.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A memory of two additions."""
    source = write_files(tmp_path / "source")
    remember(tmp_path / "memory", source)
    write_files(source, {"new.py": b"def later():\n    return 7\n"})
    remember(tmp_path / "memory", source)
    return tmp_path / "memory"


def segments(memory: Path) -> list[Path]:
    return sorted((memory / SEGMENTS).iterdir())


def test_what_is_written_is_read(made: Path) -> None:
    memory = open_memory(made)
    texts = {path: memory.blobs[entry.blob].text for (_, path), entry in memory.entries.items()}
    assert texts == FILES | {"new.py": b"def later():\n    return 7\n"}
    assert check_vectors(memory) == len(memory.vectors())
    assert len(memory.manifest.segments) == 2
    assert memory.entries["source", "pkg/tables.py"].licence == "MIT"


def test_every_flipped_bit_of_the_manifest_is_found(made: Path) -> None:
    file = made / MANIFEST_NAME
    whole = file.read_bytes()
    open_memory(made)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(DamagedMemoryError):
            open_memory(made)
    file.write_bytes(whole)
    open_memory(made)


def test_flipped_bits_of_segments_are_found_and_named(made: Path) -> None:
    rng = random.Random(1)
    for file in segments(made):
        whole = file.read_bytes()
        for place in [*range(16), *rng.sample(range(len(whole)), 60), len(whole) - 1]:
            changed = bytearray(whole)
            changed[place] ^= 1 << rng.randrange(8)
            file.write_bytes(changed)
            with pytest.raises(DamagedMemoryError, match=file.name):
                open_memory(made)
        for size in (0, 7, 8, 50, len(whole) - 1):
            file.write_bytes(whole[:size])
            with pytest.raises(DamagedMemoryError, match="bytes"):
                open_memory(made)
        file.write_bytes(whole)
    open_memory(made)


def test_a_vector_that_is_not_of_its_text_is_found(made: Path) -> None:
    memory = open_memory(made)
    blob = next(iter(memory.blobs.values()))
    blob.vectors.flags.writeable = False
    changed = blob.vectors.copy()
    changed[0, 3] ^= 1
    object.__setattr__(blob, "vectors", changed)
    with pytest.raises(DamagedMemoryError, match="vector of span 0"):
        check_vectors(memory)


def test_a_memory_of_another_root_is_refused(made: Path, tmp_path: Path) -> None:
    root = open_memory(made).manifest.root
    assert open_memory(made, root).manifest.root == root
    with pytest.raises(ForeignMemoryError, match=root):
        open_memory(made, "ab" * 32)
    # A segment of another memory in the place of one.
    remember(tmp_path / "other", write_files(tmp_path / "more", {"x.py": b"x = 1\n"}))
    shutil.copy(segments(tmp_path / "other")[0], segments(made)[0])
    with pytest.raises(DamagedMemoryError):
        open_memory(made)


def test_a_missing_segment_and_a_missing_memory(made: Path, tmp_path: Path) -> None:
    segments(made)[0].unlink()
    with pytest.raises(DamagedMemoryError, match="is missing"):
        open_memory(made)
    with pytest.raises(NoMemoryError, match="s7 memory add"):
        open_memory(tmp_path / "nothing")


def test_directories_of_others_are_left_alone(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source")
    with pytest.raises(NoMemoryError, match="something else"):
        remember(source, source)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NoMemoryError, match="it is a file"):
        remember(tmp_path / "file", source)
    assert sorted(path.name for path in source.iterdir()) == ["README.md", "pkg"]


def test_one_writer_at_a_time(made: Path, tmp_path: Path) -> None:
    with writing(made), pytest.raises(StorageError, match="another process"):
        remember(made, tmp_path / "source")
    assert (made / LOCK_NAME).is_file()


def test_leftovers_are_removed_and_compaction_keeps_answers(made: Path, tmp_path: Path) -> None:
    (made / SEGMENTS / f"{'0' * 32}.s7m").write_bytes(b"half")
    (made / SEGMENTS / ".x.partial").write_bytes(b"half")
    (tmp_path / "source" / "new.py").unlink()
    remember(made, tmp_path / "source")
    assert len(segments(made)) == 3
    query = MemoryQuery(text="read the rows of a table")
    before = [hit.value() for hit in MemorySearch(open_memory(made)).ask(query)]
    memory, n_dead = compact(made)
    assert n_dead == 3
    assert len(segments(made)) == len(memory.manifest.segments) == 1
    assert [hit.value() for hit in MemorySearch(memory).ask(query)] == before
    assert compact(made)[0].manifest.root == memory.manifest.root
    relearned, _ = compact(made, relearn=True)
    assert check_vectors(relearned) == len(memory.vectors())


def test_frames_that_lie() -> None:
    good = MAGIC + frame_bytes(3, b"{}")
    assert len(read_frames(good, "x")) == 1
    for bad in (
        b"",
        good[:4],
        good + b"\0",
        MAGIC + frame_bytes(9, b""),
        good[:-1],
        MAGIC + b"\3\xff\xff\xff\xff",
    ):
        with pytest.raises(DamagedMemoryError):
            read_frames(bad, "x")


WRITER = """
import sys, itertools
from pathlib import Path
sys.path[:0] = [{tests!r}]
from memories import remember
memory, source = Path({memory!r}), Path({source!r})
for i in itertools.count({first}):
    (source / f"file{{i % 7}}.py").write_text(f"def name_{{i}}():\\n    return {{i}}\\n" * 40)
    if i % 5 == 4:
        from sevenfold.agent.memory import compact
        compact(memory)
    print(remember(memory, source).root, flush=True)
"""


@pytest.mark.subprocess
def test_a_writer_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    memory, source = tmp_path / "memory", tmp_path / "source"
    source.mkdir()
    rng = random.Random(7)
    first, told = 0, ""
    for _ in range(5):
        code = WRITER.format(
            tests=str(Path(__file__).parent), memory=str(memory), source=str(source), first=first
        )
        log = tmp_path / "log"
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-c", code], stdout=out)
            deadline = time.monotonic() + 60
            while not log.read_bytes().count(b"\n") and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.random() * 0.4)
            process.send_signal(signal.SIGKILL)
            process.wait()
        lines = log.read_text().split()
        assert lines, "the writer wrote nothing"
        told = lines[-1]
        found = open_memory(memory)
        # The last root that was told, or that of a commit behind it (an addition or a compaction).
        after = json.loads((memory / MANIFEST_NAME).read_bytes())["root"]
        assert found.manifest.root == after
        assert check_vectors(found) == len(found.vectors()) > 0
        first += len(lines)
    report = remember(memory, source)
    listed = {one.file for one in open_memory(memory, report.root).manifest.segments}
    assert listed == {path.name for path in segments(memory)}
    assert told


@pytest.mark.subprocess
def test_a_full_disk_leaves_the_earlier_memory(made: Path, tmp_path: Path) -> None:
    before = open_memory(made)
    big = b"".join(b"def big_%d():\n    return value_%d\n\n\n" % (i, i) for i in range(20_000))
    source = write_files(tmp_path / "large", {"big.py": big})
    command = [sys.executable, "-m", "sevenfold", "memory", "add", str(made), str(source)]
    limit = 1 << 20

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("s7: ")
    assert "Traceback" not in done.stderr
    after = open_memory(made, before.manifest.root)
    assert after.entries == before.entries
    assert len(segments(made)) == 2
    # With room again, the same command goes through.
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert len(open_memory(made).entries) == len(before.entries) + 1
