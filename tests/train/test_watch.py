"""What a person sees of a run: figures, event files; and the precisions that
are used, replaced or refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import job_of, mixed_values, outputs
from safetensors.torch import load

from sevenfold import pipeline
from sevenfold.core.errors import RecipeError
from sevenfold.core.process.log import Silent
from sevenfold.model.linear import Linear
from sevenfold.report.console import shown_figures
from sevenfold.runs.job import Job
from sevenfold.train.precision import autocast, check_precision
from sevenfold.train.recording.meters import ThroughputMeter, peak_memory


class Told(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | str]] = []
        self.lines: list[str] = []

    def advance(self, done: int, **fields: float | str) -> None:
        self.rows.append({"done": done, **fields})

    def note(self, text: str) -> None:
        self.lines.append(text)


def test_the_view_shows_each_objective_and_domain_with_rate_and_memory() -> None:
    told, gauge = Told(), ThroughputMeter(flops_per_token=1e6, peak_flops=1e12)
    gauge.begin(10)
    row = {"tokens": 1100, "loss": 4.0, "objectives": {"next": 3.0, "fim": 5.0}, "domains": {"code": 2.5}}
    gauge.report(told, row | {"step": 11})
    gauge.report(told, row | {"step": 12, "tokens": 1200, "loss": 2.0, "domains": {"math": 1.0}})
    first, second = told.rows
    assert (first["loss"], first["fim"], first["code"]) == (4.0, "5.000", "2.500")
    assert second["loss"] == pytest.approx(0.95 * 4.0 + 0.05 * 2.0)
    assert second["code"] == "2.500"  # a domain that had no row keeps its figure
    assert {"MFU", "memory", "tokens_per_second"} <= set(second)
    assert "math 1.000" in shown_figures({k: v for k, v in second.items() if k != "done"})
    assert peak_memory() > 1 << 20


def test_event_files_hold_domains_and_objectives(objective_run: Job) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    directory = objective_run.directory("train")
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"loss", "objectives/fim", "objectives/cot", "domains/code", "domains/reasoning"} <= set(tags)
    rows = [json.loads(line) for line in outputs(objective_run)["metrics.jsonl"].splitlines()]
    fim = [event.value for event in events.Scalars("objectives/fim")]
    assert fim == pytest.approx([row["objectives"]["fim"] for row in rows], rel=1e-6)
    named = {output.path for output in objective_run.manifest("train").outputs}
    assert named == {"model.safetensors", "metrics.jsonl", "trace.jsonl"}  # no clock among hashed files


def test_bf16_is_in_the_products_alone() -> None:
    layer = Linear(8, 4)
    layer.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    with autocast("bf16", torch.device("cpu")):
        low = layer(x)
    assert low.dtype == torch.bfloat16
    low.float().sum().backward()
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32
    assert layer(x).dtype == torch.float32
    with pytest.raises(RecipeError, match="loss scaling"):
        check_precision("fp16")


def test_fp8_is_bf16_here_and_says_so(domain_dir: Path, tmp_path: Path) -> None:
    told, found = Told(), []
    for precision in ("bf16", "fp8"):
        change = {"precision": precision, "tokens": 5 * 256}
        job = replace(job_of(mixed_values(), domain_dir, tmp_path / precision, train=change), progress=told)
        pipeline.make(job, until="train")
        found.append(outputs(job))
        assert job.manifest("train").facts.get("precision_used") == (None if precision == "bf16" else "bf16")
    assert found[0] == found[1]
    assert {t.dtype for t in load(found[0]["model.safetensors"]).values()} == {torch.float32}
    assert sum("no FP8 products" in line for line in told.lines) == 1


def test_routed_experts_train_in_bf16(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job(tmp_path, "moe", train={"precision": "bf16", "tokens": 10 * 256})
    pipeline.make(job, until="train")
    rows = [json.loads(line) for line in outputs(job)["metrics.jsonl"].splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]
