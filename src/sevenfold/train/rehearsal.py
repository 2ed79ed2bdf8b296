"""Measure how fast this machine trains a recipe, with its own step on random tokens for a few
seconds.

The kernels, the precision and the shapes are those of the run (`loop.TrainingRun`), so `s7 plan`
forecasts the work that will be done. A whole step would take too long. So its two components are
timed separately: the gradient of some rows, which grows with the tokens, and the update, which
grows with the parameters. Where one row exceeds BUDGET, the row is shortened, then the depth is
reduced.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.process.log import Silent
from sevenfold.core.process.memory import keep_freed_memory
from sevenfold.model.transformer import Transformer
from sevenfold.plan.calculator import Cpu
from sevenfold.plan.cost import STEP_COST
from sevenfold.recipe.schema import ModelSpec, Recipe, TokenRouted
from sevenfold.recipe.sizing import count, flops_parts
from sevenfold.train.data.dataset import TrainingData
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.objectives import NEXT, Objective
from sevenfold.train.loop import Recording, TrainingRun, clip_gradients, use_deterministic_kernels
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.stage import check_supported

# Model FLOPs of a timed pass: a second or two on two cores.
BUDGET = 1.5e11
# The length to which a row is shortened.
SHORTEST = 512
# The largest number of parameters of a rehearsed model: 2.4 GB with gradients and moments.
MOST_PARAMETERS = 150_000_000
# Each component is repeated for about this many seconds: three times, unless that takes four times
# as long.
SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class RandomTokens:
    """A source of rows of random ids, which are the same at every step."""

    vocab_size: int
    batch_sequences: int
    sequence: int

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return int64 [batch_sequences, sequence + 1]."""
        shape = (self.batch_sequences, self.sequence + 1)
        return np.random.default_rng(step).integers(0, self.vocab_size, shape, np.int64)

    def domains(self, step: int) -> list[str]:  # noqa: ARG002  (a source's signature)
        """Return "" for each row, because random tokens have no domain."""
        return [""] * self.batch_sequences

    def counted(self, step: int) -> NDArray[np.float32] | None:  # noqa: ARG002  (as above)
        """Return None: every target counts."""
        return None

    def spans(self, step: int) -> list[tuple[str, int, int]]:  # noqa: ARG002  (as above)
        """Return nothing, because random tokens come from no document."""
        return []

    def items(self, _step: int) -> list[int]:
        """Return nothing, because random tokens are no samples."""
        return []

    def epochs(self, n_steps: int) -> dict[str, float]:  # noqa: ARG002  (as above)
        """Return nothing, because random tokens have no end."""
        return {}


@dataclass(frozen=True, kw_only=True)
class RehearsedShape:
    """The timed shape, its rows of a sequence, and the training FLOPs of one of their tokens."""

    model: ModelSpec
    rows: int
    sequence: int
    flops_per_token: float


def step_flops(model: ModelSpec, phase: TrainingPhase, sequence: int) -> float:
    """Return the training FLOPs of one token of a phase."""
    cost = dict(zip(("trunk", "expert", "head"), STEP_COST[phase.trains], strict=True))
    return sum(cost[name] * n for name, n in flops_parts(model, sequence).items())


def sample_of(recipe: Recipe, phase: TrainingPhase, budget: float = BUDGET) -> RehearsedShape | None:
    """Return as many rows of the recipe's shape as fit the budget. When not even one row fits,
    shorten it, then reduce the layers. Return None when that is not enough.
    """
    sequence, model = phase.spec.sequence, recipe.model
    most = phase.spec.micro_batch(phase.spec.batch_sequences)
    flops = step_flops(model, phase, sequence)
    # A shorter row has the same cost for layers and head. Its FLOPs count the shorter attention.
    while flops * sequence > budget and sequence > SHORTEST:
        sequence = max(SHORTEST, sequence // 2)
        flops = step_flops(model, phase, sequence)
    while flops * sequence > budget and model.n_layers > 1:
        model = model.model_copy(update={"n_layers": (model.n_layers + 1) // 2})
        flops = step_flops(model, phase, sequence)
    if count(model) > MOST_PARAMETERS or flops * sequence > 4 * budget:
        return None
    rows = max(1, min(most, int(budget / (flops * sequence))))
    return RehearsedShape(model=model, rows=rows, sequence=sequence, flops_per_token=flops)


def rehearsal(
    recipe: Recipe,
    phase: TrainingPhase,
    sample: RehearsedShape,
    directory: Path,
    micro_batch: int | None = None,
) -> TrainingRun:
    """Return the run of a phase on random tokens, ready for its first step. It records nothing.

    Args:
        micro_batch: rows of a micro-batch; None is all of the sample.
    """
    spec = phase.spec.model_copy(
        update={
            "batch_sequences": sample.rows,
            "sequence": sample.sequence,
            "micro_batch_sequences": micro_batch,
            # A step costs the same from any state.
            "origin": None,
        }
    )
    model = Transformer(sample.model)
    if isinstance(recipe.model.moe, TokenRouted):
        n_experts = len(recipe.model.moe.experts)
        model.expert_of_token = torch.arange(sample.model.vocab_size) % n_experts
    if spec.packing == "documents":
        model.document_start = 0
    source = RandomTokens(
        vocab_size=sample.model.vocab_size, batch_sequences=sample.rows, sequence=sample.sequence
    )
    objective = Objective(name=NEXT, weight=1.0, source=source, split=IndexedTokens(path=directory / "none"))
    run = TrainingRun(
        model=model,
        phase=replace(phase, spec=spec),
        data=TrainingData(objectives=(objective,)),
        directory=directory,
        key="",
        progress=Silent(),
        recording=Recording(is_bound=False),
    )
    use_deterministic_kernels()
    keep_freed_memory()
    run.start()
    run.model.train()
    return run


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the median time of a call, after one warm-up call."""
    work()
    times: list[float] = []
    while sum(times) < SECONDS or (len(times) < 3 and sum(times) < 4 * SECONDS):
        began = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - began)
    return statistics.median(times)


def measure_training(recipe: Recipe, cpu: Cpu, clock: Callable[[], float] = time.perf_counter) -> Cpu:
    """Return `cpu` with the measured speed of the training step of the recipe. It is unchanged when
    the recipe is too large to rehearse here.

    Args:
        clock: `time.process_time` leaves out what other programs take of a busy machine.

    Raises:
        RecipeError: this version does not train such a recipe.
    """
    check_supported(recipe)
    phase = training_phases(recipe)[0]
    sample = sample_of(recipe, phase)
    if sample is None:
        return cpu
    with tempfile.TemporaryDirectory(prefix="s7-plan-") as name:
        run = rehearsal(recipe, phase, sample, Path(name))
        gradient = _seconds(lambda: run.gradients.run(run.step), clock)

        def update() -> None:
            clip_gradients(run.parameters, run.spec.clip_norm, run.ranks)
            run.optimizer.step(1e-6)

        n_trained = sum(parameter.numel() for parameter in run.parameters)
        per_parameter = _seconds(update, clock) / n_trained
    flops = sample.rows * sample.sequence * sample.flops_per_token
    return Cpu(
        matmul_flops=cpu.matmul_flops,
        bytes_per_second=cpu.bytes_per_second,
        efficiency=cpu.efficiency,
        measured=True,
        training_flops=flops / gradient,
        update_seconds=per_parameter,
    )
