"""Fetching: a lock is checked, packages arrive by hash, every failure has a name,
and the same command goes on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from package_builders import zip_of

from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.corpus.fetch import (
    PackageStore,
    client,
    fetch_all,
    read_lock,
    run,
    select,
    store_directory,
)
from sevenfold.corpus.fetch.client import FetchFailure, classify
from sevenfold.corpus.fetch.lock import Pin, source_files
from sevenfold.corpus.fetch.pin import lock_of, parse_request, pin_all
from sevenfold.corpus.fetch.registries import source_version, with_sources
from sevenfold.corpus.licences import is_valid

HASH = hashlib.sha256(b"x").hexdigest()
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(b"n").digest()).decode()
LOCK: dict[str, Any] = {
    "pypi": [
        {
            "name": "a",
            "version": "1.0",
            "file": "a-1.0-py3-none-any.whl",
            "sha256": HASH,
            "licence": ["MIT"],
            "note": None,
        }
    ],
    "npm": [
        {"name": "@s/n", "version": "2.0.0", "integrity": INTEGRITY, "licence": "MIT", "kept_MB": {"js": 0.1}}
    ],
    "deb": [{"name": "libd", "version": "1:3-1", "sha256": HASH}],
    "dsc": [{"source": "s", "dsc": "s_1.0-1.dsc", "sha256": HASH, "complete": True}],
}


def write_lock(base: Path, lock: Any) -> Path:
    path = base / "x.lock.json"
    path.write_text(json.dumps(lock))
    return path


def test_a_lock_is_read_in_its_order(tmp_path: Path) -> None:
    pins = read_lock(write_lock(tmp_path, LOCK))
    assert [(p.kind, p.name, p.version) for p in pins] == [
        ("pypi", "a", "1.0"), ("npm", "@s/n", "2.0.0"), ("deb", "libd", "1:3-1"), ("dsc", "s", "1.0-1"),
    ]  # fmt: skip
    assert pins[1].digest == hashlib.sha512(b"n").hexdigest()
    assert pins[0].licence == ("MIT",)


def changed(kind: str, **values: Any) -> dict[str, Any]:
    return LOCK | {kind: [LOCK[kind][0] | values]}


@pytest.mark.parametrize(
    "lock",
    [
        [],
        {},
        3,
        {"pip": []},
        LOCK | {"lock": 2},
        changed("pypi", sha256="0"),
        changed("pypi", sha256=HASH.upper()),
        changed("pypi", name="-r"),
        changed("pypi", name="a b"),
        changed("pypi", name="--index-url=x"),
        changed("npm", name="../x"),
        changed("npm", name="a b"),
        changed("npm", integrity="sha1-x"),
        changed("npm", version="1 --registry x"),
        changed("deb", name="A"),
        changed("deb", version="1;x"),
        changed("dsc", dsc="../s_1.dsc"),
        changed("dsc", dsc="s.dsc"),
        changed("pypi", file="../a.whl"),
        changed("pypi", hash="x"),
        changed("pypi", version=1),
    ],
)
def test_a_lock_that_is_none(tmp_path: Path, lock: Any) -> None:
    path = write_lock(tmp_path, lock)
    if lock == {}:
        assert read_lock(path) == []
        return
    with pytest.raises(RecipeError, match="not a lock"):
        read_lock(path)


def test_the_same_pin_twice_is_one_and_two_hashes_are_refused(tmp_path: Path) -> None:
    assert len(read_lock(write_lock(tmp_path, {"deb": LOCK["deb"] * 2}))) == 1
    other = LOCK["deb"][0] | {"sha256": "0" * 64}
    with pytest.raises(RecipeError, match="two hashes"):
        read_lock(write_lock(tmp_path, {"deb": [*LOCK["deb"], other]}))


def test_only(tmp_path: Path) -> None:
    pins = read_lock(write_lock(tmp_path, LOCK))
    assert [p.name for p in select(pins, "npm")] == ["@s/n"]
    assert [p.name for p in select(pins, "lib*")] == ["libd"]
    assert select(pins, None) == pins
    with pytest.raises(UsageError, match="no package 'nowhere'"):
        select(pins, "nowhere")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("ERROR: No matching distribution found for nowhere==1", "not found"),
        ("npm error code E404", "not found"),
        ("E: Version '1' for 'x' was not found", "not found"),
        ("E: Failed to fetch http://x/y.tar.gz  404  Not Found", "not found"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "hash differs"),
        ("npm error code EINTEGRITY", "hash differs"),
        ("npm error code ENOTFOUND", "no network"),
        ("Could not resolve 'somewhere'", "no network"),
        (
            "NewConnectionError: Failed to establish a new connection\nERROR: No matching distribution found",
            "no network",
        ),
        ("OSError: [Errno 28] No space left on device", "disk full"),
        ("E: You don't have enough free space in /x", "disk full"),
        ("something else", "failed"),
        ("", "failed"),
    ],
)
def test_what_clients_say(words: str, reason: str) -> None:
    assert classify(words).reason == reason


def test_sources_of_apt_get_their_sources() -> None:
    assert with_sources("Types: deb\nURIs: x\n", ".sources") == "Types: deb deb-src\nURIs: x\n"
    assert with_sources("# c\ndeb http://x y z\n", ".list") == "# c\ndeb http://x y z\ndeb-src http://x y z\n"


def test_the_version_of_a_source_is_that_of_the_pinned_file() -> None:
    pin = Pin(kind="dsc", name="s", version="1.0-1", file="s_1.0-1.dsc", algorithm="sha256", digest=HASH)
    shown = (
        f"Package: s\nVersion: 2:1.0-1\nChecksums-Sha256:\n {HASH} 10 s_1.0-1.dsc\n\nPackage: s\nVersion: 3\n"
    )
    assert source_version(shown, pin) == "2:1.0-1"
    assert source_version(shown.replace(HASH, "0" * 64), pin) is None


def test_files_that_a_dsc_names() -> None:
    text = (
        f"Checksums-Sha1:\n aa 1 no\nChecksums-Sha256:\n {HASH} 1 s.orig.tar.xz\n {HASH} 1"
        " ../../etc\nFiles:\n bb 1 no\n"
    )
    assert source_files(text.encode()) == [("s.orig.tar.xz", HASH)]


WHEELS = {f"p{i}": zip_of({"a.py": f"a = {i}\n".encode()}) for i in range(6)}


def pins_of(wheels: dict[str, bytes]) -> list[Pin]:
    return [
        Pin(kind="pypi", name=name, version="1.0", file=f"{name}-1.0-py3-none-any.whl", algorithm="sha256",
            digest=hashlib.sha256(data).hexdigest())
        for name, data in wheels.items()
    ]  # fmt: skip


class Registry:
    """Stands in for pip: gives what it has, or fails as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = dict(WHEELS)
        self.fails: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(run, "download_python", self.download)
        monkeypatch.setattr(run, "PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(run, "N_AT_ONCE", 1)

    def download(self, pin: Pin, staging: Path) -> None:
        self.asked.append(pin.name)
        if pin.name in self.fails:
            self.fails[pin.name]()
        (staging / pin.file).write_bytes(self.files[pin.name])


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    return Registry(monkeypatch)


def failing(reason: Any) -> Callable[[], None]:
    def fail() -> None:
        raise FetchFailure(reason, "said so")

    return fail


def states(outcomes: list[run.FetchOutcome]) -> dict[str, str]:
    return {o.pin.name: o.reason or o.status for o in outcomes}


def test_what_arrives_is_kept_by_hash_and_not_asked_for_again(tmp_path: Path, registry: Registry) -> None:
    pins = pins_of(WHEELS)
    assert set(states(fetch_all(pins, tmp_path / "s", Silent())).values()) == {"fetched"}
    for pin in pins:
        assert PackageStore(tmp_path / "s").pinned(pin).read_bytes() == WHEELS[pin.name]
    registry.asked.clear()
    again = fetch_all(pins, tmp_path / "s", Silent())
    assert set(states(again).values()) == {"present"}
    assert registry.asked == []
    assert sum(o.n_bytes for o in again) == sum(map(len, WHEELS.values()))


def test_each_failure_is_named_and_the_rest_goes_on(tmp_path: Path, registry: Registry) -> None:
    registry.fails = {"p1": failing("not found"), "p4": failing("failed")}
    registry.files["p2"] = b"something else"
    found = states(fetch_all(pins_of(WHEELS), tmp_path / "s", Silent()))
    assert found == {
        "p0": "fetched",
        "p1": "not found",
        "p2": "hash differs",
        "p3": "fetched",
        "p4": "failed",
        "p5": "fetched",
    }
    assert registry.asked.count("p1") == 1
    assert registry.asked.count("p4") == run.N_ATTEMPTS
    registry.fails, registry.files = {}, dict(WHEELS)
    found = states(fetch_all(pins_of(WHEELS), tmp_path / "s", Silent()))
    assert found == dict.fromkeys(WHEELS, "present") | dict.fromkeys(("p1", "p2", "p4"), "fetched")


def test_a_full_disk_stops_and_a_rerun_goes_on(tmp_path: Path, registry: Registry) -> None:
    registry.fails = {"p2": failing("disk full")}
    found = states(fetch_all(pins_of(WHEELS), tmp_path / "s", Silent()))
    assert found == {"p0": "fetched", "p1": "fetched", "p2": "disk full"} | dict.fromkeys(
        ("p3", "p4", "p5"), "not tried"
    )
    registry.fails = {}
    assert "fetched" in states(fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())).values()


