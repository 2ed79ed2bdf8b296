"""The real shapes take real steps on this machine (`make test-slow`): the 8M recipes, S7-MOE-140M
in its phases, tiny-30m, the 10M proxy (hybrid attention) and M31R-60M.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sevenfold.core.process.log import Silent
from sevenfold.model.transformer import Transformer
from sevenfold.plan.cost import phases_of
from sevenfold.plan.forecast import needed
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.schema import Recipe, TokenRouted
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.train.data.dataset import TrainingData
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.interleave import MixedBatches
from sevenfold.train.data.objectives import Objective
from sevenfold.train.data.windows import Batches
from sevenfold.train.loop import Recording, TrainingRun
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.recording.meters import peak_memory

pytestmark = pytest.mark.slow
STEPS = 3
LIMIT = 20 << 30


def windows(recipe: Recipe, part: TrainingPhase, rows: int) -> Batches | MixedBatches:
    """A stream of ids with structure (each follows from the one before) for each domain."""
    size, sequence = recipe.model.vocab_size, part.spec.sequence
    streams = {}
    for number, domain in enumerate(sorted(part.mix) or [""]):
        tokens = (np.arange(sequence * 40 + 1, dtype=np.int64) * (2 * number + 3)) % min(size, 251)
        streams[domain] = Batches(tokens=tokens, sequence=sequence, batch_sequences=rows, domain=domain)
    if not part.mix:
        return streams[""]
    return MixedBatches(streams=streams, mix=part.mix, sequence=sequence, batch_sequences=rows)


def steps(name: str, part_number: int, rows: int, directory: Path) -> dict[str, Any]:
    """A few steps of a part of a shipped recipe; what they gave and took."""
    recipe = load_recipe(recipe_paths()[name])
    part = training_phases(recipe)[part_number]
    spec = part.spec.model_copy(update={"batch_sequences": rows, "micro_batch_sequences": 1, "trunk": None})
    model = Transformer(recipe.model)
    if isinstance(recipe.model.moe, TokenRouted):
        model.expert_of_token = torch.arange(recipe.model.vocab_size) % 2
    objective = Objective(
        name="next", weight=1.0, source=windows(recipe, part, rows), split=IndexedTokens(path=directory)
    )
    run = TrainingRun(
        model=model,
        phase=replace(part, spec=spec),
        data=TrainingData(objectives=(objective,)),
        directory=directory,
        key="slow",
        progress=Silent(),
        recording=Recording(last=STEPS),
    )
    began, cpu = time.monotonic(), time.process_time()
    run.train()
    rows_written = [json.loads(line) for line in (directory / "metrics.jsonl").read_bytes().splitlines()]
    return {
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in run.parameters),
        "losses": [row["loss"] for row in rows_written],
        "seconds_per_step": (time.monotonic() - began) / STEPS,
        "cpu_seconds_per_step": (time.process_time() - cpu) / STEPS,
        "peak_memory": peak_memory(),
        "forecast": needed(recipe, spec, phases_of(recipe)[min(part_number, 1)]),
    }


def alone(*arguments: object) -> dict[str, Any]:
    """In a process of its own, whose memory is then the run's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: dict[str, Any] = pool.apply(steps, arguments)
    print(json.dumps(found))
    return found


SHAPES = (
    "s7/code-8m",
    "s7/math-8m",
    "s7/general-8m",
    "s7/moe-8m",
    "llama/tiny-30m",
    "slm/proxy-10m",
    "m31r/60m",
)


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_takes_steps(name: str, tmp_path: Path) -> None:
    found = alone(name, 0, 4 if name.startswith("s7") else 1, tmp_path)
    assert len(found["losses"]) == STEPS
    assert np.isfinite(found["losses"]).all()
    assert found["trained"] == found["n_parameters"]
    assert found["peak_memory"] < 6 << 30  # M31R-60M: 4.4 GB, of which the last checkpoint's bytes are 1.4


@pytest.mark.parametrize("part", [0, 1])
def test_moe_140m_takes_steps_in_bf16_within_20_gib(part: int, tmp_path: Path) -> None:
    found = alone("s7/moe-140m", part, 1, tmp_path)
    assert found["n_parameters"] == 132_684_288
    assert found["trained"] < found["n_parameters"]
    assert np.isfinite(found["losses"]).all()
    assert found["peak_memory"] < LIMIT
    assert 0.7 < found["forecast"] / found["peak_memory"] < 1.5
