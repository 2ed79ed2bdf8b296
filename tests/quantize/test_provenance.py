"""Equal bytes have equal roots: what computed a model stands beside the sealed file and not in it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.audit.diff import diff
from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import read_manifest, write_manifest
from sevenfold.core.run_files import ARTIFACT
from sevenfold.quantize import seal
from sevenfold.release.lineage import lineage
from sevenfold.release.statements import recorded_tools, statement_paths
from sevenfold.runs.job import Job

STAGES = ("corpus", "tokenizer", "train", "quantize")


def made_elsewhere(run: Job, out: Path) -> Job:
    """The same run, said to be made with other libraries on another machine; not sealed."""
    shutil.copytree(run.out, out)
    (out / ARTIFACT).chmod(0o644)
    (out / ARTIFACT).unlink()
    shutil.rmtree(out / "seal")
    for statement in statement_paths(out / ARTIFACT):
        statement.unlink()
    for stage in STAGES:
        manifest = read_manifest(out / stage)
        assert manifest is not None
        tools = {name: value if name == "arithmetic" else "other" for name, value in manifest.tools.items()}
        write_manifest(out / stage, replace(manifest, tools=tools))
    return replace(run, out=out)


def test_another_machine_gives_the_same_root(dense_run: Job, tmp_path: Path) -> None:
    other = made_elsewhere(dense_run, tmp_path / "run")
    pipeline.run_stage(other, pipeline.find_stage("seal"))
    a, b = (read_artifact(job.out / ARTIFACT) for job in (dense_run, other))
    assert a.root == b.root
    assert (dense_run.out / ARTIFACT).read_bytes() == (other.out / ARTIFACT).read_bytes()
    assert recorded_tools(b.path, b.root)["train"]["torch"] == "other"
    assert {row["key"] for row in diff(a, b)["tools"]} >= {"train.torch", "corpus.pyarrow"}


def test_no_machine_and_no_library_is_in_the_seal(dense_run: Job) -> None:
    facts = read_artifact(dense_run.out / ARTIFACT).provenance["identity"]["facts"]
    assert "tools" not in facts
    assert facts["arithmetic"] == dense_run.manifest("train").tools["arithmetic"]

    def values(value: Json) -> set[str]:
        if isinstance(value, dict):
            return set().union(*(values(v) for k, v in value.items() if k != "recipe"), set(value))
        if isinstance(value, list):
            return set().union(*map(values, value)) if value else set()
        return {str(value)}

    tools = [dense_run.manifest(stage).tools for stage in STAGES]
    names = {name for stage in tools for name in stage} - {
        "arithmetic",
        "sevenfold",
        "python",
    }  # a language, too
    said = values(facts)
    assert names
    assert sorted(said & names) == []
    assert sorted(said & {platform.machine(), platform.python_version()}) == []


def test_tools_are_told_where_a_statement_names_the_root(dense_run: Job, tmp_path: Path) -> None:
    path = tmp_path / ARTIFACT
    shutil.copy(dense_run.out / ARTIFACT, path)
    artifact = read_artifact(path)
    assert lineage(artifact)["tools"] is None
    (told,) = statement_paths(dense_run.out / ARTIFACT)
    beside = Path(shutil.copy(told, path.parent))
    assert lineage(artifact)["tools"]["train"] == dense_run.manifest("train").tools
    assert recorded_tools(path, "0" * 64) == {}
    for wrong in ("{", "[]", '"x"', "{}"):
        beside.write_text(wrong)
        assert recorded_tools(path, artifact.root) == {}


def test_what_is_no_statement_of_ours_is_not_replaced(dense_run: Job, tmp_path: Path) -> None:
    other = made_elsewhere(dense_run, tmp_path / "run")
    seal.run(other)
    (mine,) = statement_paths(other.out / ARTIFACT)
    mine.write_text("notes of mine")
    with pytest.raises(StorageError, match="something else is there"):
        seal.run(other)
    assert mine.read_text() == "notes of mine"


def test_a_model_that_takes_the_place_of_another_has_its_own_statement(
    dense_run: Job, tmp_path: Path
) -> None:
    other = made_elsewhere(dense_run, tmp_path / "run")
    seal.run(other)
    path = other.out / ARTIFACT
    (before,) = statement_paths(path)
    seal.run(replace(other, with_training_weights=True, replace=True))
    (after,) = statement_paths(path)
    assert after != before
    assert recorded_tools(path, read_artifact(path).root)["train"]["torch"] == "other"