def test_a_disk_that_fills_while_the_file_is_kept(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    found = fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())
    assert found[0].reason == "disk full"
    assert {o.reason for o in found[1:]} == {"not tried"}


def test_without_a_network_it_does_not_try_everything(tmp_path: Path, registry: Registry) -> None:
    registry.fails = dict.fromkeys(WHEELS, failing("no network"))
    found = states(fetch_all(pins_of(WHEELS), tmp_path / "s", Silent()))
    assert set(found.values()) == {"no network", "not tried"}
    assert len(registry.asked) <= run.NO_NETWORK_AFTER + run.N_ATTEMPTS


def test_a_network_that_comes_back_is_used(tmp_path: Path, registry: Registry) -> None:
    tries = iter([True, False])

    def sometimes() -> None:
        if next(tries):
            raise FetchFailure("no network", "gone")

    registry.fails = {"p0": sometimes}
    assert states(fetch_all(pins_of(WHEELS), tmp_path / "s", Silent()))["p0"] == "fetched"


def test_a_damaged_or_half_file_of_the_store_is_fetched_again(tmp_path: Path, registry: Registry) -> None:
    pins = pins_of(WHEELS)
    fetch_all(pins, tmp_path / "s", Silent())
    path = PackageStore(tmp_path / "s").pinned(pins[0])
    path.write_bytes(path.read_bytes()[:-1])
    found = states(fetch_all(pins, tmp_path / "s", Silent()))
    assert found == dict.fromkeys(WHEELS, "present") | {"p0": "fetched"}


