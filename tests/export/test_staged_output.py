"""Outputs that appear whole or not at all, and never in the place of something that is there."""

from __future__ import annotations

import threading
from pathlib import Path

import foreign_models as foreign
import pytest

from sevenfold.core.errors import StorageError
from sevenfold.core.process.log import Silent
from sevenfold.export.importer import import_model
from sevenfold.export.run import Request, export
from sevenfold.export.staged_output import beside


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.make(tmp_path_factory.mktemp("plain") / "hf", begin="<s>")


@pytest.fixture(scope="module")
def imported(model: Path) -> Path:
    import_model("hf", model, model.parent / "imported")
    return model.parent / "imported"


def occupied(out: Path, kind: str) -> object:
    """Put something at `out`; what it is afterwards must be equal."""
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        out.symlink_to(out.parent / "nowhere")
    else:
        out.mkdir(mode=0o750)
        if kind == "directory":
            (out / "mine").write_text("mine")
    return look(out)


def look(out: Path) -> object:
    stat = out.lstat()
    return stat.st_ino, stat.st_mode, sorted(f.name for f in out.iterdir()) if out.is_dir() else None


@pytest.mark.parametrize("kind", ["file", "link", "empty", "directory"])
@pytest.mark.parametrize("target", ["import", "hf", "gguf", "safetensors"])
def test_nothing_that_is_there_is_touched(
    model: Path, imported: Path, tmp_path: Path, target: str, kind: str
) -> None:
    before = occupied(tmp_path / "out", kind)
    write = {
        "import": lambda: import_model("hf", model, tmp_path / "out"),
    }.get(target, lambda: export(imported, tmp_path / "out", Request(target=target, proven=False), Silent()))
    with pytest.raises(StorageError, match="with this name exists, and nothing is replaced") as caught:
        write()
    assert "delete" not in str(caught.value)
    assert look(tmp_path / "out") == before
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("is_directory", [True, False])
def test_two_writers_to_one_name_do_not_meet(tmp_path: Path, is_directory: bool) -> None:
    """Both write at once; the first that ends has the name, the other says so, and neither
    loses its work to the other.
    """
    barrier, outcome = threading.Barrier(2), {}

    def write(name: str) -> None:
        try:
            with beside(tmp_path / "out") as work:
                if is_directory:
                    work.mkdir()
                (work / "part" if is_directory else work).write_text(name)
                barrier.wait()
                assert (work / "part" if is_directory else work).read_text() == name
                barrier.wait()
            outcome[name] = "made"
        except StorageError as error:
            outcome[name] = error.what

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = next(name for name, result in outcome.items() if result == "made")
    other = next(name for name in outcome if name != made)
    assert "with this name exists" in outcome[other]
    assert (tmp_path / "out" / "part" if is_directory else tmp_path / "out").read_text() == made
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_what_comes_between_is_not_replaced(tmp_path: Path) -> None:
    def write_file() -> None:
        with beside(tmp_path / "out") as work:
            work.write_text("ours")
            (tmp_path / "out").write_text("theirs")

    def make_directory() -> None:
        with beside(tmp_path / "dir") as work:
            work.mkdir()
            (tmp_path / "dir").mkdir()

    for act in (write_file, make_directory):
        with pytest.raises(StorageError, match="nothing is replaced"):
            act()
    assert (tmp_path / "out").read_text() == "theirs"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["dir", "out"]


def test_a_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with beside(tmp_path / "deep" / "out") as work:
            work.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [f.name for f in (tmp_path / "deep").iterdir()] == []
