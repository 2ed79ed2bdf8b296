"""`s7 audit RUN --export-step N`: write a step of a run as a bundle.

The steps before it are computed again first and must give what the run recorded. Cost: the steps
from the newest checkpoint before N, and for each a hash of weights and moments.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sevenfold.audit.records import Comparison, StepDiffersError
from sevenfold.audit.replay import check_range, sources_of
from sevenfold.audit.steps.bundle import (
    Batch,
    BundleOrigin,
    Claims,
    StepBundle,
    StepFacts,
    Term,
    begins_bundle,
    write_bundle,
)
from sevenfold.audit.steps.transcript import Transcript
from sevenfold.audit.target import (
    Findings,
    Stretch,
    base_for,
    check_checkpoint,
    check_files,
    find_checkpoint,
    stretches,
    target_of,
)
from sevenfold.core.errors import TrainingError, UsageError, storage
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import read_manifest
from sevenfold.core.ownership import refuse_foreign
from sevenfold.core.process.log import Progress
from sevenfold.core.process.memory import keep_freed_memory
from sevenfold.model.kernels.observe import observing
from sevenfold.model.kernels.operators import LAW
from sevenfold.recipe.schema import Recipe, TokenRouted
from sevenfold.recipe.sizing import expert_of
from sevenfold.runs.job import Job
from sevenfold.train.arithmetic import obstacle
from sevenfold.train.checkpoints.checkpoint import Checkpoint, checkpoint_path, state_root
from sevenfold.train.data.curriculum import stage_at
from sevenfold.train.loop import TrainingRun, use_deterministic_kernels
from sevenfold.train.recording.records import Recorder, trace_row
from sevenfold.train.run_builder import training_run
from sevenfold.train.stage import check_supported


@dataclass(kw_only=True)
class Rerun:
    """A run that is computed again step by step. `states` holds the roots of its states, from the
    first one on.
    """

    run: TrainingRun
    about: BundleOrigin
    started_from: str
    records: Recorder
    states: list[str] = field(default_factory=list)

    def state(self) -> str:
        """Return the root of the current state."""
        return state_root(self.run.step, self.run.weights(), self.run.moments())

    def go_to(self, step: int, watch: Callable[[int, Json], None] = lambda _step, _row: None) -> None:
        """Run steps until `step` of them are done. `watch` receives each with its row of metrics.

        Raises:
            StepDiffersError: the result of a step differs from the record.
        """
        self.run.progress.start("audit: steps done again", step, "steps")
        while self.run.step < step:
            row = self.run.advance(self.records)
            self.states.append(self.state())
            self.run.progress.advance(self.run.step)
            watch(self.run.step, row)


def require_law(recipe: Recipe, what: str) -> None:
    """Refuse a run whose bits the law does not define. Raises UsageError."""
    why = obstacle(recipe.model, recipe.train, torch.device("cpu"))
    if why:
        raise UsageError(
            f"{what} needs a run under {LAW}: {why}",
            remedy="use --steps or --full, on the machine and with the libraries that made the run",
        )


def begin(
    job: Job,
    stretch: Stretch,
    records: Comparison,
    findings: Findings,
    scratch: Path,
    sealed_root: str | None = None,
) -> Rerun | None:
    """Return the run of a phase at the newest usable checkpoint before the stretch, or at its seed;
    None when its first state differs from the record (see `findings`).
    """
    base = base_for(job, stretch.part, findings)
    if base is None:
        return None
    run = training_run(job, scratch, stretch.part, base=base[0], base_root=base[1])
    checkpoint, origin = find_checkpoint(job.out, stretch, run, findings), "seed"
    if checkpoint is not None:
        path = checkpoint_path(job.out / stretch.directory, checkpoint.step)
        origin = f"{stretch.directory}/{path.name}"
        wrong = check_checkpoint(job, checkpoint, run, origin, records.traces)
        if wrong:
            findings.differences += wrong
            return None
    about = BundleOrigin(
        recipe_name=job.recipe.name,
        recipe_digest=job.recipe.digest,
        tokens_root=job.manifest("tokenizer").root,
        sealed_root=sealed_root,
    )
    return standing(run, checkpoint, about, records, origin)


def standing(
    run: TrainingRun,
    checkpoint: Checkpoint | None,
    about: BundleOrigin,
    records: Recorder,
    origin: str = "seed",
) -> Rerun:
    """Return a run in the state of a checkpoint, or of its seed."""
    use_deterministic_kernels()
    keep_freed_memory()
    run.take(checkpoint)
    if checkpoint is not None:
        run.guard.losses[:] = checkpoint.losses
    run.model.train()
    rerun = Rerun(run=run, about=about, started_from=origin, records=records)
    rerun.states.append(rerun.state())
    return rerun


def take_step(rerun: Rerun, transcript: Transcript | None = None) -> StepBundle:
    """Run the next step and return it as a bundle, with this transcript of its operators.

    Raises:
        StepDiffersError: the result differs from the record.
        TrainingError: its loss or gradient is not finite.
    """
    run = rerun.run
    step, chain = run.step + 1, run.chain
    model = {name: tensor.clone() for name, tensor in run.weights().items()}
    optimizer = {name: tensor.clone() for name, tensor in run.moments().items()}
    batch = tuple(
        Batch(
            ids=torch.from_numpy(term.source.batch(run.step)),
            counted=None if (counted := term.source.counted(run.step)) is None else torch.from_numpy(counted),
        )
        for term in run.data.objectives
    )
    with observing(transcript) if transcript else nullcontext():
        row = run.advance(rerun.records)
    link = trace_row({name: parameter for parameter, name in run.names.items()}, step, chain)
    claims = Claims(
        states=tuple(rerun.states),
        state_after=rerun.state(),
        loss=row["loss"],
        learning_rate=row["learning_rate"],
        grad_norm=row["grad_norm"],
        **{name: link[name] for name in ("gradient", "weights", "chain")},
    )
    rerun.states.append(claims.state_after)
    return StepBundle(
        facts=_facts(rerun, step, chain, claims),
        model=model,
        base=_frozen(run),
        optimizer=optimizer,
        batch=batch,
        router=run.model.expert_of_token if isinstance(run.model.spec.moe, TokenRouted) else None,
        transcript=transcript.as_json() if transcript else None,
        kept=transcript.kept_outputs() if transcript else {},
    )


def _frozen(run: TrainingRun) -> dict[str, Tensor]:
    """Return the weights that the step reads and does not change: of the trunk below an expert, or of
    the reference of pairs of answers.
    """
    if run.gradients.reference is not None:
        return dict(run.base)
    if run.phase.stack is None:
        return {}
    named = run.model.named_parameters()
    return {name: parameter.detach() for name, parameter in named if expert_of(name) is None}


# Names in a bundle for what a phase trains.
_TRAINS: dict[str, Literal["all", "trunk", "expert"]] = {"all": "all", "trunk": "trunk", "experts": "expert"}


def _facts(rerun: Rerun, step: int, chain: str, claims: Claims) -> StepFacts:
    run = rerun.run
    scaling = stage_at(run.stages, step - 1).rope_scaling if run.stages else run.model.spec.rope_scaling
    return StepFacts(
        step_bundle=1 if run.gradients.reference is None else 2,
        arithmetic=LAW,
        origin=rerun.about,
        part=run.phase.name,
        trains=_TRAINS[run.phase.trains],
        stack=run.phase.stack,
        step=step,
        model=run.model.spec,
        train=run.spec,
        rope_scaling=scaling,
        is_curriculum=bool(run.stages),
        document_start=run.model.document_start,
        chain=chain,
        terms=tuple(
            Term(name=term.name, weight=term.weight, preferences=term.preferences)
            for term in run.data.objectives
        ),
        claims=claims,
    )


def _outcome(path: Path, step: int, findings: Findings, **more: Json) -> dict[str, Json]:
    return {
        "audit": "export-step",
        "path": str(path),
        "step": step,
        "same": not findings.differences,
        "differences": [difference.as_json() for difference in findings.differences],
        "first_step": step if findings.differences else None,
        "warnings": findings.warnings,
        "started_from": None,
        "out": None,
        "n_bytes": None,
        "claims": None,
        **more,
    }


def _step_of(rerun: Rerun, step: int, transcript: Transcript | None, findings: Findings) -> StepBundle | None:
    """Return the bundle of a step; None when the run does not give what it recorded. Raises
    UsageError when a step stops.
    """
    try:
        rerun.go_to(step - 1)
        return take_step(rerun, transcript)
    except StepDiffersError as error:
        findings.differences.append(error.difference)
        return None
    except TrainingError as error:
        raise UsageError(f"step {rerun.run.step + 1} stops: {error.what}") from error


def export_step(
    path: Path,
    step: int,
    out: Path,
    given: Recipe | None,
    progress: Progress,
    *,
    operators: bool = False,
    keep: int | None = None,
) -> dict[str, Json]:
    """Do a run again up to step `step` and write that step as a bundle to `out`.

    Args:
        path: the run directory; never written to.
        step: from 1; the steps of all parts of a run are counted one after another.
        given: the recipe, when the run is not sealed; it must be the run's own.
        operators: with a transcript of the step's operators.
        keep: number of the operator whose outputs the bundle holds, too.

    Returns:
        The outcome. Where a step is not as recorded, `same` is false and nothing is written.

    Raises:
        UsageError: no such step or operator, or the run is not under the law.
        StorageError: a file of the run is missing, or the bundle cannot be written.
    """
    if step < 1:
        raise UsageError(f"--export-step {step}", remedy="steps are counted from 1")
    refuse_foreign(out, begins_bundle, "step bundle")
    findings = Findings(progress)
    recipe, directory, artifact, facts = target_of(path, given, findings)
    check_supported(recipe)
    require_law(recipe, "--export-step")
    job = Job(recipe=recipe, out=directory, progress=progress)
    finished = read_manifest(job.directory("train")) is not None
    check_range(job, step, step, finished)
    if not check_files(job, given is not None, artifact, facts, findings):
        return _outcome(path, step, findings)
    (stretch,) = stretches(recipe, step, step)
    metrics, traces = sources_of(job, stretch, artifact, finished)
    sealed_root = artifact.root if artifact else None
    transcript = None
    if operators or keep is not None:
        transcript = Transcript(lambda number, _row: number == keep)
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        rerun = begin(job, stretch, Comparison(metrics, traces), findings, Path(name), sealed_root)
        if rerun is None:
            return _outcome(path, step, findings)
        bundle = _step_of(rerun, stretch.first, transcript, findings)
    if bundle is None:
        return _outcome(path, step, findings, started_from=rerun.started_from)
    if keep is not None and keep not in range(len(bundle.transcript or [])):
        n_operators = len(bundle.transcript or [])
        raise UsageError(f"--operator {keep}", remedy=f"step {step} has operators 0 to {n_operators - 1}")
    n_bytes = write_bundle(out, bundle)
    return _outcome(
        path, step, findings, started_from=rerun.started_from, out=str(out), n_bytes=n_bytes,
        claims=bundle.facts.claims.model_dump(mode="json"),
    )  # fmt: skip
