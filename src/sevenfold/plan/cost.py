"""Compute the needs of a training run: memory per GPU by part, GPUs, hours, cost (requirement B3).

All of it is arithmetic over the recipe. Nothing is measured.

Memory per trained element, in bytes: FP32 4 weights + 4 gradients + 8 Adam moments. BF16, FP16 and
FP8 keep an FP32 master beside the working copy, and accumulate gradients in FP32 (B2). A frozen
element has only its working copy. ZeRO-3 divides these by the GPUs of a pool. The one layer that is
gathered at a time is not counted.

Activations kept for backward, elements per token and layer, with fused attention:

    4 d_model + 2 n_heads head_dim + 2 n_kv_heads head_dim + 4 d_ffn

(two norm inputs, two norm outputs, q, attention output, k, v, gate, up, silu(gate), product). With
checkpointing a layer keeps d_model, and only one layer at a time keeps all of it. The head keeps
2 d_model per token, and FP32 logits with their gradient for at most LOSS_CHUNK tokens.

Time is model FLOPs / (peak x MFU). A step costs three forwards. Frozen layers cost one forward, and
a frozen head costs two, because the gradient passes through it. Recomputation by checkpointing is
not a model FLOP. It lowers the MFU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sevenfold.recipe.schema import ExpertStacks, ModelSpec, Phase, Recipe, TrainSpec
from sevenfold.recipe.sizing import count, expert_parameters, flops_parts, trunk_parameters

LOSS_CHUNK = 8192
ADAM_BYTES = 8
GRADIENT_BYTES = 4
# precision -> bytes of (master and working copy of a trained weight, working copy alone, one
# activation)
PRECISION_BYTES = {"fp32": (4, 4, 4), "bf16": (6, 2, 2), "fp16": (6, 2, 2), "fp8": (5, 1, 2)}
# What a phase trains -> the cost of a token in (trunk, expert, head), in forwards. Three forwards are
# forward and backward.
STEP_COST = {"all": (3.0, 3.0, 3.0), "trunk": (3.0, 0.0, 3.0), "experts": (1.0, 3.0, 2.0)}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one GPU. `activations_checkpointed` is with activation checkpointing, `activations`
    without.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    activations_checkpointed: int
    checkpointing: bool

    @property
    def states(self) -> int:
        """Return what does not depend on the batch."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Return the sum of all parts, with activation checkpointing as the recipe says."""
        return self.states + (self.activations_checkpointed if self.checkpointing else self.activations)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """GPUs of one pool and what they train, one item after another."""

    items: tuple[str, ...]
    tokens: int
    gpu_hours: float
    wall_hours: float


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """The size of a phase of training.

    `needed_gpus` is the smallest pool that holds the phase, or None when no pool does.
    """

    phase: Phase
    trained: int
    frozen: int
    micro_batch_sequences: int
    memory: Memory
    needed_gpus: int | None
    flops_per_token: float
    pools: tuple[Pool, ...]

    @property
    def gpu_hours(self) -> float:
        """Return the GPU-hours of all pools together."""
        return sum(pool.gpu_hours for pool in self.pools)

    @property
    def wall_hours(self) -> float:
        """Return the hours of the slowest pool."""
        return max(pool.wall_hours for pool in self.pools)

    @property
    def steps(self) -> int:
        """Return the optimiser steps, of all pools together."""
        # Whole steps only, as the trainer takes them (train.schedule.n_steps).
        return max(1, self.phase.tokens // (self.phase.batch_sequences * self.phase.sequence))


def phases_of(recipe: Recipe) -> tuple[Phase, ...]:
    """Return the recipe's phases, or its whole run as one."""
    train = recipe.train
    whole = Phase(
        name="train",
        tokens=train.tokens,
        batch_sequences=train.batch_sequences,
        sequence=train.sequence,
        n_gpus=recipe.hardware.n_gpus,
    )
    return train.phases or (whole,)


def trained_parameters(model: ModelSpec, phase: Phase) -> tuple[int, int]:
    """Return the parameters that one pool trains, and those that it holds frozen."""
    if phase.trains == "all":
        return count(model), 0
    if phase.trains == "trunk":
        return trunk_parameters(model), 0
    return expert_parameters(model), trunk_parameters(model)


def layer_activations(model: ModelSpec, d_ffn: int) -> int:
    """Return the elements that one layer keeps for one token (module docstring)."""
    heads = 2 * (model.n_heads + model.n_kv_heads) * model.head_dim
    return 4 * model.d_model + heads + 4 * d_ffn


def _layers(model: ModelSpec, phase: Phase) -> list[int]:
    """Return `d_ffn` of every layer whose activations a phase keeps."""
    trunk = [model.d_ffn] * model.n_layers
    if not isinstance(model.moe, ExpertStacks) or phase.trains == "trunk":
        return trunk
    expert = [model.moe.d_ffn] * model.moe.n_layers
    return expert if phase.trains == "experts" else trunk + expert


def memory(model: ModelSpec, train: TrainSpec, phase: Phase, sequences: int, shards: int) -> Memory:
    """Return the memory of one GPU that passes `sequences` sequences at a time, states divided over
    `shards` GPUs.
    """
    full, working, activation = PRECISION_BYTES[train.precision]
    trained, frozen = trained_parameters(model, phase)
    n_tokens = sequences * phase.sequence
    layers = [layer_activations(model, d_ffn) for d_ffn in _layers(model, phase)]
    head = n_tokens * 2 * model.d_model * activation + min(n_tokens, LOSS_CHUNK) * model.vocab_size * 8
    kept = model.d_model * len(layers) + max(layers)
    return Memory(
        weights=math.ceil((trained * full + frozen * working) / shards),
        gradients=math.ceil(trained * GRADIENT_BYTES / shards),
        optimizer=math.ceil(trained * ADAM_BYTES / shards),
        activations=n_tokens * sum(layers) * activation + head,
        activations_checkpointed=n_tokens * min(kept, sum(layers)) * activation + head,
        checkpointing=train.activation_checkpointing,
    )


def phase_cost(recipe: Recipe, phase: Phase) -> PhaseCost:
    """Size one phase on the recipe's hardware."""
    model, train, hardware = recipe.model, recipe.train, recipe.hardware
    shards = phase.n_gpus if hardware.sharding == "zero3" else 1
    most = math.ceil(phase.batch_sequences / phase.n_gpus)
    sequences = train.micro_batch_sequences or _largest_that_fits(recipe, phase, most, shards)
    cost = dict(zip(("trunk", "expert", "head"), STEP_COST[phase.trains], strict=True))
    flops = sum(cost[part] * n for part, n in flops_parts(model, phase.sequence).items())
    trained, frozen = trained_parameters(model, phase)
    return PhaseCost(
        phase=phase,
        trained=trained,
        frozen=frozen,
        micro_batch_sequences=sequences,
        memory=memory(model, train, phase, sequences, shards),
        needed_gpus=_needed_gpus(recipe, phase),
        flops_per_token=flops,
        pools=_pools(phase, flops / (hardware.peak_flops * hardware.mfu) / 3600),
    )


def _largest_that_fits(recipe: Recipe, phase: Phase, most: int, shards: int) -> int:
    """Return the largest power of two of sequences, at most `most`, that fits a GPU. Return 1 when
    none fits.
    """
    best, sequences = 1, 2
    while sequences <= most:
        need = memory(recipe.model, recipe.train, phase, sequences, shards)
        if need.total > recipe.hardware.gpu_memory:
            break
        best, sequences = sequences, sequences * 2
    return best


def _needed_gpus(recipe: Recipe, phase: Phase) -> int | None:
    """Return the smallest pool that holds the phase with the smallest micro-batch, or None when no
    pool does.
    """
    need = memory(recipe.model, recipe.train, phase, recipe.train.micro_batch_sequences or 1, 1)
    room = recipe.hardware.gpu_memory - (need.total - need.states)
    if recipe.hardware.sharding == "none":
        return 1 if need.states <= room else None
    return math.ceil(need.states / room) if room > 0 else None


def _pools(phase: Phase, gpu_hours_per_token: float) -> tuple[Pool, ...]:
    """Divide the work over the pools: the longest item first, each to the pool with the least work."""
    work = sorted(phase.tokens_per_expert.items(), key=lambda item: -item[1]) or [(phase.name, phase.tokens)]
    loads: list[list[tuple[str, int]]] = [[] for _ in range(min(phase.n_pools, len(work)))]
    for item in work:
        min(loads, key=lambda load: sum(tokens for _, tokens in load)).append(item)
    pools = []
    for load in loads:
        tokens = sum(n for _, n in load)
        hours = tokens * gpu_hours_per_token
        items = tuple(name for name, _ in load)
        pools.append(Pool(items=items, tokens=tokens, gpu_hours=hours, wall_hours=hours / phase.n_gpus))
    return tuple(pools)
