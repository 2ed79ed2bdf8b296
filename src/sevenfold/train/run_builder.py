"""A part of a recipe as a run in a directory: model, data, key and gauge put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sevenfold.core.hashing import canonical_json, digest
from sevenfold.core.run_files import TRAIN_TOKENS
from sevenfold.model.transformer import Transformer
from sevenfold.plan.cost import STEP_COST
from sevenfold.recipe.sizing import flops_parts
from sevenfold.runs.job import Job
from sevenfold.train.data.curriculum import context_stages
from sevenfold.train.data.dataset import load_tokenizer, open_data, read_router
from sevenfold.train.distributed.ranks import here
from sevenfold.train.loop import TrainingRun
from sevenfold.train.meters import ThroughputMeter
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.precision import fallback_notes, law


def build_model(job: Job) -> Transformer:
    """Return a model of the recipe's shape with its router in place; weights not set."""
    model = Transformer(job.recipe.model)
    model.expert_of_token = read_router(job)
    if job.recipe.train.packing == "documents":
        model.document_start = load_tokenizer(job).eot_id
    return model


def run_key(job: Job, part: TrainingPhase, base: str = "") -> str:
    """Return what decides the bits of a part beside the code: recipe, data
    and the weights it starts from.
    """
    recipe = job.recipe
    sections = [recipe.model.model_dump_json(), part.spec.model_dump_json()]
    if recipe.context is not None:
        sections.append(recipe.context.model_dump_json())
    more = [part.name, base, canonical_json(dict(part.mix)).decode()] if part.name or part.mix else []
    more += law(part.spec.precision)
    return digest("sevenfold/run/1", *sections, job.manifest("tokenizer").root, TRAIN_TOKENS, *more)


def training_run(
    job: Job,
    directory: Path,
    part: TrainingPhase | None = None,
    *,
    base: Mapping[str, Tensor] | None = None,
    base_root: str = "",
) -> TrainingRun:
    """Return the run that a part of the recipe and the token files of `job` define, with its files
    in `directory`.

    Args:
        part: which; None is the one part of a recipe without phases.
        base: weights of the part before, and `base_root`, the root of its files.

    Raises:
        StorageError: a file is missing, or there is too little data.
    """
    part, ranks = part or training_phases(job.recipe)[0], here()
    if ranks.is_first:
        # The others build the same run (`experts.follow`)
        ranks.broadcast_object(part.name)
    data, model = open_data(job, part), build_model(job)
    trained = part.trained(name for name, _ in model.named_parameters())
    for note in fallback_notes(part.spec.precision, ranks.device):
        job.progress.note(note)
    return TrainingRun(
        model=model,
        spec=part.spec,
        terms=data.terms,
        stages=context_stages(job.recipe) if job.recipe.context else (),
        directory=directory,
        key=run_key(job, part, base_root),
        progress=job.progress,
        trained=trained if part.name else None,
        stack=part.stack,
        base=base or {},
        purpose=f"/{part.name}" if part.name else "",
        blame=data.blame,
        gauge=_gauge(job, part),
        ranks=ranks,
    )


def _gauge(job: Job, part: TrainingPhase) -> ThroughputMeter:
    hardware, parts = job.recipe.hardware, flops_parts(job.recipe.model, part.spec.sequence)
    cost = dict(zip(("trunk", "expert", "head"), STEP_COST[part.trains], strict=True))
    flops = sum(cost[name] * n for name, n in parts.items())
    return ThroughputMeter(flops_per_token=flops, peak_flops=hardware.peak_flops)