def test_what_a_killed_fetch_left_is_cleared(tmp_path: Path, registry: Registry) -> None:
    left = tmp_path / "s" / "staging" / "tmpx"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    theirs = tmp_path / "s" / "staging" / "report.txt"
    theirs.write_text("of a user whose directory has the same name")
    fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())
    assert not left.exists()
    assert theirs.is_file()


def test_what_an_interrupt_ended_is_not_tried_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ctrl-C reaches the clients as well: p1's ends with it, just before
    # this program knows of its own.
    def end_with_it() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise FetchFailure("failed", "ended by signal 2")

    registry.fails = {"p1": end_with_it}
    monkeypatch.setattr(run, "PAUSE_SECONDS", 5.0)
    with pytest.raises(KeyboardInterrupt):
        fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())
    assert registry.asked == ["p0", "p1"]


def test_an_interrupt_keeps_what_has_arrived(tmp_path: Path, registry: Registry) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    registry.fails = {"p3": interrupt}
    with pytest.raises(KeyboardInterrupt):
        fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())
    registry.fails = {}
    registry.asked.clear()
    fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())
    assert not {"p0", "p1", "p2"} & set(registry.asked)


def test_a_missing_client_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchFailure) as caught:
        client.run_client(["no-such-client-here"], tmp_path)
    assert caught.value.reason == "no client"


