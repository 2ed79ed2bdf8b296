"""`s7 audit --steps A..B`: compute steps of a training run again and compare them with the records
(specs/audit.md).

The training loop itself runs in a scratch directory, from the newest checkpoint before A or from
the seed. Nothing is written into the audited run. A run with several phases is audited phase by
phase, each from its own checkpoints, and experts over the recorded trunk. Cost: that of the steps,
plus one read of the token files.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from sevenfold.artifact import Artifact
from sevenfold.audit.records import (
    Comparison,
    Difference,
    RecordSource,
    StepDiffersError,
    read_rows,
    run_sources,
)
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
from sevenfold.core.process.log import Progress
from sevenfold.core.run_files import METRICS
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints.checkpoint import (
    checkpoint_path,
)
from sevenfold.train.loop import Recording, TrainingRun
from sevenfold.train.phases import training_phases
from sevenfold.train.run_builder import training_run
from sevenfold.train.schedule import n_steps
from sevenfold.train.stage import check_supported

ALLOWED = "allowed: --steps A..B, from 1, A not after B, like 101..200"
_RANGE = re.compile(r"([0-9]{1,15})\.\.([0-9]{1,15})")


def parse_steps(text: str) -> tuple[int, int]:
    """Parse `A..B` as two numbers. Raises UsageError."""
    match = _RANGE.fullmatch(text)
    first, last = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= first <= last:
        raise UsageError(f"--steps {text!r} is not a range of steps", remedy=ALLOWED)
    return first, last


def check_range(job: Job, first: int, last: int, finished: bool) -> None:
    """Refuse a range with a step that was not recorded. Raises UsageError."""
    parts, trunk = training_phases(job.recipe), job.recipe.train.trunk
    if trunk and first <= trunk.step:
        raise UsageError(
            f"steps 1..{trunk.step} are those of the trunk {trunk.name}, which this run goes on from",
            remedy=f"audit them in the trunk's own run; allowed here: a range from {trunk.step + 1}",
        )
    total = sum(n_steps(part.spec) for part in parts)
    if finished or len(parts) == 1:
        end = total if finished else max(read_rows(job.directory("train") / METRICS), default=0)
        if last > end:
            what = (
                f"the run has {total} steps" if finished else f"the run has recorded {end} of {total} steps"
            )
            raise UsageError(
                f"steps {first}..{last} go beyond the end: {what}",
                remedy=f"allowed: a range within 1..{end}" if end else "train a step first",
            )
        return
    for stretch in stretches(job.recipe, first, min(last, total)):
        path = job.out / stretch.directory / METRICS
        end = max(read_rows(path), default=0) if path.is_file() else 0
        if stretch.last > end or last > total:
            begin = stretch.before[0] + 1
            raise UsageError(
                f"steps {first}..{last}: {stretch.directory} has recorded {end} of"
                f" {n_steps(stretch.part.spec)} steps",
                remedy=(
                    f"allowed in this part: a range within {begin}..{begin + end - 1}"
                    if end
                    else "train it first"
                ),
            )


def _replay(run: TrainingRun, last: int, comparison: Comparison, n_before: int) -> Difference | None:
    """Return the first difference of the steps of the phase up to `last`, in the joined numbering."""
    run.recording = Recording(recorder=lambda _directory, _step: comparison, is_bound=False, last=last)
    try:
        run.train()
    except StepDiffersError as error:
        found = error.difference
        own = {source.name for source in (*comparison.metrics, *comparison.traces) if source.before is None}
        step = (found.step or 0) + (n_before if found.where in own else 0)
        return replace(found, step=step)
    except TrainingError as error:
        source = comparison.metrics[0]
        step = run.step + 1 + n_before
        row = source.rows.get(step if source.before else run.step + 1, {})
        return Difference(
            where=source.name, step=step, field="loss", expected=row.get("loss"), actual=error.what
        )
    return None


@dataclass(kw_only=True)
class ReplayOutcome:
    """The result of the executed stretches."""

    started_from: str | None = None
    # The last executed step, in the joined numbering.
    end: int | None = None
    begin: int | None = None
    steps: int = 0
    trace_points: int = 0


def sources_of(
    job: Job, stretch: Stretch, artifact: Artifact | None, finished: bool
) -> tuple[list[RecordSource], list[RecordSource]]:
    """Return the records to compare a stretch with: for a phase, first the joined records if there
    are any, then its own.
    """
    if not stretch.part.name:
        return run_sources(job.out, artifact)
    own = run_sources(job.out, None, stretch.part.name)
    if not finished:
        return own
    joined = run_sources(job.out, artifact)
    metrics, traces = (
        [*(replace(source, before=stretch.before) for source in whole), *part]
        for whole, part in zip(joined, own, strict=True)
    )
    return metrics, traces


def _beginning(job: Job) -> str:
    """Return the name of the state before the first step of a run, for people."""
    parent = job.recipe.train.parent
    return f"the sealed model {parent.name}" if parent else "seed"


def _audit_stretch(
    job: Job,
    stretch: Stretch,
    sources: tuple[list[RecordSource], list[RecordSource]],
    findings: Findings,
    outcome: ReplayOutcome,
) -> bool:
    """Compute the steps of one phase again. Return whether they were the same."""
    base = base_for(job, stretch.part, findings)
    if base is None:
        return False
    metrics, traces = sources
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        scratch = Path(name)
        run = training_run(job, scratch, stretch.part, base=base[0], base_root=base[1])
        checkpoint = find_checkpoint(job.out, stretch, run, findings)
        origin, begin = _beginning(job), 1
        if checkpoint is not None:
            source = checkpoint_path(job.out / stretch.directory, checkpoint.step)
            origin, begin, run.key = f"{stretch.directory}/{source.name}", checkpoint.step + 1, checkpoint.key
            wrong = check_checkpoint(job, checkpoint, run, origin, traces)
            if wrong:
                findings.differences += wrong
                outcome.started_from = outcome.started_from or origin
                return False
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, scratch / source.name)
        comparison, n_before = Comparison(metrics, traces), stretch.before[0]
        difference = _replay(run, stretch.last, comparison, n_before)
    outcome.started_from = outcome.started_from or origin
    outcome.begin = outcome.begin or n_before + begin
    outcome.end = difference.step if difference else n_before + stretch.last
    outcome.steps += comparison.n_metrics
    outcome.trace_points += comparison.n_trace
    if difference:
        findings.differences.append(difference)
    return difference is None


def _result(path: Path, asked: tuple[int, int], findings: Findings, **more: Json) -> dict[str, Json]:
    steps = [d.step for d in findings.differences if d.step is not None]
    return {
        "audit": "steps",
        "path": str(path),
        "asked": list(asked),
        "same": not findings.differences,
        "first_step": min(steps, default=None),
        "differences": [difference.as_json() for difference in findings.differences],
        "warnings": findings.warnings,
        "started_from": None,
        "executed": None,
        "compared": {"steps": 0, "trace_points": 0},
        **more,
    }


def audit_steps(
    path: Path, first: int, last: int, given: Recipe | None, progress: Progress, *, trunk: Path | None = None
) -> dict[str, Json]:
    """Compute steps `first` to `last` again and compare.

    Args:
        path: the run directory; never written to.
        first: first step, from 1.
        last: last step.
        given: the recipe, when the run is not sealed; it must be that of the run.
        progress: receives warnings and steps.
        trunk: the sealed file that `train.from` names, when it is not beside the run.

    Returns:
        The outcome: `same`, `differences` in the order found, `first_step`, `warnings`, what was
            executed.

    Raises:
        UsageError: the range is not within the run, or the recipe is not known.
        StorageError: a file of the run is missing.
        ArtifactError: the sealed file is refused.
        KeyboardInterrupt: the audit was stopped; the scratch directory is removed.
    """
    findings = Findings(progress)
    recipe, out, artifact, facts = target_of(path, given, findings)
    check_supported(recipe)
    job = Job(recipe=recipe, out=out, progress=progress, trunks=(trunk,) if trunk else ())
    asked = (first, last)
    finished = read_manifest(job.directory("train")) is not None
    check_range(job, first, last, finished)
    if not check_files(job, given is not None, artifact, facts, findings):
        return _result(path, asked, findings)
    outcome = ReplayOutcome()
    for stretch in stretches(recipe, first, last):
        sources = sources_of(job, stretch, artifact, finished)
        if not _audit_stretch(job, stretch, sources, findings, outcome):
            break
    return _result(
        path,
        asked,
        findings,
        started_from=outcome.started_from,
        executed=None if outcome.begin is None else [outcome.begin, outcome.end],
        compared={"steps": outcome.steps, "trace_points": outcome.trace_points},
    )
