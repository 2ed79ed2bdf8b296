"""Training in several phases: the trunk, then each expert stack over the frozen trunk (B1); or the
phases of a tuning, each over the weights of the one before (specs/tune.md).

The weights of all phases are joined into one model, later ones over earlier ones. The files of a
phase are in train/PHASE: checkpoints, records, weights and a manifest, which is written last. A
phase whose manifest has the right key and whose files are whole is not run again. The joined records
number the steps of all
phases in the order of the recipe, in whatever order the phases ran.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes, write_bytes, write_json
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
from sevenfold.core.run_files import MANIFEST, METRICS, PHASE_WEIGHTS, TRACE, TUNE_FACTS
from sevenfold.model.transformer import Transformer
from sevenfold.runs.job import Job
from sevenfold.runs.tuning import tuning_facts
from sevenfold.train.checkpoints.run_key import run_key
from sevenfold.train.data.dataset import open_data
from sevenfold.train.data.objectives import ANSWERS, PREFERENCES
from sevenfold.train.distributed.ranks import Ranks, dismiss, here, ranks_recorded
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.recording.environment import tools
from sevenfold.train.recording.records import CHAIN_START, trace_link
from sevenfold.train.run_builder import build_model, training_run
from sevenfold.train.schedule import n_steps
from sevenfold.train.tuning.gates import tuning_gate


def phase_directory(job: Job, phase: TrainingPhase) -> Path:
    """Return the directory of the files of a phase."""
    return job.directory("train") / phase.name


def finished(job: Job, phase: TrainingPhase, base_root: str) -> Manifest | None:
    """Return the manifest of a phase whose files are whole; None when the phase has to run."""
    directory = phase_directory(job, phase)
    try:
        manifest = read_manifest(directory)
    except ManifestError as error:
        job.progress.note(f"train/{phase.name}: {MANIFEST} cannot be used: {error.what}")
        return None
    if manifest is None or manifest.key != run_key(job, phase, base_root):
        return None
    if (damaged := damaged_output(directory, manifest)) is not None:
        job.progress.note(f"train/{phase.name}: {damaged} is missing or damaged")
        return None
    return manifest


def train_phase(job: Job, phase: TrainingPhase) -> Manifest:
    """Train one phase and return its manifest. A phase that was begun is resumed, and a finished
    one is not run again.

    Raises:
        StorageError: the phase is an expert and its trunk is not trained.
        Also what `loop.TrainingRun.train` raises.
    """
    base, base_root = base_of(job, phase)
    done = finished(job, phase, base_root)
    if done is not None:
        job.progress.note(f"train/{phase.name}: up to date")
        return done
    directory = phase_directory(job, phase)
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
    run = training_run(job, directory, phase, base=base, base_root=base_root)
    run.train()
    weights, names = run.weights(), [PHASE_WEIGHTS, METRICS, TRACE]
    write_bytes(directory / PHASE_WEIGHTS, save_tensors({n: t.contiguous() for n, t in weights.items()}))
    tuned: dict[str, Json] = {}
    if phase.tune is not None:
        write_json(directory / TUNE_FACTS, tuning_facts(job, phase.name))
        names.append(TUNE_FACTS)
        tuned = tuning_gate(job, phase, run.base, weights)
    outputs = hash_outputs(directory, names)
    manifest = Manifest(
        stage=f"train/{phase.name}",
        key=run.key,
        recipe_digest=job.recipe.digest,
        recipe_name=job.recipe.name,
        inputs={"tokenizer": job.manifest("tokenizer").root} | _begun_with(phase, base_root),
        outputs=outputs,
        root=output_root(outputs),
        tools=tools(run.ranks.device, phase.spec.precision, run.arithmetic),
        seed=phase.spec.seed,
        facts={"n_steps": n_steps(phase.spec), **ranks_recorded(phase.spec, run.ranks), **tuned},
    )
    write_manifest(directory, manifest)
    job.progress.note(f"train/{phase.name}: done, root {manifest.root[:16]}")
    return manifest


def _begun_with(phase: TrainingPhase, base_root: str) -> dict[str, str]:
    """Return the name and the root of the weights that a phase begins with; nothing for the seed."""
    if phase.tune is not None and phase.spec.parent is not None:
        return {"parent": base_root or phase.spec.parent.root}
    return {"trunk": base_root} if base_root else {}


def _next_phase(ranks: Ranks) -> str | None:
    # `dismiss` broadcasts None.
    return ranks.broadcast_object("")


def follow(job: Job) -> None:
    """Train, on every rank but the first, each phase that the first rank names.

    Raises what `train_phase` raises.
    """
    ranks, phases = here(), {phase.name: phase for phase in training_phases(job.recipe)}
    while (name := _next_phase(ranks)) is not None:
        phase = phases[name]
        base, base_root = base_of(job, phase)
        run = training_run(job, phase_directory(job, phase), phase, base=base, base_root=base_root)
        run.train()
        run.weights()
    dismiss()


def base_of(job: Job, phase: TrainingPhase) -> tuple[dict[str, Tensor], str]:
    """Return the weights of the phase below this one, and their root; ({}, "") for the first.

    Raises:
        StorageError: that phase is not trained, or its files are damaged.
    """
    base = phase.base
    if base is None:
        return {}, ""
    manifest = _finished_base(job, phase, base)
    return load_tensors(read_bytes(phase_directory(job, base) / PHASE_WEIGHTS)), manifest.root


def _finished_base(job: Job, phase: TrainingPhase, base: TrainingPhase) -> Manifest:
    """Return the manifest of the phase below. Raises StorageError."""
    below = "" if base.base is None else _finished_base(job, base, base.base).root
    manifest = finished(job, base, below)
    if manifest is None:
        what = f"the phase before {phase.name}" if phase.tune else f"the trunk of {phase.name}"
        raise StorageError(
            f"{what} is not trained",
            where=str(phase_directory(job, base)),
            remedy=f"run `s7 train RECIPE --out {job.out} --phase {base.name}` first",
        )
    return manifest


def chain_facts(job: Job, phases: tuple[TrainingPhase, ...]) -> dict[str, Json]:
    """Return what the seal holds of a tuning in several phases: for each its objective, the root of
    the weights that it began with, its own root, what is said of its samples, and its gate.

    Raises StorageError.
    """
    rows: list[Json] = []
    for phase in phases:
        manifest = read_manifest(phase_directory(job, phase))
        if manifest is None:
            raise StorageError(f"phase {phase.name} is not trained", where=str(phase_directory(job, phase)))
        preferences = phase.preferences
        rows.append(
            {
                "name": phase.name,
                "objective": PREFERENCES if preferences else ANSWERS,
                **({"preferences": preferences.model_dump()} if preferences else {}),
                "parent": manifest.inputs["parent"],
                "root": manifest.root,
                **tuning_facts(job, phase.name),
                **manifest.facts,
            }
        )
    return {"template": rows[0]["template"], "phases": rows}


def train_phases(job: Job, phases: tuple[TrainingPhase, ...], directory: Path) -> Transformer:
    """Train all phases in order, and return the joined model.

    The joined records are written to `directory`. Raises what `train_phase` raises.
    """
    model = build_model(job)
    state: dict[str, Tensor] = {}
    for phase in phases:
        train_phase(job, phase)
        state |= load_tensors(read_bytes(phase_directory(job, phase) / PHASE_WEIGHTS))
    model.load_state_dict(state)
    _join_records(job, phases, directory)
    return model


def _rows(path: Path) -> list[dict[str, Json]]:
    return [json.loads(line) for line in read_bytes(path).splitlines()]


def _join_records(job: Job, phases: tuple[TrainingPhase, ...], directory: Path) -> None:
    """Number the steps of all phases in one sequence, and compute the chain of the trace again."""
    metrics, trace, chain = [], [], CHAIN_START
    step = tokens = 0
    for phase in phases:
        source = phase_directory(job, phase)
        for row in _rows(source / METRICS):
            metrics.append(
                row | {"part": phase.name, "step": step + row["step"], "tokens": tokens + row["tokens"]}
            )
        for row in _rows(source / TRACE):
            number = step + row["step"]
            chain = trace_link(chain, number, row["gradient"], row["weights"])
            trace.append(row | {"part": phase.name, "step": number, "chain": chain})
        step, tokens = metrics[-1]["step"], metrics[-1]["tokens"]
    for name, rows in ((METRICS, metrics), (TRACE, trace)):
        write_bytes(directory / name, b"".join(canonical_json(row) + b"\n" for row in rows))


def epochs(job: Job, phases: tuple[TrainingPhase, ...]) -> dict[str, Json]:
    """Return how many epochs of each domain a run with a mix trains on, by phase.

    The steps of its trunk are not counted.
    """
    if not job.recipe.corpus.mix:
        return {}
    found: dict[str, Mapping[str, float]] = {}
    for phase in phases:
        batches, before = open_data(job, phase).batches, phase.spec.first_step
        skipped = batches.epochs(before) if before else {}
        found[phase.name or "all"] = {
            domain: count - skipped.get(domain, 0.0)
            for domain, count in batches.epochs(n_steps(phase.spec)).items()
        }
    return {"epochs": found}
