"""A run of several parts (B1): the trunk, then each expert stack behind it, frozen; then all joined
into one model.

Each part stands in train/PART with its checkpoints, records, weights and a manifest, written last.
A part whose manifest has the right key and whose files are whole is not run again. The joined
records number the steps of all parts in the order of the recipe, whatever the order they ran in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.manifest import (
    Manifest,
    ManifestError,
    damaged_output,
    hash_outputs,
    output_root,
    read_manifest,
    write_manifest,
)
from sevenfold.core.run_files import MANIFEST, METRICS, PHASE_WEIGHTS, TRACE
from sevenfold.model.transformer import Transformer
from sevenfold.runs.job import Job
from sevenfold.train.data.dataset import open_data
from sevenfold.train.distributed.ranks import Ranks, dismiss, here, ranks_recorded
from sevenfold.train.environment import tools
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.records import CHAIN_START, trace_link
from sevenfold.train.run_builder import build_model, training_run
from sevenfold.train.run_key import run_key
from sevenfold.train.schedule import n_steps


def part_directory(job: Job, part: TrainingPhase) -> Path:
    """Return where the files of a part stand."""
    return job.directory("train") / part.name


def finished(job: Job, part: TrainingPhase, base_root: str) -> Manifest | None:
    """Return the manifest of a part that is done and whole; None when it has to run."""
    directory = part_directory(job, part)
    try:
        manifest = read_manifest(directory)
    except ManifestError as error:
        job.progress.note(f"train/{part.name}: {MANIFEST} is of no use: {error.what}")
        return None
    if manifest is None or manifest.key != run_key(job, part, base_root):
        return None
    if (damaged := damaged_output(directory, manifest)) is not None:
        job.progress.note(f"train/{part.name}: {damaged} is missing or damaged")
        return None
    return manifest


def train_part(job: Job, part: TrainingPhase) -> Manifest:
    """Train one part, or go on with it, unless it is done.

    Raises:
        StorageError: an expert without its trunk, or see `loop.TrainingRun.train`.
    """
    base, base_root = base_of(job, part)
    done = finished(job, part, base_root)
    if done is not None:
        job.progress.note(f"train/{part.name}: up to date")
        return done
    directory = part_directory(job, part)
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
    run = training_run(job, directory, part, base=base, base_root=base_root)
    run.train()
    write_bytes(
        directory / PHASE_WEIGHTS, save_tensors({n: t.contiguous() for n, t in run.weights().items()})
    )
    outputs = hash_outputs(directory, [PHASE_WEIGHTS, METRICS, TRACE])
    manifest = Manifest(
        stage=f"train/{part.name}",
        key=run.key,
        recipe_digest=job.recipe.digest,
        recipe_name=job.recipe.name,
        inputs={"tokenizer": job.manifest("tokenizer").root} | ({"trunk": base_root} if base_root else {}),
        outputs=outputs,
        root=output_root(outputs),
        tools=tools(run.ranks.device, part.spec.precision, run.arithmetic),
        seed=part.spec.seed,
        facts={"n_steps": n_steps(part.spec), **ranks_recorded(part.spec, run.ranks)},
    )
    write_manifest(directory, manifest)
    job.progress.note(f"train/{part.name}: done, root {manifest.root[:16]}")
    return manifest


def _next_part(ranks: Ranks) -> str | None:
    # `dismiss` says None.
    return ranks.broadcast_object("")


def follow(job: Job) -> None:
    """Train, as any rank but the first, each phase that the first one
    names, until it names no more.

    Raises as `train_part` does.
    """
    ranks, phases = here(), {phase.name: phase for phase in training_phases(job.recipe)}
    while (name := _next_part(ranks)) is not None:
        part = phases[name]
        base, base_root = base_of(job, part)
        run = training_run(job, part_directory(job, part), part, base=base, base_root=base_root)
        run.train()
        run.weights()
    dismiss()


def base_of(job: Job, part: TrainingPhase) -> tuple[dict[str, Tensor], str]:
    """Return the weights of the trunk that an expert stands behind, and their root; nothing for the
    trunk itself.

    Raises:
        StorageError: the trunk is not trained, or its files are damaged.
    """
    trunk = part.base
    if trunk is None:
        return {}, ""
    manifest = finished(job, trunk, "")
    if manifest is None:
        raise StorageError(
            f"the trunk that {part.name} stands behind is not trained",
            where=str(part_directory(job, trunk)),
            remedy=f"run `s7 train RECIPE --out {job.out} --phase {trunk.name}` first",
        )
    return load_tensors(read_bytes(part_directory(job, trunk) / PHASE_WEIGHTS)), manifest.root


def train_parts(job: Job, parts: tuple[TrainingPhase, ...], directory: Path) -> Transformer:
    """Train all phases, one after another, and return the model that they make together.

    Its records are written to `directory`. Raises as `train_part` does.
    """
    model = build_model(job)
    state: dict[str, Tensor] = {}
    for part in parts:
        train_part(job, part)
        state |= load_tensors(read_bytes(part_directory(job, part) / PHASE_WEIGHTS))
    model.load_state_dict(state)
    _join_records(job, parts, directory)
    return model


def _rows(path: Path) -> list[dict[str, Json]]:
    return [json.loads(line) for line in read_bytes(path).splitlines()]


def _join_records(job: Job, parts: tuple[TrainingPhase, ...], directory: Path) -> None:
    """Join metrics and trace of all phases under one count of steps, and link the chain anew."""
    metrics, trace, chain = [], [], CHAIN_START
    step = tokens = 0
    for part in parts:
        source = part_directory(job, part)
        for row in _rows(source / METRICS):
            metrics.append(
                row | {"part": part.name, "step": step + row["step"], "tokens": tokens + row["tokens"]}
            )
        for row in _rows(source / TRACE):
            number = step + row["step"]
            chain = trace_link(chain, number, row["gradient"], row["weights"])
            trace.append(row | {"part": part.name, "step": number, "chain": chain})
        step, tokens = metrics[-1]["step"], metrics[-1]["tokens"]
    for name, rows in ((METRICS, metrics), (TRACE, trace)):
        write_bytes(directory / name, b"".join(canonical_json(row) + b"\n" for row in rows))


def epochs(job: Job, phases: tuple[TrainingPhase, ...]) -> dict[str, Json]:
    """Return how often the run goes through each domain of its mix, by part; nothing without a mix.
    What a trunk read is not counted.
    """
    if not job.recipe.corpus.mix:
        return {}
    found: dict[str, Mapping[str, float]] = {}
    for part in phases:
        batches, before = open_data(job, part).batches, part.spec.first_step
        skipped = batches.epochs(before) if before else {}
        found[part.name or "all"] = {
            domain: count - skipped.get(domain, 0.0)
            for domain, count in batches.epochs(n_steps(part.spec)).items()
        }
    return {"epochs": found}
