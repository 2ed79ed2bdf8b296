"""Same pins, same bytes: in any order, over a full disk; and memory that does not grow.

Who makes them: test_workers.py.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from corpus_runs import DRIVER, SOURCES, STEPS, MakeJob, findings, ledger, plant, program, root_of, start

from sevenfold.core.documents import read_documents
from sevenfold.core.errors import StorageError
from sevenfold.core.process.log import Silent
from sevenfold.corpus import global_steps, shards
from sevenfold.corpus.ledger import REASONS
from sevenfold.corpus.stage import run
from sevenfold.corpus.text import contamination_index
from sevenfold.runs.job import Job


def test_same_root_whatever_the_parts_and_the_order_of_files(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path)
    job = make_job(SOURCES, steps=STEPS)
    first = root_of(job)
    assert not (job.directory("corpus") / "parts").exists()
    monkeypatch.setattr(shards, "PART_BYTES", 3000)
    walk = os.walk

    def backwards(top: Path, **options: Any) -> Any:
        for directory, subdirectories, names in walk(top, **options):
            subdirectories.reverse()
            yield directory, subdirectories, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert root_of(make_job(SOURCES, out="second", steps=STEPS)) == first
    monkeypatch.setattr(shards, "PART_DOCUMENTS", 1)
    assert root_of(make_job(SOURCES, out="third", steps=STEPS)) == first


def test_kept_documents_do_not_depend_on_the_order_of_sources(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    both = []
    for out, sources in (("one", SOURCES), ("two", SOURCES[::-1])):
        job = make_job(sources, out=out, steps=STEPS)
        run(job)
        both.append([d.id for d in read_documents(job.directory("corpus") / "train.parquet")])
    assert both[0] == both[1]


def test_everything_together_reconciles_and_is_named(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    job = make_job(SOURCES, steps=STEPS)
    facts = run(job).facts
    assert facts["n_seen"] == len(ledger(job)) == facts["n_kept"] + sum(facts["dropped"].values())
    assert facts["dropped"] == {"vendored": 6, "syntax_error": 6, "duplicate": 9, "near_duplicate": 12}
    totals = [
        row["kept"]["n_documents"] + sum(c["n_documents"] for c in row["dropped"].values())
        for row in facts["languages"]
    ]
    assert sum(totals) == facts["n_seen"]
    assert {(row["domain"], row["language"]) for row in facts["languages"]} == {
        ("code", "python"),
        ("prose", "markdown"),
    }
    assert facts["near_duplicates"]["n_clusters"] == 12
    noted = findings(job)
    assert {(f["step"], f["kind"], f["n"]) for f in noted if f["step"] != "near_duplicates"} == {
        ("personal", "email", 1)
    }
    texts = [
        d.text
        for name in ("train", "heldout")
        for d in read_documents(job.directory("corpus") / f"{name}.parquet")
    ]
    assert sum("REDACTED_EMAIL" in text for text in texts) == 10
    assert not any("@mail.org" in text for text in texts)
    kept = {
        d.id
        for name in ("train", "heldout")
        for d in read_documents(job.directory("corpus") / f"{name}.parquet")
    }
    assert {f["detail"] for f in noted if f["step"] == "near_duplicates"} <= kept


def test_the_longest_of_a_cluster_stays(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    job = make_job(SOURCES, steps={"near_duplicates": {}})
    run(job)
    reasons = {row["path"]: row["reason"] for row in ledger(job)}
    assert reasons["f5.py"] == "near_duplicate"
    assert reasons["near5.py"] == ""


def test_perplexity_drops_what_is_unlike_the_rest(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    noise = random.Random(1)
    (tmp_path / "a" / "noise.py").write_text("".join(chr(33 + noise.randrange(90)) for _ in range(3000)))
    job = make_job(SOURCES, steps={"perplexity": {"min_bits": 0.1, "max_bits": 6.0}})
    facts = run(job).facts
    assert facts["dropped"]["perplexity"] == 1
    (found,) = findings(job)
    assert (found["path"], found["kind"]) == ("noise.py", "bits_per_byte")
    assert float(found["detail"]) > 6


@pytest.mark.parametrize("split", ["cluster", "source"])
def test_leak_seals(tmp_path: Path, make_job: MakeJob, split: str) -> None:
    rng = random.Random(2)
    sources = []
    for number in range(30):
        (tmp_path / f"s{number}").mkdir()
        sources.append({"kind": "directory", "path": f"s{number}", "licence": "MIT"})
        for file in range(4):
            (tmp_path / f"s{number}" / f"f{file}.py").write_text(program(rng))
    for number in range(0, 30, 3):  # near copies from one package in the next
        text = (tmp_path / f"s{number}" / "f0.py").read_text()
        (tmp_path / f"s{number + 1}" / "near.py").write_text(text + "\n# remark\n")
    job = make_job(sources, steps={"near_duplicates": {"keep": True}, "split": split})
    facts = run(job).facts
    assert facts["n_kept"] == 130
    rows = {(row["source"], row["path"]): row["split"] for row in ledger(job)}
    pairs = [(f"directory:s{n}", f"directory:s{n + 1}") for n in range(0, 30, 3)]
    assert all(rows[a, "f0.py"] == rows[b, "near.py"] for a, b in pairs)
    assert {rows[a, "f0.py"] for a, _ in pairs} == {"train", "heldout"}
    splits_by_source = {source: {s for (name, _), s in rows.items() if name == source} for source, _ in rows}
    if split == "source":
        assert all(len(found) == 1 for found in splits_by_source.values())
        assert all(splits_by_source[a] == splits_by_source[b] for a, b in pairs)
    # Canary: the split by document tears clusters apart.
    plain = make_job(sources, out="plain", steps={"near_duplicates": {"keep": True}})
    run(plain)
    torn = {(row["source"], row["path"]): row["split"] for row in ledger(plain)}
    assert any(torn[a, "f0.py"] != torn[b, "near.py"] for a, b in pairs)


def test_decontamination_through_the_stage(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    question = (
        "How many of the nineteen purple lanterns did the old keeper light before the storm came in at dusk?"
    )
    (tmp_path / "sets" / "gsm8k").mkdir(parents=True)
    (tmp_path / "sets" / "gsm8k" / "test.jsonl").write_text(json.dumps({"question": question, "answer": "7"}))
    sha = contamination_index.build(tmp_path / "sets", tmp_path / "eval.s7eh")["sha256"]
    (tmp_path / "a" / "leak.md").write_text(f"# Lanterns\n\n{question}\n")
    steps = {"decontaminate": {"path": "eval.s7eh", "sha256": sha}}
    job = make_job(SOURCES, steps=steps)
    facts = run(job).facts
    assert facts["dropped"]["benchmark"] == 1
    assert [f for f in facts["findings"] if f["step"] == "benchmark"] == [
        {"step": "benchmark", "kind": "gsm8k", "n": 7}
    ]
    with pytest.raises(StorageError, match="the recipe names"):
        run(make_job(SOURCES, out="x", steps={"decontaminate": {"path": "eval.s7eh", "sha256": "0" * 64}}))


def test_a_changed_document_or_rule_makes_its_part_anew(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    job = make_job(SOURCES, steps=STEPS)
    arrivals = [(found, workers_policy()) for found in read_all(job)]
    (task,) = shards.cut(arrivals, job.recipe.corpus, tmp_path, tmp_path / "parts")
    assert not shards.is_made(task)
    shards.make_shard(task)
    assert shards.is_made(task)
    (again,) = shards.cut(arrivals, job.recipe.corpus, tmp_path, tmp_path / "parts")
    assert shards.is_made(again)
    other_rule = make_job(SOURCES, steps={**STEPS, "quality": False}).recipe.corpus
    (tmp_path / "a" / "f0.py").write_text("changed = True\n")
    for documents, spec in (
        (arrivals, other_rule),
        ([(f, workers_policy()) for f in read_all(job)], job.recipe.corpus),
    ):
        (changed,) = shards.cut(documents, spec, tmp_path, tmp_path / "parts")
        assert not shards.is_made(changed)


@pytest.mark.parametrize("suffix", [".texts", ".index", ".bands", ".rows", ".json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_part_that_was_damaged_between_runs_is_made_again(
    suffix: str, damage: str, tmp_path: Path, make_job: MakeJob
) -> None:
    plant(tmp_path)
    job = make_job(SOURCES, steps=STEPS)
    arrivals = [(found, workers_policy()) for found in read_all(job)]
    (task,) = shards.cut(arrivals, job.recipe.corpus, tmp_path, tmp_path / "parts")
    shards.make_shard(task)
    path, said = task.stem.with_suffix(suffix), list[str]()
    whole = path.read_bytes()
    half = len(whole) // 2
    if damage == "remove":
        path.unlink()
    else:
        flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
        path.write_bytes({"flip": flipped, "truncate": whole[:half], "empty": b""}[damage])
    assert not shards.is_made(task, said.append)
    assert len(said) == (0 if (suffix, damage) == (".json", "remove") else 1)
    shards.make_shard(task)
    assert shards.is_made(task)
    assert path.read_bytes() == whole


def workers_policy() -> Any:
    from sevenfold.corpus.licences import LicencePolicy

    return LicencePolicy(["MIT"]).judge("MIT")


def read_all(job: Job) -> Any:
    from sevenfold.corpus.sources import read_source

    for source in job.recipe.corpus.sources:
        yield from read_source(source, job.recipe_dir, 1 << 20)


def test_a_full_disk_is_named_nothing_is_lost_and_a_rerun_goes_on(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    (tmp_path / "b" / "z.py").write_text(program(random.Random(9), 500))
    first = root_of(make_job(SOURCES, steps=STEPS))
    job = make_job(SOURCES, out="full", steps=STEPS)
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (15000, 15000))\n"
    (tmp_path / "limited.py").write_text(limit + DRIVER)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(job.recipe.resolved()))
    done = subprocess.run(
        [sys.executable, tmp_path / "limited.py", recipe, job.out, "1", "10000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StorageError" in done.stderr
    assert "the file would grow past the allowed size" in done.stderr
    assert not list(job.directory("corpus").glob("*.parquet"))
    assert len(list((job.directory("corpus") / "parts").glob("*.json"))) >= 3
    output, errors = start(job, tmp_path, 1, 10000).communicate(timeout=120)
    assert output.strip() == first, errors


def test_stopped_while_it_clears_up_and_run_again(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path)
    monkeypatch.setattr(shards, "PART_BYTES", 5000)
    first = root_of(make_job(SOURCES, steps=STEPS))
    job = make_job(SOURCES, out="stopped", steps=STEPS)
    honest = shutil.rmtree

    def stop_in_the_middle(directory: Path) -> None:
        (directory / "000001.index").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    monkeypatch.setattr(shutil, "rmtree", honest)
    assert root_of(job) == first
    assert not (job.directory("corpus") / "parts").exists()


def test_who_waits_is_told_how_far_each_pass_over_all_documents_is(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path)
    monkeypatch.setattr(global_steps, "_REPORT_EVERY", 10)
    told: dict[str, list[int]] = {}

    class Listener(Silent):
        def start(self, stage: str, total: int | None, unit: str) -> None:
            self.figures = told.setdefault(stage, [])

        def advance(self, done: int, **fields: float | str) -> None:
            self.figures.append(done)

    job = replace(make_job(SOURCES, steps={**STEPS, "perplexity": {}}), progress=Listener())
    n_kept = run(job).facts["n_kept"]
    assert n_kept > 60
    assert told["corpus: perplexity"].count(0) == 4  # two folds, each counted and scored
    assert told["corpus: writing"] == [*range(0, n_kept, 10)] * 2  # once for each split


def test_bad_input_is_named_and_the_rest_goes_on(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path)
    (tmp_path / "a" / "latin.py").write_bytes(b"name = '\xe9'\n")
    (tmp_path / "a" / "loop.py").symlink_to("loop.py")
    (tmp_path / "a" / "self").symlink_to(".")
    with (tmp_path / "a" / "line.py").open("wb") as file:
        file.truncate(2 << 30)  # two gigabytes without a line end; holes take no room
    job = make_job(SOURCES, steps=STEPS)
    facts = run(job).facts
    assert facts["dropped"]["not_utf8"] == facts["dropped"]["too_large"] == 1
    (large,) = [row for row in ledger(job) if row["reason"] == "too_large"]
    assert large["n_bytes"] == 2 << 30
    assert set(facts["dropped"]) <= set(REASONS)


# `python -c MEMORY recipe.yaml out megabytes`: documents are made as they are
# read, under a bound on memory.
MEMORY = """
import random, resource, sys
from pathlib import Path
from sevenfold.corpus import shards, stage
from sevenfold.corpus.sources import Found, Origin
from sevenfold.core.hashing import sha256
from sevenfold.recipe import load_recipe
from sevenfold.runs.job import Job
recipe, out, megabytes = sys.argv[1:]
origin = Origin(source="made", version="", licence="MIT", licence_evidence="", domain="code")
def found(spec, base):
    rng, n = random.Random(1), 0
    while n < int(megabytes) * 1_000_000:
        words = rng.choices(range(100000), k=600)
        data = " ".join(f"w{word}" for word in words).encode()
        yield Found(origin, f"f{n}.py", len(data), sha256(data).hex(), data)
        n += len(data)
stage._found = found
shards.PART_BYTES = 4_000_000
job = Job(recipe=load_recipe(Path(recipe)), out=Path(out), recipe_dir=Path(recipe).parent)
resource.setrlimit(resource.RLIMIT_DATA, (400_000_000, 400_000_000))
facts = stage.run(job).facts
print(facts["n_seen"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_memory_grows_by_the_index_alone(tmp_path: Path, make_job: MakeJob) -> None:
    # 20 GB within 2 GB, a hundredth of it: 200 MB within 400 MB of data, of
    # which the libraries take most.
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(make_job(SOURCES, steps={"near_duplicates": {}, "split": "cluster"}).recipe.resolved())
    )
    seen = []
    for megabytes in (50, 200):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, recipe, tmp_path / f"out{megabytes}", str(megabytes)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen.append(tuple(map(int, done.stdout.split())))
    (n_few, few), (n_many, many) = seen
    assert n_many > 3.9 * n_few
    assert (many - few) / (n_many - n_few) < 600, f"bytes of memory for each document more: {seen}"
