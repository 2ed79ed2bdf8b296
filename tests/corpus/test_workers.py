"""Who makes the parts: one process, eight, Ray; ended in the middle, at any moment: the
same root, and nobody is left.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from corpus_runs import SOURCES, STEPS, MakeJob, assert_nobody_is_left, plant, root_of, start

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.corpus import shards, workers
from sevenfold.corpus.stage import run


@pytest.mark.parametrize("n_workers", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_give_the_same_root(tmp_path: Path, make_job: MakeJob, n_workers: int) -> None:
    plant(tmp_path)
    job = make_job(SOURCES, steps=STEPS)
    first = root_of(job)
    done = start(make_job(SOURCES, out="processes", steps=STEPS), tmp_path, n_workers)
    output, errors = done.communicate(timeout=300)
    assert output.strip() == first, errors


# Puts off the start of Ray's agents, as a busy machine does: `sitecustomize.py` of
# every Python that they run.
SLOW_AGENTS = """
import sys, time
if any("agent" in word and word.endswith(".py") for word in sys.orig_argv):
    time.sleep(20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("agents", ["as they come", "20 s late"])
def test_ray_gives_the_same_root(tmp_path: Path, make_job: MakeJob, agents: str) -> None:
    pytest.importorskip("ray")
    plant(tmp_path)
    first = root_of(make_job(SOURCES, steps=STEPS))
    environment = dict(os.environ)
    if agents == "20 s late":
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "sitecustomize.py").write_text(SLOW_AGENTS)
        paths = [str(tmp_path / "late"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = start(make_job(SOURCES, out="ray", steps=STEPS), tmp_path, "ray", env=environment)
    output, errors = done.communicate(timeout=900)
    assert output.splitlines()[-1:] == [first], errors


class FakeRay:
    """A Ray that starts after some attempts."""

    __version__ = "0"

    def __init__(self, n_failures: int) -> None:
        self.n_failures = n_failures
        self.calls: list[str] = []

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **options: object) -> None:
        self.calls.append(address)
        if self.calls.count(address) <= self.n_failures:
            raise RuntimeError("the node timed out")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def started(monkeypatch: pytest.MonkeyPatch, fake: FakeRay) -> list[str]:
    notes: list[str] = []
    progress = Silent()
    monkeypatch.setattr(progress, "note", notes.append)
    monkeypatch.setattr(workers, "require_module", lambda _: fake)
    monkeypatch.setattr(workers, "_RAY_PAUSE", 0)
    with workers._ray_node(progress):
        fake.calls.append("work")
    return notes


def test_ray_is_tried_again_and_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"RAY_ADDRESS": ""})
    fake = FakeRay(2)
    notes = started(monkeypatch, fake)
    assert fake.calls == ["local", "shutdown", "local", "shutdown", "local", "work", "shutdown"]
    assert [note for note in notes if "attempt" in note][-1] == "corpus: starting Ray (local), attempt 3 of 3"
    assert notes[1] == "corpus: Ray did not start: the node timed out"
    assert workers._RAY_PATIENCE.items() <= os.environ.items()


def test_ray_that_is_not_installed_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"Ray is not installed .*ray\[data\]==2.53.0"):
        list(workers.make_shards(iter([]), "ray", Silent()))


def test_ray_that_never_starts_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"RAY_ADDRESS": "head:6379"})
    fake = FakeRay(99)
    with pytest.raises(StorageError, match=r"in 3 attempts: the node timed out .*RAY_ADDRESS.*--workers N"):
        started(monkeypatch, fake)
    assert fake.calls == ["head:6379", "shutdown"] * 3


@pytest.mark.parametrize("n_workers", [1, 2])
def test_killed_in_the_middle_and_resumed(tmp_path: Path, make_job: MakeJob, n_workers: int) -> None:
    plant(tmp_path)
    first = root_of(make_job(SOURCES, steps=STEPS))
    job = make_job(SOURCES, out="killed", steps=STEPS)
    work = job.directory("corpus") / "parts"
    process = start(job, tmp_path, n_workers, 5000, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(work.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=60)  # ends with the last of its workers: they have its pipes
    assert process.returncode == -signal.SIGKILL
    assert_nobody_is_left(process.pid)
    made = {path: path.stat().st_mtime_ns for path in work.glob("*.json")}
    assert len(made) >= 3
    assert not (job.directory("corpus") / "train.parquet").exists()
    # The second run takes up those parts: it is stopped before it removes them.
    obstacle = job.directory("corpus") / "train.parquet"
    obstacle.mkdir()
    resumed = start(job, tmp_path, 1, 5000)
    assert obstacle.name in resumed.communicate(timeout=120)[1]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    obstacle.rmdir()
    # What is left of a file that was being written.
    (job.directory("corpus") / ".train.parquet.x.partial").write_bytes(b"half")
    output, errors = start(job, tmp_path, n_workers, 5000).communicate(timeout=120)
    assert output.strip() == first, errors
    outputs = {path.name for path in job.directory("corpus").iterdir()}
    assert outputs == {"train.parquet", "heldout.parquet", "ledger.parquet", "findings.parquet"}


@pytest.mark.slow
def test_eight_workers_killed_at_random_moments(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, n=200)
    first = root_of(make_job(SOURCES, steps=STEPS))
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    environment = os.environ | {"TMPDIR": str(elsewhere)}

    def begin(out: str) -> subprocess.Popen[str]:
        job = make_job(SOURCES, out=out, steps=STEPS)
        return start(job, tmp_path, 8, 5000, env=environment, start_new_session=True)

    began = time.monotonic()
    whole = begin("whole")
    output, errors = whole.communicate(timeout=300)
    seconds = time.monotonic() - began
    assert output.strip() == first, errors
    files = sorted(path.name for path in (tmp_path / "whole" / "corpus").iterdir())

    rng, reached = random.Random(8), []
    for _ in range(6):
        process = begin("killed")
        # The first half of the time is nine interpreters that start.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds * rng.uniform(0.4, 1))
        victim = process.pid if rng.random() < 0.7 else _a_child_of(process.pid)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
        assert_nobody_is_left(process.pid)
        reached.append(len(list((tmp_path / "killed" / "corpus" / "parts").glob("*.json"))))
        if process.returncode == 0:
            assert output.strip() == first
    assert any(reached), "no kill fell between the first part and the last"
    output, errors = begin("killed").communicate(timeout=300)
    assert output.strip() == first, errors
    assert sorted(path.name for path in (tmp_path / "killed" / "corpus").iterdir()) == files
    assert not list(elsewhere.iterdir())


def _a_child_of(pid: int) -> int:
    """Any worker of a process; the process itself when it has none."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return max(map(int, children.read_text().split()), default=pid) if children.exists() else pid


def test_an_error_of_a_worker_arrives_whole(tmp_path: Path, make_job: MakeJob) -> None:
    travelled = pickle.loads(pickle.dumps(StorageError("what", where="place", remedy="remedy")))
    assert type(travelled) is StorageError
    assert str(travelled) == "place: what (remedy)"
    steps = {"decontaminate": {"path": "none", "sha256": "0" * 64}}
    spec = make_job(SOURCES, steps=steps).recipe.corpus
    missing = shards.ShardTask(
        number=0, key="", directory=tmp_path / "no", base=tmp_path, spec=spec, documents=()
    )
    with pytest.raises(StorageError, match="none"):
        list(workers.make_shards(iter([missing]), 2, Silent()))
    with pytest.raises(UsageError, match="no grammar for 'cobol'"):
        run(make_job(SOURCES, steps={"syntax": ["cobol"]}))
