"""What BF16 records and what its keys hold; FP32 records and keys are as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import job_of, mixed_values

from sevenfold import pipeline
from sevenfold.core.hashing import canonical_json, digest
from sevenfold.train import precision
from sevenfold.train.checkpoints.run_key import run_key
from sevenfold.train.phases import training_phases
from sevenfold.train.recording.environment import CPU, environment, tools
from sevenfold.train.stage import fingerprint


@pytest.mark.parametrize("is_here", [True, False])
def test_a_run_says_which_kernels_compute_bf16(is_here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.bf16, "is_available", lambda: is_here)
    notes = precision.fallback_notes("bf16", CPU)
    assert ["slower and with other bits" in note for note in notes] == ([] if is_here else [True])
    assert tools(CPU, "bf16")["bf16"] == environment(CPU, "fp8")["bf16"] == ("s7" if is_here else "aten")
    assert "bf16" not in tools() | environment(CPU, "fp32")
    assert precision.fallback_notes("fp32", CPU) == []
    assert precision.bf16_kernels("bf16", torch.device("cuda", 0)) == ""


def test_the_law_of_bf16_is_in_its_keys_alone(domain_dir: Path, tmp_path: Path) -> None:
    as_before = {}
    for kind in ("fp32", "bf16", "fp8"):
        job = job_of(mixed_values(), domain_dir, tmp_path / kind, train={"precision": kind})
        pipeline.make(job, until="tokenizer")
        part, mix = training_phases(job.recipe)[0], canonical_json(job.recipe.corpus.mix).decode()
        sections = [job.recipe.model.model_dump_json(), part.spec.model_dump_json()]
        more = [part.name, "", canonical_json(dict(part.mix)).decode()]
        old = digest("sevenfold/run/1", *sections, job.manifest("tokenizer").root, "train.tokens", *more)
        as_before[kind] = (run_key(job, part) == old, fingerprint(job) == mix)
    assert as_before == {"fp32": (True, True), "bf16": (False, False), "fp8": (False, False)}
