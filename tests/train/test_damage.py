"""What a resumed run reads back is verified: damaged, it is skipped,
made again or refused by name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold import pipeline
from sevenfold.core.errors import StorageError
from sevenfold.core.process.log import Silent
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints.checkpoint import (
    DamagedCheckpointError,
    latest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

MakeJob = Callable[..., Job]
Damage = Callable[[Path], None]
OUTPUTS = ("model.safetensors", "metrics.jsonl", "trace.jsonl")


class Notes(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def stopped(dense_run: Job, tmp_path: Path) -> tuple[Job, Notes]:
    """A copy of a finished run whose train stage has no manifest, so that it goes on;
    checkpoints of steps 20 and 30.
    """
    out, notes = tmp_path / "run", Notes()
    shutil.copytree(dense_run.out, out)
    (out / "train" / "manifest.json").unlink()
    return replace(dense_run, out=out, progress=notes), notes


def checkpoint(job: Job, step: int) -> Path:
    return job.directory("train") / f"checkpoint-{step:08d}.safetensors"


def flip(place: float) -> Damage:
    """Change one bit, `place` of the way through the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(int(place * len(data)), len(data) - 1)] ^= 4
        path.write_bytes(data)

    return damage


def zero_the_second_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def take_the_name_of_a_later_step(path: Path) -> None:
    shutil.copyfile(path.with_name(path.name.replace("30", "20")), path)


def lose_the_digest(path: Path) -> None:
    """What an earlier version of the program wrote."""
    path.write_bytes(path.read_bytes().replace(b"sevenfold.sha256", b"sevenfold.sha255"))


DAMAGES: dict[str, Damage] = {
    "first byte": flip(0.0),
    "header": flip(0.05),
    "weights": flip(0.5),
    "last byte": flip(1.0),
    "zeros": zero_the_second_half,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]) and None,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0") and None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "text": lambda path: path.write_bytes(b"[" * 100_000) and None,
    "renamed": take_the_name_of_a_later_step,
    "no digest": lose_the_digest,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_named(name: str, stopped: tuple[Job, Notes]) -> None:
    job, notes = stopped
    key = read_checkpoint(checkpoint(job, 30)).key
    DAMAGES[name](checkpoint(job, 30))
    found = latest_checkpoint(job.directory("train"), key, note=notes.note)
    assert found is not None
    assert found.step == 20
    assert [line.startswith("checkpoint-00000030.safetensors is skipped") for line in notes.lines] == [True]
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint-00000030"):
        read_checkpoint(checkpoint(job, 30))


def test_no_bit_of_a_checkpoint_is_free(stopped: tuple[Job, Notes]) -> None:
    job, _ = stopped
    path = checkpoint(job, 30)
    whole = path.read_bytes()
    n_header = 8 + int.from_bytes(whole[:8], "little")
    for place in {*range(0, n_header, 61), *range(n_header, len(whole), len(whole) // 50), len(whole) - 1}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert read_checkpoint(path).step == 30


def test_a_checkpoint_of_another_recipe_is_passed_over_and_named(stopped: tuple[Job, Notes]) -> None:
    job, notes = stopped
    newest = read_checkpoint(checkpoint(job, 30))
    save_checkpoint(job.directory("train"), replace(newest, key="0" * 64))
    found = latest_checkpoint(job.directory("train"), newest.key, note=notes.note)
    assert found is not None
    assert found.step == 20
    assert "belongs to another recipe" in notes.lines[0]


def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_bytes(
    stopped: tuple[Job, Notes], dense_run: Job
) -> None:
    job, notes = stopped
    zero_the_second_half(checkpoint(job, 30))
    pipeline.make(job, until="train")
    assert any("checkpoint-00000030.safetensors is skipped" in line for line in notes.lines)
    assert "resuming at step 20 of 30" in notes.lines
    for name in OUTPUTS:
        assert (job.directory("train") / name).read_bytes() == (
            dense_run.directory("train") / name
        ).read_bytes()


def test_a_figure_that_changed_in_the_records_is_made_again(
    stopped: tuple[Job, Notes], dense_run: Job
) -> None:
    job, notes = stopped
    path = job.directory("train") / "metrics.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    rows[24] = rows[24].replace(b'"loss":', b'"loss":1', 1)  # still JSON
    path.write_bytes(b"".join(rows))
    pipeline.make(job, until="train")
    assert any("metrics.jsonl is damaged before its step" in line for line in notes.lines)
    assert "resuming at step 20 of 30" in notes.lines
    assert path.read_bytes() == (dense_run.directory("train") / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["metrics.jsonl", "trace.jsonl"])
def test_records_that_no_checkpoint_binds_are_refused_and_nothing_is_lost(
    name: str, stopped: tuple[Job, Notes]
) -> None:
    job, _ = stopped
    kept = [checkpoint(job, step).read_bytes() for step in (20, 30)]
    path = job.directory("train") / name
    path.write_bytes(b"[]\n" if name == "metrics.jsonl" else b"")
    if name == "trace.jsonl":  # of the steps up to 20 it holds nothing
        checkpoint(job, 20).unlink()
        kept = kept[1:]
    with pytest.raises(StorageError, match=f"{name}.*put the file back.*--force"):
        pipeline.make(job, until="train")
    assert [p.read_bytes() for p in sorted(job.directory("train").glob("checkpoint-*"))] == kept


@pytest.mark.parametrize("name", ["train.tokens", "tokenizer.json", "train.index", "heldout.tokens"])
@pytest.mark.parametrize("damage", ["weights", "empty"])
def test_an_input_that_changed_is_refused_by_name(name: str, damage: str, stopped: tuple[Job, Notes]) -> None:
    job, _ = stopped
    path = job.directory("tokenizer") / name
    DAMAGES[damage](path)
    with pytest.raises(StorageError, match=f"{name}: .*--until tokenizer"):
        pipeline.run_stage(job, pipeline.find_stage("train"))
    path.unlink()
    with pytest.raises(StorageError, match=f"{name}: .*--until tokenizer"):
        pipeline.run_stage(job, pipeline.find_stage("train"))


@pytest.mark.parametrize(
    ("stage", "name"),
    [("quantize", "records.safetensors"), ("quantize", "graph.json"), ("train", "metrics.jsonl")],
)
def test_what_the_seal_reads_is_verified_first(stage: str, name: str, dense_run: Job, tmp_path: Path) -> None:
    job = replace(dense_run, out=Path(shutil.copytree(dense_run.out, tmp_path / "run")))
    flip(0.5)(job.directory(stage) / name)
    with pytest.raises(StorageError, match=f"{name}: .*--until {stage}"):
        pipeline.run_stage(job, pipeline.find_stage("seal"), force=True)


def test_a_manifest_that_changed_is_not_believed(dense_run: Job, tmp_path: Path) -> None:
    notes = Notes()
    job = replace(dense_run, out=Path(shutil.copytree(dense_run.out, tmp_path / "run")), progress=notes)
    path = job.directory("quantize") / "manifest.json"
    whole = path.read_bytes()
    damaged = whole.replace(b'"bpb_int":', b'"bpb_int":1', 1)  # a figure that would be sealed
    assert damaged != whole
    for data in (damaged, whole[: len(whole) // 2], b""):
        path.write_bytes(data)
        assert pipeline.make(job) == ["quantize"]
        assert path.read_bytes() == whole
        assert any("manifest.json is of no use" in line for line in notes.lines)
        notes.lines.clear()
