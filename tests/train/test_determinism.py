"""The same bytes: twice, killed, on one thread or two, in BF16, with recomputed activations;
what is not promised is named.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import (
    OUTPUTS,
    bf16_values,
    dense_values,
    job_of,
    mixed_values,
    objective_values,
    outputs,
    stack_values,
)

from sevenfold import pipeline
from sevenfold.audit.replay import audit_steps
from sevenfold.core.errors import TrainingError
from sevenfold.core.process.log import Silent
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.operators import LAW
from sevenfold.model.loss import backward, sequence_losses
from sevenfold.runs.job import Job
from sevenfold.train import loop
from sevenfold.train.arithmetic import arithmetic
from sevenfold.train.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
    save_checkpoint,
)
from sevenfold.train.data.dataset import open_data
from sevenfold.train.gradient_step import GradientStep
from sevenfold.train.loop import Recording, TrainingRun, ordered_sum
from sevenfold.train.phases import training_phases
from sevenfold.train.recording.environment import CPU, differences, environment
from sevenfold.train.recording.meters import WINDOW, LossGuard
from sevenfold.train.run_builder import training_run

VALUES: dict[str, Callable[[], dict[str, Any]]] = {
    "dense": dense_values,
    "mixed": mixed_values,
    "stack": stack_values,
    "objective": objective_values,
}


def killed_run(family: str, source: Path, out: Path, moments: list[int]) -> tuple[dict[str, bytes], str]:
    """The outputs of a run that was killed at each of the moments, and what the driver said."""
    driver = Path(__file__).parent / "kill_driver.py"
    command = [sys.executable, driver, family, source, out, *moments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed at") >= 0.7 * len(moments), done.stdout
    return {name: (out / "train" / name).read_bytes() for name in OUTPUTS}, done.stdout


def test_killed_at_a_step_in_a_record_and_in_a_checkpoints_write(
    objective_run: Job, domain_dir: Path, tmp_path: Path
) -> None:
    # A step is three events, opening the records six. Killed in half of the first checkpoint, in
    # step 8, in the next rename.
    found, said = killed_run("objective", domain_dir, tmp_path, [25, 37, 27])
    assert found == outputs(objective_run)
    assert "killed at half" in said
    begun = [line for line in said.splitlines() if line.startswith("from")]
    assert begun == ["from step 0", "from step 0", "from step 5", "from step 10"], said


def test_bf16_killed_at_a_step_and_in_a_checkpoints_write(domain_dir: Path, tmp_path: Path) -> None:
    straight = job_of(bf16_values(), domain_dir, tmp_path / "straight")
    pipeline.make(straight, until="train")
    found, said = killed_run("bf16", domain_dir, tmp_path / "killed", [25, 37])
    assert found == outputs(straight), said


@pytest.mark.slow
@pytest.mark.parametrize("family", list(VALUES))
def test_killed_at_twenty_random_moments(family: str, domain_dir: Path, tmp_path: Path) -> None:
    straight = job_of(VALUES[family](), domain_dir, tmp_path / "straight")
    pipeline.make(straight, until="train")
    seed = int(os.environ.get("S7_KILL_SEED", "20"))
    chance = random.Random(f"{family} {seed}")
    moments = [chance.randrange(1, 45) for _ in range(20)]
    print(f"seed {seed} (S7_KILL_SEED is another), killed after so many events: {moments}")
    found, said = killed_run(family, domain_dir, tmp_path / "killed", moments)
    print(said)
    assert found == outputs(straight), said
    assert re.search("killed at (half|sync_directory|prune)", said)  # in the middle of a checkpoint's write


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", list(VALUES))
def test_one_thread_and_two_the_same_bytes(
    family: str, precision: str, domain_dir: Path, tmp_path: Path
) -> None:
    found, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            job = job_of(VALUES[family](), domain_dir, tmp_path / str(number), train={"precision": precision})
            pipeline.make(job, until="train")
            found.append(outputs(job))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_change_no_bit(
    precision: str, objective_run: Job, domain_dir: Path, tmp_path: Path
) -> None:
    found = []
    for recompute in (False, True):
        change = {"activation_checkpointing": recompute, "precision": precision}
        job = job_of(objective_values(), domain_dir, tmp_path / str(recompute), train=change)
        pipeline.make(job, until="train")
        found.append(outputs(job))
    assert found[0] == found[1]
    assert (found[0] == outputs(objective_run)) == (precision == "fp32")


def test_recomputing_keeps_less_for_backward(domain_dir: Path, tmp_path: Path) -> None:
    job = job_of(mixed_values(), domain_dir, tmp_path)
    pipeline.make(job, until="tokenizer")
    kept = []
    for recompute in (False, True):
        job = job_of(mixed_values(), domain_dir, tmp_path, train={"activation_checkpointing": recompute})
        run = training_run(job, tmp_path)
        run.start()
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run.model.hidden(torch.zeros(4, 64, dtype=torch.int64))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 4


def gradients(run: TrainingRun, rows: torch.Tensor, n_tokens: int) -> list[torch.Tensor]:
    """Gradients of some rows alone, as another machine would compute them."""
    run.optimizer.zero_grad()
    hidden, head_VD = run.model.states(rows[:, :-1])
    if operators.is_taken(hidden):
        backward(hidden, head_VD, rows[:, 1:], None, 1.0 / n_tokens)
    else:
        (sequence_losses(hidden, head_VD, rows[:, 1:]) / n_tokens).sum().backward()
    return [p.grad.clone() for p in run.parameters]


def test_a_step_is_the_ordered_sum_of_its_micro_batches(domain_dir: Path, tmp_path: Path) -> None:
    # The law of accumulation: whoever computes a micro-batch, and when, the sum in
    # order has the bits of the step.
    job = job_of(mixed_values(), domain_dir, tmp_path, train={"micro_batch_sequences": 1})
    pipeline.make(job, until="tokenizer")
    run = training_run(job, tmp_path)
    loop.use_deterministic_kernels()
    run.start()
    run.model.train()
    batch = torch.from_numpy(run.data.objectives[0].source.batch(0))
    apart = [gradients(run, batch[i : i + 1], 4 * 64) for i in (3, 1, 0, 2)]
    in_order = [apart[2], apart[1], apart[3], apart[0]]
    expected = [torch.stack(parts) for parts in zip(*in_order, strict=True)]
    run.gradients.run(run.step)
    for parameter, parts in zip(run.parameters, expected, strict=True):
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        assert torch.equal(parameter.grad, total)


def test_a_checkpoint_carries_seed_state_cursor_and_environment(objective_run: Job) -> None:
    directory = objective_run.directory("train")
    step = checkpoint_steps(directory)[-1]
    checkpoint = read_checkpoint(checkpoint_path(directory, step))
    assert (checkpoint.seed, checkpoint.step) == (objective_run.recipe.train.seed, 20)
    assert checkpoint.rng.dtype == torch.uint8
    recipe = objective_run.recipe
    law = arithmetic(recipe.model, recipe.train, CPU)
    assert checkpoint.environment == environment(law=law) | {"deterministic": "True"}
    assert {"torch", "cpu", "cpu_capability"} <= set(checkpoint.environment)
    earlier = read_checkpoint(checkpoint_path(directory, 15))
    assert not torch.equal(earlier.rng, checkpoint.rng)  # dropout draws from it


class Notes(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("law", ["", "another"])
def test_another_environment_is_named_on_resume(law: str, domain_dir: Path, tmp_path: Path) -> None:
    notes = Notes()
    job = replace(job_of(mixed_values(), domain_dir, tmp_path), progress=notes)
    pipeline.make(job, until="tokenizer")
    directory = job.directory("train")
    directory.mkdir()
    run = training_run(job, directory)
    run.recording = Recording(last=5)
    run.train()
    checkpoint = read_checkpoint(checkpoint_path(directory, 5))
    here = checkpoint.environment["arithmetic"]
    other = dict(checkpoint.environment) | {"cpu": "another processor", "torch": "1.0"}
    other["arithmetic"] = law or here
    save_checkpoint(directory, replace(checkpoint, environment=other))
    pipeline.make(job, until="train")
    # Under one law on both sides the machine decides no bit, and nothing is said of it.
    is_said = here != LAW or bool(law)
    processor = "was another processor; from step 6 on"
    assert is_said == any("cpu is" in line and processor in line for line in notes.lines)
    assert is_said == any("torch is" in line and "was 1.0" in line for line in notes.lines)
    assert differences({}, environment()) == []


def test_an_audit_does_steps_with_dropout_and_objectives_again(objective_run: Job, tmp_path: Path) -> None:
    result = audit_steps(objective_run.out, 8, 20, objective_run.recipe, Silent())
    assert result["same"], result["differences"]
    assert result["started_from"].startswith("train/checkpoint") or result["started_from"] == "seed"
    assert result["compared"]["trace_points"] == 1


def test_a_spike_stops_before_the_step_and_names_documents(
    domain_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = mixed_values()
    values["train"] |= {"spike": 1.0, "tokens": 60 * 4 * 64, "checkpoint_every": 50}
    job = job_of(values, domain_dir, tmp_path)
    original, state = GradientStep.run, {"spiked": 0}

    def poisoned(self: GradientStep, step: int) -> list[Any]:
        parts = original(self, step)
        if step in (20, 55):
            state["spiked"] += 1
            parts[0] = replace(parts[0], loss=parts[0].loss + 5.0)
        return parts

    monkeypatch.setattr(GradientStep, "run", poisoned)
    with pytest.raises(TrainingError, match=r"above the median of 50 steps, at step 55") as caught:
        pipeline.make(job, until="train")
    assert state["spiked"] == 2  # step 20 comes before there are 50 losses to hold it against
    report = json.loads((job.directory("train") / "stopped.json").read_bytes())
    assert report["rows"][0]["documents"][0] in caught.value.where
    assert checkpoint_steps(job.directory("train")) == [50]
    with pytest.raises(
        TrainingError, match="at step 55"
    ):  # resumed from step 50: the losses came with the checkpoint
        pipeline.make(job, until="train")
    monkeypatch.setattr(GradientStep, "run", original)
    pipeline.make(job, until="train")


@pytest.mark.parametrize("family", list(VALUES))
def test_a_loss_that_is_no_number_stops_every_kind_of_run(
    family: str, domain_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(VALUES[family](), domain_dir, tmp_path)
    part = training_phases(job.recipe)[-1]  # of stacks, the last expert: 4 steps behind the trunk
    bad = 3 if part.name else 12
    original = GradientStep.run

    def poisoned(self: GradientStep, step: int) -> list[Any]:
        parts = original(self, step)
        if self.phase.name == part.name and step == bad:
            parts[-1] = replace(parts[-1], loss=float("nan"))
        return parts

    monkeypatch.setattr(GradientStep, "run", poisoned)
    with pytest.raises(TrainingError, match=f"loss nan.* at step {bad}") as caught:
        pipeline.make(job, until="train")
    directory = job.directory("train") / part.name
    report = json.loads((directory / "stopped.json").read_bytes())
    assert {row["objective"] for row in report["rows"]} >= (
        {"next", "fim", "cot"} if family == "objective" else {"next"}
    )
    rows = [row for row in report["rows"] if row["objective"] == "next"]
    assert {row["domain"] for row in rows} <= ({"math", "prose", "code", "reasoning"} if part.mix else {""})
    if part.stack is not None:
        assert {row["domain"] for row in rows} == {"prose"}
    split = open_data(job, part).objectives[0].split
    known = {split.index.id(number): number for number in range(split.file.n_documents)}
    for row in rows:
        assert row["documents"]
        domains = {split.index.domains[split.index.domain_of[known[name]]] for name in row["documents"]}
        assert domains == {row["domain"]} or not part.mix
    assert report["rows"][0]["documents"][0] in caught.value.where
    saved = bad // job.recipe.train.checkpoint_every * job.recipe.train.checkpoint_every
    assert checkpoint_steps(directory)[-1] == saved
    monkeypatch.setattr(GradientStep, "run", original)
    pipeline.make(job, until="train")  # the last good checkpoint is one


def test_the_guard_is_off_by_default_and_robust() -> None:
    assert LossGuard().judge(1e9, 1.0) == ""
    assert "nan" in LossGuard().judge(float("nan"), 1.0)
    assert "inf" in LossGuard().judge(1.0, float("inf"))
    guard = LossGuard(spike=0.5)
    for step in range(WINDOW):
        assert guard.judge(2.0 + 0.3 * (step % 2), 1.0) == ""
    assert guard.judge(2.6, 1.0) == ""
    assert guard.judge(2.9, 1.0) != ""
    assert guard.judge(2.6, 1.0) == ""  # what was refused is not remembered


def test_ordered_sum_does_not_depend_on_threads() -> None:
    values, threads = (
        torch.randn(1_000_003, generator=torch.Generator().manual_seed(2)),
        torch.get_num_threads(),
    )
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(float(ordered_sum(values)))
    finally:
        torch.set_num_threads(threads)
    assert len(set(found)) == 1
