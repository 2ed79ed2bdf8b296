"""One corpus for several runs: taken where the recipes differ in what the stage passes
on, refused by name where not.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.manifest import damaged_output
from sevenfold.runs.job import Job

CORPUS = pipeline.find_stage("corpus")
SOURCE = {"kind": "directory", "path": "code", "licence": "PSF-2.0", "include": ("*.py",)}
MakeJob = Callable[..., Job]


def one(make_job: MakeJob, out: Path) -> Job:
    job = make_job(out, corpus={"mix": {"code": 1.0}, "sources": (SOURCE,)})
    pipeline.run_stage(job, CORPUS)
    return job


@pytest.mark.parametrize("links", [True, False])
def test_another_mix_takes_the_same_corpus(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    first = one(make_job, tmp_path / "one")
    second = make_job(tmp_path / "two")
    if not links:

        def none(self: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(target))

        monkeypatch.setattr(Path, "hardlink_to", none)
    monkeypatch.setattr("sevenfold.corpus.stage.run", None)  # nothing is built
    pipeline.take_over(second, CORPUS, first.out)
    theirs, ours = first.manifest("corpus"), second.manifest("corpus")
    assert (ours.root, ours.outputs) == (theirs.root, theirs.outputs)
    assert damaged_output(second.directory("corpus"), ours) is None
    assert ours.recipe_digest == second.recipe.digest != theirs.recipe_digest
    assert dict(ours.facts) == {**theirs.facts, "mix": {}}
    assert theirs.facts["mix"] == {"code": 1.0}
    assert not pipeline.run_stage(second, CORPUS)  # up to date
    pipeline.take_over(second, CORPUS, first.out)
    monkeypatch.undo()
    assert pipeline.make(second, until="tokenizer") == ["tokenizer"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"recipe": 1}', b"[" * 9999])
def test_a_damaged_recipe_of_the_other_run_is_one_line(
    data: bytes, tmp_path: Path, make_job: MakeJob
) -> None:
    first = one(make_job, tmp_path / "one")
    (first.out / "recipe.json").write_bytes(data)
    with pytest.raises(StorageError, match=r"recipe\.json: not a recipe that this version writes"):
        pipeline.take_over(make_job(tmp_path / "two"), CORPUS, first.out)


def test_another_corpus_is_refused_by_what_differs(tmp_path: Path, make_job: MakeJob) -> None:
    first = one(make_job, tmp_path / "one")
    other = make_job(tmp_path / "two", corpus={"holdout": 5, "max_bytes": 1000})
    with pytest.raises(UsageError, match="another corpus: holdout, max_bytes differ"):
        pipeline.take_over(other, CORPUS, first.out)
    with pytest.raises(UsageError, match="from itself"):
        pipeline.take_over(make_job(tmp_path / "one"), CORPUS, tmp_path / "one")
    assert first.manifest("corpus")


def test_what_is_not_whole_or_not_of_now_is_refused(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = make_job(tmp_path / "two")
    with pytest.raises(StorageError, match="no finished corpus is there"):
        pipeline.take_over(second, CORPUS, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    first = one(make_job, tmp_path / "one")
    with monkeypatch.context() as changed:
        changed.setattr("sevenfold.corpus.stage.fingerprint", lambda _: "sources of another day")
        with pytest.raises(StorageError, match="have changed since"):
            pipeline.take_over(second, CORPUS, first.out)
    train = first.directory("corpus") / "train.parquet"
    train.write_bytes(train.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"train.parquet is damaged"):
        pipeline.take_over(second, CORPUS, first.out)
    assert not second.directory("corpus").exists()
