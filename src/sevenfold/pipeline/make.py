"""Run the stages of a recipe: decide which must run, in which order, and write their manifests.

The key of a stage covers the recipe sections that it reads, the roots of the stages that it needs
and its fingerprint (for the corpus: the content of the sources). A stage whose key is unchanged and
whose outputs are undamaged is skipped. The manifest is removed when a stage starts and written when
it ends, so a directory with a manifest is complete.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from sevenfold import __version__
from sevenfold.core.errors import StorageError, UsageError, storage
from sevenfold.core.files import link_or_copy, read_bytes, write_json
from sevenfold.core.hashing import canonical_json, digest
from sevenfold.core.manifest import (
    Manifest,
    ManifestError,
    damaged_output,
    hash_outputs,
    output_root,
    read_manifest,
    write_manifest,
)
from sevenfold.core.run_files import MANIFEST, RECIPE
from sevenfold.pipeline.parent import READERS, check_parent, unpack_parent
from sevenfold.pipeline.stages import STAGE_NAMES, STAGES, Stage, StageModule, find_stage, stage_module
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.runs.lock import exclusive
from sevenfold.tune.prepare import prepare

# The threads of PyTorch wait for each other by spinning. When another process wants a core, the
# default wastes the time that this process and the missing thread need: with one core busy, 4,700
# tokens/s instead of 9,400, without any gain when both cores are free (dev/LOG.md). PyTorch reads
# the variable when it is loaded, which the stages do later. It changes no bit.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def stage_key(job: Job, stage: Stage, module: StageModule) -> str:
    """Return one digest of everything that the outputs of the stage depend on. Raises StorageError
    when an input stage is unfinished.
    """
    resolved = job.recipe.resolved()
    sections = resolved if "*" in stage.sections else {name: resolved[name] for name in stage.sections}
    return digest(
        "sevenfold/stage/1",
        stage.name,
        f"{__version__}/{stage.version}",
        canonical_json(sections),
        module.fingerprint(job),
        *(f"{name}={job.manifest(name).root}" for name in stage.needs),
    )


def up_to_date(job: Job, stage: Stage, key: str) -> bool:
    """Return whether the outputs of the stage exist, are whole, and were made from this key.

    Damaged outputs are reported in a note.
    """
    directory = job.directory(stage.name)
    try:
        manifest = read_manifest(directory)
    except ManifestError as error:
        job.progress.note(f"{stage.name}: {MANIFEST} is of no use: {error.what}")
        return False
    if manifest is None or manifest.key != key:
        return False
    if (damaged := damaged_output(directory, manifest)) is not None:
        job.progress.note(f"{stage.name}: {damaged} is missing or damaged, so the stage runs again")
        return False
    if manifest.recipe_digest != job.recipe.digest:
        # Another section of the recipe changed, and none that this stage reads.
        write_manifest(
            directory, replace(manifest, recipe_digest=job.recipe.digest, recipe_name=job.recipe.name)
        )
    return True


def require_whole_inputs(job: Job, stage: Stage) -> None:
    """Refuse files of earlier stages that differ from their manifests. Raises StorageError."""
    for name in stage.needs:
        damaged = damaged_output(job.directory(name), job.manifest(name))
        if damaged is not None:
            raise StorageError(
                "it is missing, or its bytes are not those that the stage wrote",
                where=str(job.directory(name) / damaged),
                remedy=f"run `s7 make RECIPE --out {job.out} --until {name}`, which makes it again",
            )


def _prepare(job: Job, stage: Stage, *, force: bool) -> Path:
    directory = job.directory(stage.name)
    with storage(directory):
        (directory / MANIFEST).unlink(missing_ok=True)
        if directory.is_dir() and (force or not stage.keeps):
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
    return directory


def run_stage(job: Job, stage: Stage, *, force: bool = False) -> bool:
    """Run one stage unless it is up to date. Return whether it ran.

    Raises:
        SevenfoldError: what the stage raises; its directory then holds no manifest.
    """
    module = stage_module(stage)
    key = stage_key(job, stage, module)
    write_json(job.out / RECIPE, job.recipe.resolved())
    if not force and up_to_date(job, stage, key):
        job.progress.note(f"{stage.name}: up to date")
        return False
    require_whole_inputs(job, stage)
    if stage.name in READERS:
        unpack_parent(job)
    if stage.name == "train":
        prepare(job)
    directory = _prepare(job, stage, force=force)
    result = module.run(job)
    with storage(directory):
        outputs = hash_outputs(directory, result.outputs, result.contents)
    manifest = Manifest(
        stage=stage.name,
        key=key,
        recipe_digest=job.recipe.digest,
        recipe_name=job.recipe.name,
        inputs={name: job.manifest(name).root for name in stage.needs},
        outputs=outputs,
        root=output_root(outputs),
        tools={"sevenfold": __version__, **result.tools},
        seed=job.recipe.train.seed,
        facts=result.facts,
    )
    write_manifest(directory, manifest)
    job.progress.note(f"{stage.name}: done, root {manifest.root[:16]}")
    return True


def take_over(job: Job, stage: Stage, other: Path) -> None:
    """Take the outputs of a stage from another run. Its recipe must be the same in the sections of
    this stage, except for facts that the stage passes on.

    Files are linked where the file system has hard links, and copied elsewhere. Earlier outputs of
    this run are replaced.

    Raises:
        StorageError: the other run has no finished and undamaged outputs, or its sources or this
            program have changed since.
        UsageError: the recipes differ.
    """
    section, module = stage.name, stage_module(stage)
    key = stage_key(job, stage, module)
    if up_to_date(job, stage, key):
        job.progress.note(f"{section}: up to date")
        return
    if other.resolve() == job.out.resolve():
        raise UsageError(
            "a run cannot take from itself", where=str(other), remedy="run the stage without --from"
        )
    manifest = _finished(other, section)
    theirs = replace(job, recipe=_recipe_of(other), out=other)
    wanted, found = (each.recipe.resolved()[section] for each in (job, theirs))
    names = sorted(name for name in wanted if name not in stage.passes_on and wanted[name] != found.get(name))
    if names:
        what = f"another {section}: {', '.join(names)} differ"
        raise UsageError(what, where=str(other), remedy="run the stage without --from")
    if manifest.key != stage_key(theirs, stage, module):
        raise StorageError(
            "its sources or this program have changed since",
            where=str(other / section),
            remedy="run the stage again there, or here without --from",
        )
    directory = _prepare(job, stage, force=True)
    for output in manifest.outputs:
        link_or_copy(other / section / output.path, directory / output.path)
    write_json(job.out / RECIPE, job.recipe.resolved())
    taken = replace(
        manifest,
        key=key,
        recipe_digest=job.recipe.digest,
        recipe_name=job.recipe.name,
        seed=job.recipe.train.seed,
        facts={**manifest.facts, **{name: wanted[name] for name in stage.passes_on}},
    )
    write_manifest(directory, taken)
    job.progress.note(f"{section}: taken from {other}, root {manifest.root[:16]}")


def _recipe_of(run: Path) -> Recipe:
    """Return the resolved recipe of another run. Raises StorageError when it cannot be read."""
    path = run / RECIPE
    try:
        return Recipe.model_validate_json(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(
            "not a recipe that this version writes: it is damaged, or of another version",
            where=str(path),
            remedy="run the stage again there, or here without --from",
        ) from error


def _finished(run: Path, section: str) -> Manifest:
    """Return the manifest of a finished stage of another run with undamaged outputs."""
    manifest = read_manifest(run / section)
    damaged = damaged_output(run / section, manifest) if manifest else None
    if manifest is None or damaged or not (run / RECIPE).is_file():
        what = f"{damaged} is damaged" if damaged else f"no finished {section} is there"
        raise StorageError(what, where=str(run), remedy="run the stage there first, or here without --from")
    return manifest


def make(job: Job, *, until: str = STAGE_NAMES[-1], force: str | None = None) -> list[str]:
    """Run all stages up to `until`, and `force` even if it is up to date. Return those that ran."""
    last, forced = find_stage(until), find_stage(force).name if force else None
    stages = STAGES[: STAGES.index(last) + 1]
    for stage in stages:
        # A later stage reports what it cannot do before an earlier one has worked for an hour.
        stage_module(stage).check_job(job)
    if not any((job.directory(name) / MANIFEST).is_file() for name in READERS):
        check_parent(job)
    ran = []
    with exclusive(job.out):
        for stage in stages:
            if run_stage(job, stage, force=stage.name == forced):
                ran.append(stage.name)
    return ran


def train_to(job: Job, step: int) -> str:
    """Train up to `step`, going on from the checkpoints of an earlier start. Return the recipe line
    that begins another run there.

    Raises:
        UsageError: the run has no such step.
        StorageError: a file cannot be read or written.
        Also what training raises.
    """
    from sevenfold.train.checkpoints.trunk import branch_point, has_state
    from sevenfold.train.loop import Recording
    from sevenfold.train.run_builder import training_run
    from sevenfold.train.schedule import n_steps

    stage = find_stage("train")
    stage_module(stage).check_job(job)
    total = n_steps(job.recipe.train)
    if isinstance(job.recipe.tune, tuple):
        raise UsageError("--to-step goes on with a run of one phase", remedy="use --phase, or `s7 make`")
    if step > total:
        raise UsageError(f"--to-step {step}", remedy=f"the run has {total} steps")
    require_whole_inputs(job, stage)
    directory = job.directory("train")
    with exclusive(job.out):
        write_json(job.out / RECIPE, job.recipe.resolved())
        with storage(directory):
            directory.mkdir(parents=True, exist_ok=True)
        unpack_parent(job)
        prepare(job)
        if not has_state(job, step):
            run = training_run(job, directory)
            run.recording = Recording(last=step)
            run.train()
        return branch_point(job, step)


def run_phase(job: Job, phase: str, expert: str | None) -> None:
    """Train one phase of a recipe. Other processes may train other phases at the same time.

    A later `make` uses the finished phases.

    Raises:
        UsageError: the recipe has no such phase.
        StorageError: a file cannot be read or written.
        Also what training raises.
    """
    from sevenfold.train.experts import phase_directory, train_phase
    from sevenfold.train.phases import find_training_phase

    stage = find_stage("train")
    stage_module(stage).check_job(job)
    chosen = find_training_phase(job.recipe, phase, expert)
    require_whole_inputs(job, stage)
    with exclusive(job.out, shared=True), exclusive(phase_directory(job, chosen)):
        write_json(job.out / RECIPE, job.recipe.resolved())
        if chosen.tune is not None:
            unpack_parent(job)
            prepare(job)
        train_phase(job, chosen)
