"""The context curriculum, packing and checkpointing in whole runs: the rows of each step,
resumed, and what is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sevenfold import pipeline
from sevenfold.core.errors import RecipeError
from sevenfold.recipe.schema import Recipe, RopeScaling
from sevenfold.runs.job import Job
from sevenfold.train import loop
from sevenfold.train.data.curriculum import StagedBatches, context_stages, stage_at
from sevenfold.train.data.windows import Batches
from sevenfold.train.phases import training_phases
from sevenfold.train.run_builder import training_run
from sevenfold.train.schedule import n_steps

MakeJob = Callable[..., Job]
OUTPUTS = ("model.safetensors", "metrics.jsonl", "trace.jsonl")
HYBRID = {
    "scheme": "hybrid", "local_chunk": 16, "global_stride": 4, "global_tokens": "learned_summaries",
    "streaming_links": "ring", "rope_scaling": "yarn", "gqa": 1, "kv_quant_bits": 8,
}  # fmt: skip
LONG: dict[str, Any] = {
    "model": {"attention": HYBRID, "context": 128, "rope_scaling": {"kind": "yarn", "factor": 4.0}},
    "train": {
        "tokens": 12 * 4 * 32, "sequence": 32, "checkpoint_every": 5, "packing": "documents",
        "activation_checkpointing": True,
    },
}  # fmt: skip
CONTEXT = {
    "train_base": 32, "extend_at_tokens": 0.5, "target_stage1": 128, "target_stage2": 256, "latency_slo_token"
        "s": 100,
}  # fmt: skip


def long_job(make_job: MakeJob, out: Path, context: dict[str, Any] | None = None, **train: Any) -> Job:
    """A run with every mechanism of requirement C5: hybrid attention, YaRN, a
    curriculum, packing, checkpointing.
    """
    changes = {**LONG, "train": LONG["train"] | train}
    job = make_job(out, **changes)
    values = job.recipe.resolved() | {"context": CONTEXT | (context or {})}
    recipe = type(job.recipe).model_validate_json(json.dumps(values))
    return Job(recipe=recipe, out=job.out, recipe_dir=job.recipe_dir, progress=job.progress)


def outputs(job: Job) -> dict[str, bytes]:
    return {name: (job.directory("train") / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, make_job: MakeJob) -> Job:
    job = long_job(make_job, tmp_path_factory.mktemp("long") / "run")
    pipeline.make(job, until="train")
    return job


def test_a_run_without_a_context_block_has_one_stage(tmp_path: Path, make_job: MakeJob) -> None:
    (stage,) = context_stages(make_job(tmp_path).recipe)
    assert (stage.first_step, stage.sequence, stage.batch_sequences) == (0, 64, 4)


def test_batch_tokens_stay_and_positions_are_scaled_at_the_switch(tmp_path: Path, make_job: MakeJob) -> None:
    recipe = long_job(make_job, tmp_path).recipe
    stages = context_stages(recipe)
    assert [s.first_step for s in stages] == [0, 6]
    assert [(s.sequence, s.batch_sequences) for s in stages] == [(32, 4), (128, 1)]
    assert {s.sequence * s.batch_sequences for s in stages} == {128}
    assert [s.rope_scaling.kind for s in stages] == ["none", "yarn"]
    assert [stage_at(stages, step).sequence for step in range(n_steps(recipe.train))] == [32] * 6 + [128] * 6


def test_each_stage_counts_its_own_windows(tmp_path: Path, make_job: MakeJob) -> None:
    stages = context_stages(long_job(make_job, tmp_path).recipe)
    tokens = np.arange(1281, dtype=np.uint16)

    def source(stage: Any) -> Batches:
        return Batches(tokens=tokens, sequence=stage.sequence, batch_sequences=stage.batch_sequences)

    staged = StagedBatches(stages, source)
    # The batch of a step depends on the step alone, whatever was asked before.
    forward = [staged.batch(step).tobytes() for step in range(12)]
    assert forward == [staged.batch(step).tobytes() for step in reversed(range(12))][::-1]
    assert staged.batch(5).shape == (4, 33)
    assert staged.batch(6).shape == (1, 129)
    assert staged.spans(6) == source(stages[1]).spans(0)
    assert sorted(s for step in range(6, 12) for s in staged.spans(step)) == sorted(
        {s for step in range(6) for s in source(stages[1]).spans(step)}
    )


def test_every_mechanism_in_one_run(straight: Job) -> None:
    rows = [json.loads(line) for line in outputs(straight)["metrics.jsonl"].splitlines()]
    assert [row["sequence"] for row in rows] == [32] * 6 + [128] * 6
    assert [row["tokens"] for row in rows] == [128 * step for step in range(1, 13)]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
    facts = straight.manifest("train").facts
    assert list(facts["heldout_bpb_by_position"]) == ["0-15", "16-31", "32-63", "64-127"]
    assert all(value > 0 for value in facts["heldout_bpb_by_position"].values())


@pytest.mark.parametrize("stop_after", [3, 6, 8])
def test_stopped_around_the_switch_and_resumed(
    stop_after: int, straight: Job, tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = long_job(make_job, tmp_path)
    original = loop.TrainingRun.advance

    def step(self: loop.TrainingRun, records: Any) -> float:
        loss = original(self, records)
        if self.step == stop_after:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(loop.TrainingRun, "advance", step)
    with pytest.raises(KeyboardInterrupt):
        pipeline.make(job, until="train")
    monkeypatch.setattr(loop.TrainingRun, "advance", original)
    pipeline.make(job, until="train")
    assert outputs(job) == outputs(straight)


def test_checkpointing_changes_no_byte(straight: Job, tmp_path: Path, make_job: MakeJob) -> None:
    job = long_job(make_job, tmp_path, activation_checkpointing=False)
    pipeline.make(job, until="train")
    assert outputs(job) == outputs(straight)


def test_two_threads_give_the_bytes_of_one(straight: Job, tmp_path: Path, make_job: MakeJob) -> None:
    job, threads = long_job(make_job, tmp_path), torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        pipeline.make(job, until="train")
    finally:
        torch.set_num_threads(threads)
    assert outputs(job) == outputs(straight)


def test_packing_changes_the_weights(tmp_path: Path, make_job: MakeJob) -> None:
    # Short documents, so that windows hold where one begins.
    (tmp_path / "code").mkdir()
    for number in range(300):
        (tmp_path / "code" / f"{number}.py").write_text(f"def f{number}(x):\n    return x * {number}\n")
    made = []
    for packing in ("documents", "stream"):
        job = replace(long_job(make_job, tmp_path / packing, packing=packing), recipe_dir=tmp_path)
        pipeline.make(job, until="train")
        made.append(outputs(job))
    assert made[0] != made[1]


def test_a_resumed_run_turns_positions_as_its_step_says(straight: Job, tmp_path: Path) -> None:
    run = training_run(straight, tmp_path)
    run.step = 2
    run._enter_stage()
    assert run.model.rope.scaling == RopeScaling()
    run.step = 7
    assert run._enter_stage() == {"sequence": 128}
    assert run.model.rope.scaling.kind == "yarn"


@pytest.mark.parametrize(
    ("context", "named"),
    [
        ({"train_base": 16}, "training starts at 16"),
        ({"target_stage1": 100}, "not whole sequences of 100"),
        ({"extend_at_tokens": 1.0}, "leaves none"),
    ],
)
def test_a_block_that_does_not_fit_the_run_is_refused(
    context: dict[str, Any], named: str, tmp_path: Path, make_job: MakeJob
) -> None:
    with pytest.raises(RecipeError, match=named):
        pipeline.make(long_job(make_job, tmp_path, context), until="train")


def test_expert_stacks_have_no_curriculum(tmp_path: Path, make_job: MakeJob) -> None:
    values = long_job(make_job, tmp_path).recipe.resolved()
    values["model"]["moe"] = {"kind": "expert_stacks", "experts": ["a", "b"], "n_layers": 1, "d_ffn": 8}
    with pytest.raises(RecipeError, match="curriculum with expert stacks"):
        training_phases(Recipe.model_validate_json(json.dumps(values)))
