"""A recipe run again: the same root is stated beside the file, another one is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from command_line import s7
from sevenfold.artifact import read_artifact
from sevenfold.audit.reproduce import reproduce
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.release import dsse
from sevenfold.release.signature import make_key_pair
from sevenfold.release.statements import find_statements, statement_paths
from sevenfold.runs.job import Job


def alone(run: Job, directory: Path) -> Path:
    """The sealed file, as somebody gets it who has nothing else."""
    directory.mkdir()
    return Path(shutil.copy(run.out / "model.s7l", directory))


def test_the_same_root_from_the_recipes_own_file(dense_run: Job, tmp_path: Path) -> None:
    model = alone(dense_run, tmp_path / "given")
    with pytest.raises(UsageError, match="relative to the recipe"):
        reproduce(model, None, None, Silent(), tmp_path / "work")
    value = reproduce(model, dense_run.recipe, dense_run.recipe_dir, Silent(), tmp_path / "work")
    assert (value["audit"], value["same"], value["given"]) == ("reproduce", True, [])
    (found,), refused = find_statements(model, read_artifact(model).root)
    assert refused == []
    assert (str(found.path), found.kind) == (value["statement"], "reproduction")
    assert found.predicate["root"] == value["actual_root"]
    assert set(found.predicate["tools"]) == {"corpus", "tokenizer", "train", "quantize"}


def test_the_same_root_from_a_runs_token_files_signed(dense_run: Job, tmp_path: Path) -> None:
    model = alone(dense_run, tmp_path / "given")
    public = dsse.load_public_key(make_key_pair(tmp_path / "key"))
    private = dsse.load_private_key(tmp_path / "key")
    value = reproduce(model, None, None, Silent(), tmp_path / "work", taken=dense_run.out, key=private)
    assert value["stages"] == ["train", "quantize", "seal"]
    (found,), _ = find_statements(model, read_artifact(model).root, {dsse.key_id(public): public})
    assert found.signature == "holds"
    assert found.predicate["given"] == ["corpus", "tokenizer"]
    assert set(found.predicate["tools"]) == {"train", "quantize"}


def test_token_files_of_another_run_are_refused(dense_run: Job, tmp_path: Path) -> None:
    model, other = alone(dense_run, tmp_path / "given"), tmp_path / "other"
    for stage in ("corpus", "tokenizer"):
        shutil.copytree(dense_run.out / stage, other / stage)
    path = other / "tokenizer" / "train.tokens"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"train\.tokens is damaged"):
        reproduce(model, None, None, Silent(), tmp_path / "work", taken=other)
    shutil.rmtree(other / "corpus")
    with pytest.raises(StorageError, match="no finished stage corpus"):
        reproduce(model, None, None, Silent(), tmp_path / "work", taken=other)
    assert statement_paths(model) == []


def test_another_root_states_nothing(dense_run: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sevenfold.quantize import seal

    model = alone(dense_run, tmp_path / "given")
    original = seal.thin
    monkeypatch.setattr(seal, "thin", lambda rows, count=10: original(rows, count))
    value = reproduce(model, None, None, Silent(), tmp_path / "work", taken=dense_run.out)
    assert (value["same"], value["first_stage"], value["statement"]) == (False, "seal", None)
    assert statement_paths(model) == []


@pytest.mark.subprocess
def test_the_verb(dense_run: Job, tmp_path: Path) -> None:
    model = alone(dense_run, tmp_path / "given")

    done = s7("reproduce", model, "--from", dense_run.out, "--work", tmp_path / "work", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["same"]
    done = s7("verify", model)
    assert done.returncode == 0
    assert "made again, the same root" in done.stdout
    done = s7("reproduce", model, "--from", dense_run.out, "--recipe", "s7/demo-1m")
    assert done.returncode == 2
    data = bytearray(model.read_bytes())
    data[40] ^= 1
    model.chmod(0o644)
    model.write_bytes(data)
    assert s7("reproduce", model, "--from", dense_run.out).returncode == 3
