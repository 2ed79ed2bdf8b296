"""The sizing calculator (B3): parameters, memory, hours and cost of a recipe, as JSON.

`plan` is arithmetic over the recipe, so the same recipe gives the same figures. The key `cpu` is the
exception. It is an estimate for this machine, from a short measurement, and is marked as one.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

from sevenfold.core.hashing import Json
from sevenfold.plan.cluster_document import FIGURES, Figure
from sevenfold.plan.cost import LOSS_CHUNK, PhaseCost, memory, phase_cost, phases_of
from sevenfold.recipe.schema import ExpertStacks, ModelSpec, Recipe
from sevenfold.recipe.sizing import (
    active_parameters,
    components,
    count,
    expert_parameters,
    flops_parts,
    forward_flops,
    kv_bytes_per_token,
    kv_entries,
    trunk_parameters,
)

DAY = 24.0


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """The speed of a CPU.

    Attributes:
        matmul_flops: FLOP/s of FP32 matrix products.
        bytes_per_second: bytes copied per second.
        efficiency: the share of `matmul_flops` that a training step or a decoded token reaches.
        training_flops: model FLOP/s of the gradient of the recipe's own step, where it was timed
            (`sevenfold.train.rehearsal`).
        update_seconds: the time of one update, for each trained parameter.
    """

    matmul_flops: float
    bytes_per_second: float
    efficiency: float = 0.5
    measured: bool = False
    training_flops: float | None = None
    update_seconds: float = 0.0

    def training_tokens_per_second(
        self, flops_per_token: float, n_trained: int, tokens_per_step: int
    ) -> float:
        """Return the tokens per second of a step. The time of its gradient grows with its tokens,
        that of its update with the parameters.
        """
        speed = self.training_flops or self.matmul_flops * self.efficiency
        return 1 / (flops_per_token / speed + self.update_seconds * n_trained / tokens_per_step)


def measure_cpu(seconds: float = 0.05) -> Cpu:
    """Time a 512 x 512 FP32 product and a 32 MB copy for about `seconds`
    each, with NumPy's own threads.
    """
    import numpy as np

    matrix, block = np.ones((512, 512), dtype=np.float32), np.ones(1 << 23, dtype=np.float32)
    product, copy = np.empty_like(matrix), np.empty_like(block)
    rates = []
    for work, amount in (
        (lambda: np.matmul(matrix, matrix, out=product), 2.0 * 512**3),
        (lambda: np.copyto(copy, block), 2.0 * block.nbytes),
    ):
        work()
        start, n = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds or n == 0:
            work()
            n += 1
        rates.append(n * amount / max(elapsed, 1e-9))
    return Cpu(matmul_flops=rates[0], bytes_per_second=rates[1], measured=True)


def plan(recipe: Recipe, cpu: Cpu | None = None) -> dict[str, Json]:
    """Return every figure of a recipe, in base units: bytes, FLOPs, hours, USD.

    The key `document` holds the table of the sizing document for recipes of tier 140M (expert
    stacks with two phases). For others it is empty.

    Args:
        cpu: the speed of the CPU; None measures this machine.
    """
    phases = [phase_cost(recipe, phase) for phase in phases_of(recipe)]
    value: dict[str, Json] = {
        "kind": "plan",
        "recipe": {
            "name": recipe.name,
            "family": recipe.family,
            "tier": recipe.tier,
            "summary": recipe.summary,
            "digest": recipe.digest,
        },
        "parameters": _parameters(recipe.model),
        "components": _components(recipe.model),
        "totals": _totals(recipe.model),
        "flops": _flops(recipe, phases),
        "phases": [_phase(recipe, cost) for cost in phases],
        "training": _training(recipe, phases),
        "inference": _inference(recipe.model),
        "cpu": _cpu(recipe, phases, cpu or measure_cpu()),
        "assumptions": _assumptions(recipe),
    }
    value["document"] = [_figure(figure, value) for figure in FIGURES] if recipe.tier == "140M" else []
    return value


def _parameters(model: ModelSpec) -> Json:
    trunk = trunk_parameters(model)
    embedding = model.vocab_size * model.d_model
    return {
        "total": count(model),
        "active": active_parameters(model),
        "trunk": trunk,
        "trunk_layers": trunk - embedding * (1 if model.tied else 2) - model.d_model,
        "expert": expert_parameters(model),
        "all_experts": count(model) - trunk,
    }


def _components(model: ModelSpec) -> Json:
    total = count(model)
    return {
        part.name: {
            "parameters": part.parameters,
            "share": part.parameters / total,
            "fp32_bytes": part.fp32_bytes,
            "int8_bytes": part.int8_bytes,
            "active": part.active,
        }
        for part in components(model)
    }


def _totals(model: ModelSpec) -> Json:
    total = count(model)
    # The artifact always stores lm_head.weight.
    head = model.vocab_size * model.d_model if model.tied else 0
    return {
        "fp32_bytes": 4 * total,
        "int8_bytes": total,
        "trunk_fp32_bytes": 4 * trunk_parameters(model),
        "sealed_int8_bytes": total + head,
    }


def _flops(recipe: Recipe, phases: list[PhaseCost]) -> Json:
    sequence = recipe.train.sequence
    return {
        "sequence": sequence,
        "forward_per_token": forward_flops(recipe.model, sequence),
        "parts": flops_parts(recipe.model, sequence),
        "training_per_token": 3 * forward_flops(recipe.model, sequence),
        "total": sum(cost.flops_per_token * cost.phase.tokens for cost in phases),
    }


def _phase(recipe: Recipe, cost: PhaseCost) -> Json:
    phase, price = cost.phase, recipe.hardware.price_per_gpu_hour
    per_gpu = math.ceil(phase.batch_sequences / phase.n_gpus)
    whole = memory(recipe.model, recipe.train, phase, per_gpu, 1)
    return {
        "name": phase.name,
        "trains": phase.trains,
        "tokens": phase.tokens,
        "steps": cost.steps,
        "batch_tokens": phase.batch_sequences * phase.sequence,
        "trained_parameters": cost.trained,
        "frozen_parameters": cost.frozen,
        "n_gpus": phase.n_gpus,
        "n_pools": phase.n_pools,
        "gpus": phase.n_gpus * phase.n_pools,
        "needed_gpus": cost.needed_gpus,
        "micro_batch_sequences": cost.micro_batch_sequences,
        "memory": {**asdict(cost.memory), "total": cost.memory.total},
        "activations_at_stated_batch": whole.activations,
        "fits": cost.memory.total <= recipe.hardware.gpu_memory,
        "flops_per_token": cost.flops_per_token,
        "gpu_hours": cost.gpu_hours,
        "wall_hours": cost.wall_hours,
        "cost": cost.gpu_hours * price,
        "pools": [{**asdict(pool), "items": list(pool.items)} for pool in cost.pools],
    }


def _training(recipe: Recipe, phases: list[PhaseCost]) -> Json:
    hardware = recipe.hardware
    gpu_hours = sum(cost.gpu_hours for cost in phases)
    wall = sum(cost.wall_hours for cost in phases)
    return {
        "tokens": recipe.train.tokens,
        "precision": recipe.train.precision,
        "gpu": hardware.gpu,
        "gpu_memory": hardware.gpu_memory,
        "peak_flops": hardware.peak_flops,
        "mfu": hardware.mfu,
        "sharding": hardware.sharding,
        "price_per_gpu_hour": hardware.price_per_gpu_hour,
        "gpu_hours": gpu_hours,
        "wall_hours": wall,
        "wall_days": wall / DAY,
        "cost": gpu_hours * hardware.price_per_gpu_hour,
        "peak_gpus": max(cost.phase.n_gpus * cost.phase.n_pools for cost in phases),
    }


def _inference(model: ModelSpec) -> Json:
    per_token = kv_bytes_per_token(model)
    return {
        "context": model.context,
        "kv_bytes_per_token": per_token,
        "kv_bytes": per_token * kv_entries(model, model.context),
        "weights_bytes": _totals(model)["sealed_int8_bytes"],
        "flops_per_token": forward_flops(model, model.context),
    }


def training_rate(recipe: Recipe, cost: PhaseCost, cpu: Cpu) -> float:
    """Return the tokens of a phase per second on a CPU.

    Rows of further objectives take time, but their tokens are not counted.
    """
    phase, objectives = cost.phase, recipe.train.objectives
    return cpu.training_tokens_per_second(
        cost.flops_per_token * (1 + objectives.fim + objectives.cot),
        cost.trained,
        phase.batch_sequences * phase.sequence,
    )


def _cpu(recipe: Recipe, phases: list[PhaseCost], cpu: Cpu) -> Json:
    """Return the estimates for a CPU.

    Training is bound by arithmetic. A decoded token also reads every active weight once.
    """
    rates = [training_rate(recipe, cost, cpu) for cost in phases]
    speed = cpu.matmul_flops * cpu.efficiency
    seconds = max(
        forward_flops(recipe.model, recipe.model.context) / speed,
        active_parameters(recipe.model) / cpu.bytes_per_second,
    )
    return {
        "estimate": True,
        "measured": cpu.measured,
        "matmul_flops": cpu.matmul_flops,
        "bytes_per_second": cpu.bytes_per_second,
        "efficiency": cpu.efficiency,
        "training_flops": cpu.training_flops,
        "training_tokens_per_second": min(rates),
        "training_hours": sum(
            cost.phase.tokens / rate / 3600 for cost, rate in zip(phases, rates, strict=True)
        ),
        "decode_tokens_per_second": 1 / seconds,
    }


def _assumptions(recipe: Recipe) -> list[str]:
    lines = [
        (
            "forward FLOPs per token = 2 x active matrix elements + 4 x layers x heads x head_dim x mean"
            " attended positions"
        ),
        (
            "training = 3 x forward; time = FLOPs / (peak x MFU); recomputation by checkpointing is part of"
            " the MFU"
        ),
        "training memory: FP32 gradients and Adam moments; working copy beside FP32 weights below FP32",
        f"activations with fused attention; logits of at most {LOSS_CHUNK} tokens at a time",
        "key/value cache: INT8, or the bits of the hybrid attention block",
        "CPU rates are an estimate from a short matrix product and a copy, not a benchmark",
    ]
    if isinstance(recipe.model.moe, ExpertStacks):
        lines.append("the frozen trunk costs one forward in the experts' phase, the frozen head two")
    return lines


def _figure(figure: Figure, value: dict[str, Json]) -> Json:
    """Return a row of the document's table: the stated figure, the same from its other figures, ours,
    and whether they agree.
    """
    ours = _lookup(value, figure.ours) if figure.ours else None
    adds_up = (
        None if figure.own is None else abs(figure.own - figure.stated) <= figure.tolerance * figure.stated
    )
    return {
        "section": figure.section,
        "quantity": figure.quantity,
        "unit": figure.unit,
        "stated": figure.stated,
        "own": figure.own,
        "how": figure.how,
        "adds_up": adds_up,
        "ours": ours,
        "ours_ratio": None if ours is None else ours / figure.stated,
    }


def _lookup(value: Json, path: str) -> float:
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return float(value)
