"""Build the training run of one phase of a recipe: model, data, cache key, throughput meter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from sevenfold.model.transformer import Transformer
from sevenfold.plan.cost import STEP_COST
from sevenfold.recipe.sizing import flops_parts
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints.run_key import run_key
from sevenfold.train.checkpoints.trunk import adopt, parent_weights
from sevenfold.train.data.curriculum import context_stages
from sevenfold.train.data.dataset import load_tokenizer, open_data, read_router
from sevenfold.train.distributed.ranks import here
from sevenfold.train.loop import TrainingRun
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.precision import fallback_notes
from sevenfold.train.recording.meters import ThroughputMeter


def build_model(job: Job) -> Transformer:
    """Return a model of the recipe's shape with its router. The weights are not set."""
    model = Transformer(job.recipe.model)
    model.expert_of_token = read_router(job)
    if job.recipe.train.packing == "documents":
        model.document_start = load_tokenizer(job).eot_id
    return model


def training_run(
    job: Job,
    directory: Path,
    phase: TrainingPhase | None = None,
    *,
    base: Mapping[str, Tensor] | None = None,
    base_root: str = "",
) -> TrainingRun:
    """Return the run of one phase of the recipe over the token files of `job`. Its files are in
    `directory`.

    Args:
        phase: None is the one phase of a recipe without phases.
        base: weights of the phase before.
        base_root: the root of the files of the phase before.

    Raises:
        StorageError: a file is missing, or there is too little data.
    """
    phase, ranks = phase or training_phases(job.recipe)[0], here()
    if ranks.is_first:
        # The other ranks build the same run (`experts.follow`).
        ranks.broadcast_object(phase.name)
    data, model = open_data(job, phase), build_model(job)
    for note in fallback_notes(phase.spec.precision, ranks.device):
        job.progress.note(note)
    return TrainingRun(
        model=model,
        phase=phase,
        data=data,
        stages=context_stages(job.recipe) if job.recipe.context else (),
        directory=directory,
        key=run_key(job, phase, base_root),
        progress=job.progress,
        base=base or parent_weights(job),
        meter=_meter(job, phase),
        branch=partial(adopt, job) if phase.spec.trunk else None,
        ranks=ranks,
    )


def _meter(job: Job, phase: TrainingPhase) -> ThroughputMeter:
    hardware, parts = job.recipe.hardware, flops_parts(job.recipe.model, phase.spec.sequence)
    cost = dict(zip(("trunk", "expert", "head"), STEP_COST[phase.trains], strict=True))
    flops = sum(cost[name] * n for name, n in parts.items())
    return ThroughputMeter(flops_per_token=flops, peak_flops=hardware.peak_flops)
