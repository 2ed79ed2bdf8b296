"""The writer under faults: killed at any call, out of disk at any call, and two writers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fault_driver
import pytest
from build_attacks import sample_input

from sevenfold.artifact import build_contents, read_artifact, write_artifact
from sevenfold.artifact.errors import ExistingArtifactError
from sevenfold.core import files

HERE = Path(__file__).resolve().parent
COMPILER = shutil.which("c++") or shutil.which("g++")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if COMPILER is None:
        pytest.skip("no C++ compiler here")
    directory = tmp_path_factory.mktemp("faults")
    library = directory / "faults.so"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-o", str(library), str(HERE / "faults.cpp"), "-ldl"], check=True
    )
    done = subprocess.run(
        [sys.executable, str(HERE / "fault_driver.py"), str(library), str(directory)],
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_call_went_wrong_once(runs: list[dict[str, Any]]) -> None:
    for mode in fault_driver.MODES:
        for old in (False, True):
            calls = [run["call"] for run in runs if (run["mode"], run["old"]) == (mode, old)]
            # open, write, fsync, chmod, publish, and the directory's open and fsync
            # are the least there can be.
            assert calls == list(range(1, len(calls) + 1))
            assert len(calls) >= 7
    killed = [run for run in runs if run["mode"].startswith("killed")]
    assert {run["ended"] for run in killed} == {"killed"}
    assert {run["ended"] for run in runs if run["mode"] == "the call fails"} >= {"refused"}


def test_what_is_left_is_the_old_file_or_none_or_the_new_one_whole(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        assert run["state"] in ("new", "old" if run["old"] else "none"), run
    for name in ("none", "old", "new"):
        assert any(run["state"] == name for run in runs)


def test_a_writer_that_fails_leaves_nothing_beside(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        if run["ended"] != "killed":
            assert run["beside"] == [], run
        assert all(name.startswith(".") and name.endswith(files.PARTIAL_SUFFIX) for name in run["beside"])


def test_the_next_writer_succeeds(runs: list[dict[str, Any]]) -> None:
    assert all(run["again"] == ["done", "new"] for run in runs)


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path, children = tmp_path / "model.s7l", []
    models = [build_contents(sample_input(dictionary=b"x" * 300000)), fault_driver.NEW]
    ready, go = os.pipe()
    for index in range(8):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(ready, 1)  # all at once: it returns when the parent closes its end
            try:
                write_artifact(path, models[index % 2])
                os._exit(index % 2)
            except ExistingArtifactError:
                os._exit(2)
        children.append(child)
    os.close(go)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(ready)
    # One model won; who wrote the same one is content, all others were refused.
    assert len(set(ended) & {0, 1}) == 1
    assert ended.count(2) == 4
    won = next(code for code in ended if code < 2)
    assert read_artifact(path).dictionary == models[won].dictionary
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_that_appears_meanwhile_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.s7l"
    publish = files._publish_new

    def somebody_is_faster(temporary: Path, target: Path) -> None:
        target.write_bytes(b"S7LM, but not ours")
        publish(temporary, target)

    monkeypatch.setattr(files, "_publish_new", somebody_is_faster)
    with pytest.raises(ExistingArtifactError):
        write_artifact(path, fault_driver.NEW)
    assert path.read_bytes() == b"S7LM, but not ours"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    sealed = write_artifact(tmp_path / "model.s7l", fault_driver.NEW)
    assert read_artifact(tmp_path / "model.s7l").root == sealed.root