def test_the_store_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S7_PACKAGES", str(tmp_path))
    assert store_directory() == tmp_path
    monkeypatch.delenv("S7_PACKAGES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store_directory() == tmp_path / "sevenfold" / "packages"


SETUP = (
    "open({marker!r}, 'w').write('ran')\nfrom setuptools import setup\nsetup(name='evil', version='1.0')\n"
)


def test_pip_and_npm_bring_packages_and_run_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real clients, on packages of this test: a wheel and a source distribution
    from a local directory or index.
    """
    import tarfile

    links, marker = tmp_path / "simple" / "evil", tmp_path / "ran"
    links.mkdir(parents=True)
    about = b"Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"
    wheel = zip_of({
        "evil.py": b"a = 1\n", "evil-1.0.dist-info/METADATA": about, "evil-1.0.dist-info/RECORD": b"",
        "evil-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
    })  # fmt: skip
    (links / "evil-1.0-py3-none-any.whl").write_bytes(wheel)
    (tmp_path / "setup.py").write_text(SETUP.format(marker=str(marker)))
    with tarfile.open(links / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "evil-1.0/setup.py")
    (links / "index.html").write_text(
        '<a href="evil-1.0.tar.gz#sha256=0">x</a><a href="evil-1.0-py3-none-any.whl">y</a>'
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setattr(run, "N_AT_ONCE", 1)
    pins = [
        Pin(kind="pypi", name="evil", version="1.0", file=path.name, algorithm="sha256",
            digest=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (links / "evil-1.0-py3-none-any.whl", links / "evil-1.0.tar.gz")
    ]  # fmt: skip
    outcomes = fetch_all(pins, tmp_path / "store", Silent())
    assert [(o.status, o.detail) for o in outcomes] == [("fetched", ""), ("fetched", "")]
    assert not marker.exists()
    gone = Pin(
        kind="pypi", name="evil", version="2.0", file="evil-2.0.tar.gz", algorithm="sha256", digest="0" * 64
    )
    assert [o.reason for o in fetch_all([gone], tmp_path / "store", Silent())] == ["not found"]
    [pinned] = pin_all([parse_request("pypi:evil")], PackageStore(tmp_path / "store"), Silent())
    assert (pinned.version, pinned.file, pinned.digest) == ("1.0", pins[0].file, pins[0].digest)


@pytest.mark.parametrize(
    "text", ["", "acorn", "npm:", "cargo:serde", "npm:-x", "pypi:a b", "pypi:a=1 b", "deb:x=;"]
)
def test_a_name_that_is_no_package(text: str) -> None:
    with pytest.raises(UsageError, match="names no package"):
        parse_request(text)


def test_a_written_lock_reads_back(tmp_path: Path) -> None:
    pins = read_lock(write_lock(tmp_path, LOCK))
    lock = lock_of(pins)
    assert sorted(read_lock(write_lock(tmp_path, lock)), key=str) == sorted(pins, key=str)


def test_locks_that_ship_are_locks() -> None:
    paths = sorted((Path(__file__).parents[2] / "recipes" / "locks").glob("*.lock.json"))
    assert paths
    for path in paths:
        # None: the parts of the package are under licences of their own, which its own metadata tells
        assert all(is_valid(" AND ".join(pin.licence)) for pin in read_lock(path) if pin.licence), path


def test_the_command_names_what_is_missing_with_exit_code_4(tmp_path: Path) -> None:
    lock = write_lock(tmp_path, {"npm": [LOCK["npm"][0] | {"name": "n"}]})
    environment = os.environ | {"PATH": str(tmp_path)}  # no npm here
    command = [
        sys.executable,
        "-m",
        "sevenfold.cli",
        "corpus",
        "fetch",
        str(lock),
        "--out",
        str(tmp_path / "s"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 4, done.stderr
    assert "npm:n 2.0.0" in done.stdout
    assert "no client" in done.stdout
    assert "1 of 1 packages are missing" in done.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, env=environment)
    assert json.loads(done.stdout)["packages"][0]["reason"] == "no client"


def test_a_store_that_cannot_be_written(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "s").write_text("a file")
    with pytest.raises(StorageError):
        fetch_all(pins_of(WHEELS), tmp_path / "s", Silent())
