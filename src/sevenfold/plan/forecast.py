"""Forecast of memory and time of each phase on this machine (`s7 train --dry-run`).

Memory is `cost.memory` with all rows of a micro-batch in memory at once, as in the trainer. Time
follows from the measured speed of the recipe's own step (`sevenfold.train.rehearsal`). Where that was
not measured, it follows from a short matrix product. Both are estimates. BASE_BYTES stands for the
interpreter, PyTorch and the token files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict

from sevenfold.core.errors import RecipeError
from sevenfold.core.hashing import Json
from sevenfold.plan.calculator import Cpu, measure_cpu, training_rate
from sevenfold.plan.cost import Memory, PhaseCost, memory, phase_cost, phases_of, trained_parameters
from sevenfold.recipe.schema import ModelSpec, Phase, Recipe, TrainSpec
from sevenfold.recipe.sizing import count

BASE_BYTES = 700 << 20
# A run keeps freed blocks of all sizes in one heap (`core.process.memory`). Where a tensor of the
# residual stream is larger than SMALL_BLOCK, gaps between blocks take a share of the activations.
# code-8m with 64 rows held 6.2 GB: its use, and a quarter of its 4.6 GB of activations.
SMALL_BLOCK, BETWEEN_BLOCKS = 32 << 20, 0.25
_GIB = float(1 << 30)


def physical_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def needed(recipe: Recipe, train: TrainSpec, phase: Phase) -> int:
    """Return the most bytes that a phase holds at a time."""
    rows = train.micro_batch(phase.batch_sequences)
    # The trainer holds the whole model in FP32, and the stacks of other experts with it.
    idle = 4 * (count(recipe.model) - trained_parameters(recipe.model, phase)[0])
    parts = memory(recipe.model, train, phase, rows, 1)
    return BASE_BYTES + idle + parts.total + between_blocks(recipe.model, phase, rows, parts)


def between_blocks(model: ModelSpec, phase: Phase, rows: int, parts: Memory) -> int:
    """Return the bytes that lie unused between the blocks of micro-batches of `rows` rows."""
    is_large = 4 * rows * phase.sequence * model.d_model > SMALL_BLOCK
    return int(BETWEEN_BLOCKS * (parts.total - parts.states)) if is_large else 0


def settings(train: TrainSpec, phases: tuple[Phase, ...]) -> Iterator[tuple[str, TrainSpec]]:
    """Yield settings that need less memory, those that change the least first."""
    most = math.gcd(*(phase.batch_sequences for phase in phases))
    micros = [n for n in range(most, 0, -1) if most % n == 0]
    for recompute in dict.fromkeys((train.activation_checkpointing, True)):
        for micro in micros:
            text = f"train.micro_batch_sequences: {micro}"
            if recompute and not train.activation_checkpointing:
                text += " and train.activation_checkpointing: true"
            yield (
                text,
                train.model_copy(
                    update={"micro_batch_sequences": micro, "activation_checkpointing": recompute}
                ),
            )


def _refuse(recipe: Recipe, phase: Phase, need: int, available: int) -> RecipeError:
    phases = phases_of(recipe)
    remedy = "no setting of the batch makes it fit: take a smaller model, or a machine with more memory"
    for text, train in settings(recipe.train, phases):
        if all(needed(recipe, train, other) <= available for other in phases):
            remedy = f"it fits with {text}"
            break
    return RecipeError(
        f"phase {phase.name} needs about {need / _GIB:.1f} GiB, this machine has {available / _GIB:.1f} GiB",
        where=recipe.name,
        remedy=remedy,
    )


def forecast(recipe: Recipe, available: int | None = None, cpu: Cpu | None = None) -> dict[str, Json]:
    """Return the memory and hours of each phase on this machine.

    Args:
        available: bytes of memory; None is the memory of this machine.
        cpu: the speed of the CPU; None measures it.

    Raises:
        RecipeError: a phase does not fit. The remedy names a setting with which it fits, if there
            is one.
    """
    room = physical_memory() if available is None else available
    rate = cpu or measure_cpu()
    rows = []
    for phase in phases_of(recipe):
        need = needed(recipe, recipe.train, phase)
        if need > room:
            raise _refuse(recipe, phase, need, room)
        rows.append(_row(recipe, phase_cost(recipe, phase), need, rate))
    return {
        "recipe": recipe.name,
        "available": room,
        "phases": rows,
        "hours": sum(row["hours"] for row in rows),
        "estimate": True,
    }


def _row(recipe: Recipe, cost: PhaseCost, need: int, cpu: Cpu) -> dict[str, Json]:
    phase = cost.phase
    micro = recipe.train.micro_batch(phase.batch_sequences)
    rate = training_rate(recipe, cost, cpu)
    parts = memory(recipe.model, recipe.train, phase, micro, 1)
    return {
        "name": phase.name,
        "steps": cost.steps,
        "tokens": phase.tokens,
        "micro_batch_sequences": micro,
        "memory": need,
        "memory_parts": {
            **asdict(parts),
            "base": BASE_BYTES,
            "between_blocks": between_blocks(recipe.model, phase, micro, parts),
        },
        "tokens_per_second": rate,
        "hours": phase.tokens / rate / 3600,
    }
