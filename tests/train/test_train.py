"""Training: fixed order, same bytes twice, resumed, on one thread or two; bad losses stop it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sevenfold import pipeline
from sevenfold.core.documents import read_documents
from sevenfold.core.errors import RecipeError, StorageError, TrainingError
from sevenfold.core.manifest import read_manifest
from sevenfold.recipe.schema import TrainSpec
from sevenfold.runs.job import Job
from sevenfold.train import gradient_step, loop
from sevenfold.train.checkpoints.checkpoint import latest_checkpoint, read_checkpoint
from sevenfold.train.data.windows import Batches, evaluation_starts, golden_stride
from sevenfold.train.schedule import learning_rate, n_steps
from sevenfold.train.stage import check_supported

MakeJob = Callable[..., Job]
OUTPUTS = ("model.safetensors", "metrics.jsonl", "trace.jsonl")


def train_outputs(job: Job) -> dict[str, bytes]:
    return {name: (job.directory("train") / name).read_bytes() for name in OUTPUTS}


@given(n=st.integers(1, 5000), batch=st.integers(1, 9))
def test_each_pass_visits_every_window_once(n: int, batch: int) -> None:
    batches = Batches(tokens=np.zeros(n * 4 + 1, np.uint16), sequence=4, batch_sequences=batch)
    assert batches.n_windows == n
    starts = [s for step in range(-(-n // batch)) for s in batches.starts(step)][:n]
    assert sorted(starts) == [i * 4 for i in range(n)]


def test_neighbouring_windows_are_far_apart() -> None:
    assert golden_stride(1000) > 300
    batches = Batches(tokens=np.zeros(4001, np.uint16), sequence=4, batch_sequences=8)
    starts = sorted(batches.starts(0))
    assert min(b - a for a, b in itertools.pairwise(starts)) > 4


def test_batches_hold_inputs_and_next_tokens() -> None:
    batches = Batches(tokens=np.arange(101, dtype=np.uint16), sequence=10, batch_sequences=3)
    for row, start in zip(batches.batch(5), batches.starts(5), strict=True):
        assert row.tolist() == list(range(start, start + 11))


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(StorageError, match="one window needs 11"):
        Batches(tokens=np.zeros(10, np.uint16), sequence=10, batch_sequences=1)
    with pytest.raises(StorageError, match="held-out"):
        evaluation_starts(10, 10)


@given(available=st.integers(1, 300), wanted=st.integers(1, 400))
def test_evaluation_windows_are_distinct_and_inside(available: int, wanted: int) -> None:
    starts = evaluation_starts(available * 8 + 1, 8, wanted)
    assert len(set(starts)) == min(available, wanted)
    assert all(s % 8 == 0 and s + 9 <= available * 8 + 1 for s in starts)


def test_schedule_warms_up_and_decays() -> None:
    spec = TrainSpec(seed=1, tokens=6400, batch_sequences=1, sequence=64, learning_rate=1.0, warmup_ratio=0.1)
    rates = [learning_rate(spec, s) for s in range(n_steps(spec))]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates.index(1.0) == 9
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.0 < rates[-1] < 0.01


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=5000))
def test_ordered_sum_is_a_sum(values: list[float]) -> None:
    total = float(loop.ordered_sum(torch.tensor([*values, 0.0], dtype=torch.float64)))
    assert total == pytest.approx(float(np.sum(values)), rel=1e-9, abs=1e-3)


def test_twice_and_on_one_thread_or_two_the_same_bytes(tmp_path: Path, make_job: MakeJob) -> None:
    results, threads = [], torch.get_num_threads()
    try:
        for name, n_threads in (("a", 2), ("b", 2), ("c", 1)):
            torch.set_num_threads(n_threads)
            job = make_job(tmp_path / name)
            pipeline.make(job, until="train")
            results.append(train_outputs(job))
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]
    assert results[0] == results[2]
    rows = [json.loads(line) for line in results[0]["metrics.jsonl"].splitlines()]
    assert [r["step"] for r in rows] == list(range(1, 31))
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5


def test_micro_batches_change_rounding_only(tmp_path: Path, make_job: MakeJob, dense_run: Job) -> None:
    job = make_job(tmp_path / "micro", train={"micro_batch_sequences": 1})
    pipeline.make(job, until="train")
    whole = json.loads(train_outputs(dense_run)["metrics.jsonl"].splitlines()[-1])
    parts = json.loads(train_outputs(job)["metrics.jsonl"].splitlines()[-1])
    assert parts["loss"] == pytest.approx(whole["loss"], abs=0.05)


@pytest.mark.parametrize("stop_after", [1, 10, 17])
def test_stopped_and_resumed_equals_straight(
    stop_after: int, tmp_path: Path, make_job: MakeJob, dense_run: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "stopped")
    original = loop.TrainingRun.advance

    def step(self: loop.TrainingRun, records: object) -> float:
        loss = original(self, records)  # type: ignore[arg-type]  # the real object passes through
        if self.step == stop_after:
            raise KeyboardInterrupt  # as abrupt as a kill: no checkpoint is written for this step
        return loss

    monkeypatch.setattr(loop.TrainingRun, "advance", step)
    with pytest.raises(KeyboardInterrupt):
        pipeline.make(job, until="train")
    assert read_manifest(job.directory("train")) is None
    monkeypatch.setattr(loop.TrainingRun, "advance", original)
    pipeline.make(job, until="train")
    assert train_outputs(job) == train_outputs(dense_run)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, make_job: MakeJob, dense_run: Job
) -> None:
    job = make_job(tmp_path / "damaged")
    pipeline.make(job, until="train")
    directory = job.directory("train")
    (directory / "manifest.json").unlink()
    newest, older = sorted(directory.glob("checkpoint-*"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    key = read_checkpoint(older).key
    found = latest_checkpoint(directory, key)
    assert found is not None
    assert found.step == 20
    assert latest_checkpoint(directory, "another run") is None
    pipeline.make(job, until="train")
    assert train_outputs(job) == train_outputs(dense_run)


def test_a_checkpoint_without_its_records_is_not_resumed(
    tmp_path: Path, make_job: MakeJob, dense_run: Job
) -> None:
    job = make_job(tmp_path / "records")
    pipeline.make(job, until="train")
    directory = job.directory("train")
    (directory / "manifest.json").unlink()
    rows = (directory / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "metrics.jsonl").write_bytes(b"".join(rows[:4] + rows[5:]))
    with pytest.raises(StorageError, match="--force"):
        pipeline.make(job, until="train")
    pipeline.make(job, until="train", force="train")
    assert train_outputs(job) == train_outputs(dense_run)


def test_a_loss_that_is_not_finite_stops_with_the_windows(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "nan")
    original = gradient_step.GradientStep._backward
    calls = [0]

    def poisoned(
        self: gradient_step.GradientStep, number: int, micro: gradient_step.MicroBatch, share: float
    ) -> tuple[float, torch.Tensor]:
        calls[0] += 1
        loss, nats = original(self, number, micro, share)
        return (float("nan"), nats) if calls[0] == 15 else (loss, nats)

    monkeypatch.setattr(gradient_step.GradientStep, "_backward", poisoned)
    with pytest.raises(TrainingError, match="step 14") as caught:
        pipeline.make(job, until="train")
    report = json.loads((job.directory("train") / "stopped.json").read_bytes())
    named = [document for row in report["rows"] for document in row["documents"]]
    assert report["step"] == 14
    assert len(report["rows"]) == job.recipe.train.batch_sequences
    assert named[0] in caught.value.where
    documents = {d.id for d in read_documents(job.directory("corpus") / "train.parquet")}
    assert set(named) <= documents
    assert read_manifest(job.directory("train")) is None
    assert len(list(job.directory("train").glob("checkpoint-00000010*"))) == 1


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("train", {"precision": "fp16"}, "loss scaling"),
        (
            "model",
            {"moe": {"kind": "expert_stacks", "experts": ("a", "b"), "n_layers": 1, "d_ffn": 8}},
            "two phases",
        ),
    ],
)
def test_what_is_planned_only_is_refused_by_name(
    section: str, change: dict[str, object], named: str, tmp_path: Path, make_job: MakeJob
) -> None:
    with pytest.raises(RecipeError, match=named):
        check_supported(make_job(tmp_path, **{section: change}).recipe)
