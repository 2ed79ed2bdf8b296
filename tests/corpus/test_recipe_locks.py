"""From names to a lock to a corpus: selection, conclusions, fetching what is missing, the
key of a build, the same root.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from package_builders import Files, stored

from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.core.manifest import hash_outputs, output_root
from sevenfold.core.process.log import Silent
from sevenfold.corpus import missing_packages
from sevenfold.corpus.fetch import FetchOutcome, PackageStore, Pin, pin, read_lock
from sevenfold.corpus.fetch.pin import lock_of, pin_from, read_names
from sevenfold.corpus.licences import is_valid
from sevenfold.corpus.missing_packages import fetch_missing
from sevenfold.corpus.stage import fingerprint, run
from sevenfold.recipe import load_recipe
from sevenfold.recipe.corpus_schema import PinnedSource
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.runs.job import Job

LOCKS = Path(__file__).parents[2] / "recipes" / "locks"
MakeJob = Callable[..., Job]
NPM: Files = {
    "package.json": b'{"license": "MIT"}',
    **{f"f{i}.js": f"var f{i} = {i};\n".encode() for i in range(40)},
}
SOURCES: list[dict[str, Any]] = [{"kind": "lock", "path": "x.lock.json"}]


def write_lock(base: Path, pins: list[Pin]) -> Path:
    path = base / "x.lock.json"
    path.write_text(json.dumps(lock_of(pins)))
    return path


# names


def test_names_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.names"
    path.write_text("# about\n\nnpm:@a/b=1.2  MIT OR Apache-2.0  # why\npypi:attrs\n")
    found = read_names(path)
    assert [(p.kind, p.name, p.version, p.concluded) for p in found] == [
        ("npm", "@a/b", "1.2", "MIT OR Apache-2.0"), ("pypi", "attrs", "", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("npm:a BSD License", RecipeError, r"x.names:1.*no SPDX expression|no SPDX expression.*x.names:1"),
        ("attrs", UsageError, "names no package"),
        (b"\xff\xfe", UsageError, "names no package"),
    ],
)
def test_names_that_are_none(tmp_path: Path, text: str | bytes, error: type[Exception], message: str) -> None:
    path = tmp_path / "x.names"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message):
        read_names(path)


def test_a_selection_of_a_lock_keeps_its_hashes_and_takes_the_conclusion(store: PackageStore) -> None:
    one, two = (stored(store, "npm", NPM | {"n": n.encode()}, name=n) for n in ("one", "two"))
    request = replace(pin.parse_request("npm:two"), concluded="MIT")
    assert pin_from([request], [one, two], store, Silent()) == [replace(two, concluded="MIT")]
    for wanted, versions in (("npm:three", "none"), ("npm:two=9", "none"), ("npm:one", "1.0, 2.0")):
        with pytest.raises(UsageError, match=versions):
            pin_from([pin.parse_request(wanted)], [one, replace(one, version="2.0"), two], store, Silent())


def test_locks_that_ship_are_what_their_names_say() -> None:
    names = sorted(LOCKS.glob("*.names"))
    assert {path.stem for path in names} == {"crates", "demo", "math", "permissive-code", "prose"}
    for path in names:
        wanted = [(p.kind, p.name, p.concluded) for p in read_names(path)]
        pins = read_lock(path.with_suffix(".lock.json"))
        assert sorted(wanted, key=str) == sorted(((p.kind, p.name, p.concluded) for p in pins), key=str), path
        assert all(is_valid(licence) for p in pins for licence in p.licence)
        assert path.with_suffix(".lock.json").stat().st_size < 64_000
        assert "://" not in path.with_suffix(".lock.json").read_text()


def test_every_lock_and_hash_file_that_a_shipped_recipe_names_ships() -> None:
    n_locks = 0
    for path in recipe_paths().values():
        recipe = load_recipe(path)
        for source in recipe.corpus.sources:
            if isinstance(source, PinnedSource):
                assert read_lock(path.parent / source.path), path
                n_locks += 1
        if wanted := recipe.corpus.steps.decontaminate:
            assert (path.parent / wanted.path).is_file()
    assert n_locks > 20


def test_the_four_skus_read_one_corpus() -> None:
    recipes = [
        load_recipe(recipe_paths()[f"s7/{name}-8m"]).corpus for name in ("code", "math", "general", "moe")
    ]
    assert len({recipe.model_copy(update={"mix": {}}).model_dump_json() for recipe in recipes}) == 1
    assert len({json.dumps(recipe.mix) for recipe in recipes}) == 3  # code and moe have one mix


# fetching


def test_only_what_is_missing_is_asked_for(
    tmp_path: Path, store: PackageStore, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, away = (stored(store, "npm", NPM | {"n": n.encode()}, name=n) for n in ("here", "away"))
    bytes_of_away = store.pinned(away).read_bytes()
    store.pinned(away).unlink()
    write_lock(tmp_path, [here, away])
    asked: list[list[str]] = []

    def arrives(pins: list[Pin], directory: Path, progress: object) -> list[FetchOutcome]:
        asked.append([p.name for p in pins])
        store.pinned(away).write_bytes(bytes_of_away)
        return [FetchOutcome(pin=p, status="fetched") for p in pins]

    monkeypatch.setattr(missing_packages, "fetch_all", arrives)
    spec = make_job(SOURCES * 2).recipe.corpus
    assert fetch_missing(spec, tmp_path, Silent()) == 1
    assert asked == [["away"]]
    assert fetch_missing(spec, tmp_path, Silent()) == 0
    assert asked == [["away"]]


def test_what_cannot_be_had_is_named(
    tmp_path: Path, store: PackageStore, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = [replace(stored(store, "npm", NPM, name=f"n{i}"), digest=f"{i:0128x}") for i in range(7)]
    write_lock(tmp_path, pins)
    monkeypatch.setattr(
        missing_packages,
        "fetch_all",
        lambda p, *_: [FetchOutcome(pin=x, status="failed", reason="no network") for x in p],
    )
    with pytest.raises(
        StorageError, match=r"7 of 7 packages are missing: npm:n0 1.0: no network.* and 2 more"
    ):
        fetch_missing(make_job(SOURCES).recipe.corpus, tmp_path, Silent())


# building


def test_the_key_follows_pins_conclusions_and_stored_bytes(
    tmp_path: Path, store: PackageStore, make_job: MakeJob
) -> None:
    one = stored(store, "npm", NPM)
    write_lock(tmp_path, [one])
    job = make_job(SOURCES)
    first = fingerprint(job)
    assert fingerprint(job) == first
    write_lock(tmp_path, [replace(one, concluded="MIT OR ISC")])
    assert fingerprint(job) != first
    write_lock(tmp_path, [stored(store, "npm", NPM | {"more.js": b"var more;\n"})])
    assert fingerprint(job) != first
    write_lock(tmp_path, [one])
    store.pinned(one).write_bytes(b"cut")
    with pytest.raises(StorageError, match="not the one that was pinned"):
        fingerprint(job)


def test_rebuilt_from_the_cache_the_root_is_the_same(
    tmp_path: Path, store: PackageStore, make_job: MakeJob
) -> None:
    write_lock(
        tmp_path,
        [stored(store, "npm", NPM), stored(store, "deb", {"usr/share/x/a.py": b"a = 1\n"}, name="d")],
    )
    steps = {"near_duplicates": {}, "drop": ["generated"], "split": "cluster"}
    roots = set()
    for out, workers in (("1", 1), ("2", 2)):
        job = replace(make_job(SOURCES, out=out, steps=steps), workers=workers)
        roots.add(output_root(hash_outputs(job.directory("corpus"), run(job).outputs)))
    assert len(roots) == 1


def test_the_verb_builds_without_a_network_and_goes_on(
    tmp_path: Path, store: PackageStore, make_job: MakeJob
) -> None:
    one, two = stored(store, "npm", NPM), stored(store, "npm", NPM | {"z.js": b"var z = 3;\n"}, name="two")
    data = store.pinned(two).read_bytes()
    store.pinned(two).unlink()
    write_lock(tmp_path, [one, two])
    (tmp_path / "recipe.yaml").write_text(json.dumps(make_job(SOURCES).recipe.resolved()))
    command = [sys.executable, "-m", "sevenfold.cli", "corpus", "build", "recipe.yaml", "--out", "run"]
    environment = os.environ | {"PATH": str(tmp_path)}  # no npm: as good as no network

    def said(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )

    done = said()
    assert done.returncode == 4, done.stderr
    assert "npm:two 1.0: no client" in done.stderr
    done = said("--offline")
    assert done.returncode == 4, done.stderr
    assert "1 of 2 packages are not fetched: npm:two 1.0" in done.stderr
    store.pinned(two).write_bytes(data)
    done = said()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "corpus.html").is_file()
    assert "up to date" in said().stderr
