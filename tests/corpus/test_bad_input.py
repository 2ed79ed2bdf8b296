"""Bad input as a user meets it: named, skipped or stopped as fits, nothing lost,
and the same command goes on.

What belongs to one reader is tested beside it (archives, sources, fetch); here it goes through the
stage, with the real thing where there is one: a file system that is full, two gigabytes in one line
under a bound on memory, clients without a network.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from package_builders import Files, stored, tar_of
from test_fetch import LOCK, write_lock
from test_runs import DRIVER, SOURCES, STEPS, MakeJob, ledger, plant, program, root_of

from sevenfold.core.errors import StorageError
from sevenfold.corpus.fetch import PackageStore
from sevenfold.corpus.fetch.pin import lock_of
from sevenfold.corpus.stage import run

NPM: Files = {
    "package.json": b'{"license": "MIT"}',
    **{f"f{i}.js": f"var f{i} = {i};\n".encode() for i in range(30)},
}
LOCKED: list[dict[str, Any]] = [{"kind": "lock", "path": "x.lock.json"}]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """small_disk("200k") -> a file system of that size; called again,
    the same one with another size.
    """
    place = tmp_path / "disk"

    def sized(size: str) -> Path:
        options = f"size={size}" + (",remount" if place.exists() else "")
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("no file system can be mounted here")
        return place

    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("no file system can be mounted here")
    yield sized
    subprocess.run(["umount", place], capture_output=True, check=False)


def in_a_process(job: Any, tmp_path: Path, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """The stage in a process of its own, in parts of 4000 bytes; `before`: what it does first."""
    recipe, driver = tmp_path / "recipe.yaml", tmp_path / "driver.py"
    recipe.write_text(yaml.safe_dump(job.recipe.resolved()))
    driver.write_text(before + DRIVER)
    command = [sys.executable, driver, recipe, job.out, "1", "4000"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_packages_with_every_fault_go_through_the_stage(
    tmp_path: Path, store: PackageStore, make_job: MakeJob
) -> None:
    loop = [_link("package/loop.js", "loop.js")]
    files = {f"package/{name}": data for name, data in NPM.items()}
    whole = gzip.compress(
        tar_of(files | {"package/latin.js": b"var \xe9;\n", "package/nul.js": b"var a\0;\n"}, extra=loop)
    )
    cut = whole[: len(whole) // 2]
    pins = [stored(store, "npm", NPM | {"z.js": b"var z;\n"}, name="good")]
    for name, data in (("faulty", whole), ("cut", cut), ("noise", random.Random(1).randbytes(5000))):
        pins.append(_stored_bytes(store, name, data))
    (tmp_path / "x.lock.json").write_text(json.dumps(lock_of(pins)))
    job = make_job(LOCKED, licences=["MIT"])
    facts = run(job).facts  # it reconciles, or raises
    dropped = facts["dropped"]
    assert dropped["corrupt"] == 2  # the half archive, and what is none
    assert dropped["link"] == dropped["not_utf8"] == dropped["forbidden_control"] == 1
    reasons = {(row["source"], row["reason"]) for row in ledger(job)}
    assert ("npm:good", "") in reasons
    assert {source for source, reason in reasons if reason == "corrupt"} == {"npm:cut", "npm:noise"}
    assert facts["n_kept"] + sum(dropped.values()) == facts["n_seen"]


def _link(name: str, target: str) -> Any:
    import tarfile

    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    return link


def _stored_bytes(store: PackageStore, name: str, data: bytes) -> Any:
    """A pin of bytes that need not be an archive: their hash is right."""
    import hashlib

    from sevenfold.corpus.fetch import Pin

    digest = hashlib.sha512(data).hexdigest()
    (store.directory / f"sha512-{digest}").write_bytes(data)
    return Pin(
        kind="npm", name=name, version="1.0", file="", algorithm="sha512", digest=digest, licence=("MIT",)
    )


# Says "made" on standard error for each part that is made.
COUNTED = """
import sys
import sevenfold.corpus.workers as workers
make = workers.make_shard
workers.make_shard = lambda task: (print("made", file=sys.stderr), make(task))[1]
"""


def test_a_full_file_system_stops_the_build_and_more_room_lets_it_go_on(
    tmp_path: Path, make_job: MakeJob, small_disk: Callable[[str], Path]
) -> None:
    plant(tmp_path)
    (tmp_path / "b" / "z.py").write_text(program(random.Random(9), 2000))
    first = root_of(make_job(SOURCES, out="whole", steps=STEPS))
    job = make_job(SOURCES, out="disk/run", steps=STEPS)
    small_disk("160k")
    done = in_a_process(job, tmp_path)
    assert done.returncode != 0
    assert "StorageError" in done.stderr
    assert "no space left" in done.stderr.lower()
    parts = list((job.directory("corpus") / "parts").glob("*.json"))
    made = {part: part.stat().st_mtime_ns for part in parts}
    assert made
    assert not (job.directory("corpus") / "manifest.json").exists()
    small_disk("64m")
    done = in_a_process(job, tmp_path, before=COUNTED)
    assert done.stdout.strip() == first, done.stderr
    fresh = in_a_process(make_job(SOURCES, out="again", steps=STEPS), tmp_path, before=COUNTED)
    assert done.stderr.count("made") == fresh.stderr.count("made") - len(made)


def test_a_full_store_stops_the_fetch_by_name_and_keeps_what_came(
    tmp_path: Path, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_fetch import pins_of

    from sevenfold.core.process.log import Silent
    from sevenfold.corpus.fetch import fetch_all
    from sevenfold.corpus.fetch import run as fetch_run

    wheels = {f"p{i}": random.Random(i).randbytes(60_000) for i in range(4)}
    monkeypatch.setattr(fetch_run, "N_AT_ONCE", 1)

    def download(pin: Any, staging: Path) -> None:
        try:
            (staging / pin.file).write_bytes(wheels[pin.name])
        except OSError as error:  # as pip says it
            raise fetch_run.FetchFailure("disk full", str(error)) from error

    monkeypatch.setattr(fetch_run, "download_python", download)
    place = small_disk("160k") / "store"
    found = fetch_all(pins_of(wheels), place, Silent())
    assert [o.reason or o.status for o in found] == ["fetched", "fetched", "disk full", "not tried"]
    assert not list((place / "staging").iterdir())
    small_disk("8m")
    found = fetch_all(pins_of(wheels), place, Silent())
    assert [o.status for o in found] == ["present", "present", "fetched", "fetched"]


LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (450_000_000, 450_000_000))\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["directory", "jsonl"])
def test_two_gigabytes_in_one_line_within_bounded_memory(
    tmp_path: Path, make_job: MakeJob, kind: str
) -> None:
    plant(tmp_path)
    if kind == "directory":
        sources = SOURCES
        with (tmp_path / "a" / "line.py").open("wb") as file:
            file.truncate(2 << 30)  # holes take no room
    else:
        sources = [{"kind": "jsonl", "path": "x.jsonl", "licence": "MIT"}, *SOURCES]
        with (tmp_path / "x.jsonl").open("wb") as file:
            file.truncate(2 << 30)
            file.seek(0, os.SEEK_END)
            file.write(b'\n{"text": "the line behind it is read"}\n')
    job = make_job(sources, steps=STEPS)
    done = in_a_process(job, tmp_path, before=LIMIT)
    assert done.returncode == 0, done.stderr
    rows = [row for row in ledger(job) if row["n_bytes"] >= 2 << 30]
    assert [row["reason"] for row in rows] == ["too_large"]
    if kind == "jsonl":
        assert [row["path"] for row in ledger(job) if row["source"] == "jsonl:x.jsonl"] == [
            "x.jsonl:1",
            "x.jsonl:2",
        ]


def test_a_store_file_that_was_cut_stops_the_build_and_names_the_remedy(
    tmp_path: Path, store: PackageStore, make_job: MakeJob
) -> None:
    pin = stored(store, "npm", NPM)
    (tmp_path / "x.lock.json").write_text(json.dumps(lock_of([pin])))
    path, data = store.pinned(pin), store.pinned(pin).read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(StorageError, match=r"not the one that was pinned.*s7 corpus fetch"):
        run(make_job(LOCKED))
    assert not store.complete(pin)  # what a fetch asks: the cut file goes, and is brought again
    path.write_bytes(data)
    assert run(make_job(LOCKED)).facts["n_kept"]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rn", "true"], check=False).returncode != 0,
    reason="no network namespace can be made here",
)
def test_clients_without_a_network_are_named_so(tmp_path: Path) -> None:
    """The real npm and apt-get. apt's `update` and npm's `--silent` would both hide it."""
    lock = write_lock(tmp_path, {kind: LOCK[kind][:1] for kind in ("npm", "deb")})
    command = [
        "unshare",
        "-rn",
        sys.executable,
        "-m",
        "sevenfold.cli",
        "corpus",
        "fetch",
        str(lock),
        "--out",
        "s",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=500)
    assert done.returncode == 4, done.stderr
    reasons = [row["reason"] for row in json.loads(done.stdout)["packages"]]
    assert reasons
    assert set(reasons) <= {"no network", "not tried", "no client"}, done.stdout
