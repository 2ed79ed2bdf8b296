"""`s7 audit --steps A..B`: steps of a training run done again and held against what was recorded
(specs/audit.md).

The trainer's own loop runs, in a scratch directory, from the newest checkpoint before A or from the
seed. Nothing is written into the audited run. A run in parts is audited part by part: each from its
own checkpoints, experts behind the recorded trunk.
Cost: that of the steps, plus one read of the token files.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from sevenfold import __version__
from sevenfold.artifact import Artifact
from sevenfold.audit.preconditions import (
    manifest_differences,
    recipe_difference,
    sealed_recipe,
    tool_warnings,
)
from sevenfold.audit.records import (
    Comparison,
    Difference,
    RecordSource,
    StepDiffersError,
    read_rows,
    run_sources,
)
from sevenfold.core.errors import TrainingError, UsageError, storage
from sevenfold.core.hashing import Json
from sevenfold.core.log import Progress
from sevenfold.core.manifest import read_manifest
from sevenfold.recipe.schema import Recipe
from sevenfold.release.lineage import at
from sevenfold.release.target import find_target, identity_of
from sevenfold.runs.job import Job
from sevenfold.train.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
)
from sevenfold.train.environment import tools_of
from sevenfold.train.experts import base_of, part_directory
from sevenfold.train.loop import TrainingRun
from sevenfold.train.phases import EXPERTS, TrainingPhase, training_phases
from sevenfold.train.records import CHAIN_START, METRICS, weights_digest
from sevenfold.train.run_builder import training_run
from sevenfold.train.schedule import n_steps
from sevenfold.train.stage import check_supported

ALLOWED = "allowed: --steps A..B, from 1, A not after B, like 101..200"
_RANGE = re.compile(r"([0-9]{1,15})\.\.([0-9]{1,15})")


def parse_steps(text: str) -> tuple[int, int]:
    """Return `A..B` as two numbers. Raises UsageError."""
    match = _RANGE.fullmatch(text)
    first, last = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= first <= last:
        raise UsageError(f"--steps {text!r} is not a range of steps", remedy=ALLOWED)
    return first, last


@dataclass
class Findings:
    """What was found so far; warnings are said at once."""

    progress: Progress
    warnings: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def warn(self, *lines: str) -> None:
        """Keep and say."""
        for line in lines:
            self.warnings.append(line)
            self.progress.note(f"warning: {line}")


def _bases(
    path: Path, given: Recipe | None, findings: Findings
) -> tuple[Recipe, Path, Artifact | None, Mapping[str, Json]]:
    """Return the recipe, run directory, sealed file and sealed facts."""
    subject = find_target(path)
    if subject.out is None:
        raise UsageError(
            f"{path} is a file: steps are done again from a run directory",
            remedy="name the directory that holds train/ and tokenizer/, or use --full",
        )
    facts = identity_of(subject.artifact)["facts"] if subject.artifact else {}
    if given is not None:
        return given, subject.out, subject.artifact, facts
    if subject.artifact is None:
        raise UsageError(
            f"{path} holds no model.s7l, which would carry the recipe", remedy="give --recipe RECIPE"
        )
    recipe, warnings, differences = sealed_recipe(subject.artifact)
    findings.warn(*warnings)
    findings.differences += differences
    return recipe, subject.out, subject.artifact, facts


def _check_files(
    job: Job, given: bool, artifact: Artifact | None, facts: Mapping[str, Json], findings: Findings
) -> bool:
    """Hold recipe and files against the manifests and the seal; whether a replay can mean anything."""
    tokenizer, train = job.manifest("tokenizer"), read_manifest(job.directory("train"))
    recorded = train or tokenizer
    if given:
        findings.differences += recipe_difference(job.recipe, recorded.recipe_digest, artifact)
    sealed = at(facts, "roots", "tokenizer")
    findings.differences += manifest_differences(tokenizer, sealed, job.directory("tokenizer"))
    if train is not None and train.inputs.get("tokenizer") != tokenizer.root:
        findings.differences.append(
            Difference(
                where="train/manifest.json",
                field="inputs.tokenizer",
                expected=train.inputs.get("tokenizer"),
                actual=tokenizer.root,
            )
        )
    if findings.differences:
        return False
    if train is not None:
        found = manifest_differences(train, at(facts, "roots", "train"), job.directory("train"))
        findings.differences += found
        here = {"sevenfold": __version__, **tools_of(job.recipe)}
        findings.warn(*tool_warnings("train", dict(train.tools), here))
    return True


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps `first` to `last` of one part, by its own count. `before`: steps and tokens of the
    parts before it.
    """

    part: TrainingPhase
    before: tuple[int, int]
    first: int
    last: int

    @property
    def directory(self) -> str:
        """Return where the part's files stand in a run."""
        return f"train/{self.part.name}" if self.part.name else "train"


def _stretches(recipe: Recipe, first: int, last: int) -> list[Stretch]:
    """Return the range, by part. Steps of all parts are counted one after another, in the order of
    the recipe.
    """
    found, steps, tokens = [], 0, 0
    for part in training_phases(recipe):
        count = n_steps(part.spec)
        begin, end = max(first - steps, 1), min(last - steps, count)
        if begin <= end:
            found.append(Stretch(part=part, before=(steps, tokens), first=begin, last=end))
        steps, tokens = steps + count, tokens + count * part.spec.batch_sequences * part.spec.sequence
    return found


def _check_range(job: Job, first: int, last: int, finished: bool) -> None:
    """Refuse a range with a step that was not recorded. Raises UsageError."""
    parts = training_phases(job.recipe)
    total = sum(n_steps(part.spec) for part in parts)
    if finished or len(parts) == 1:
        end = total if finished else max(read_rows(job.directory("train") / METRICS), default=0)
        if last > end:
            what = (
                f"the run has {total} steps" if finished else f"the run has recorded {end} of {total} steps"
            )
            raise UsageError(
                f"--steps {first}..{last} goes beyond the end: {what}",
                remedy=f"allowed: a range within 1..{end}" if end else "train a step first",
            )
        return
    for stretch in _stretches(job.recipe, first, min(last, total)):
        path = job.out / stretch.directory / METRICS
        end = max(read_rows(path), default=0) if path.is_file() else 0
        if stretch.last > end or last > total:
            begin = stretch.before[0] + 1
            raise UsageError(
                f"--steps {first}..{last}: {stretch.directory} has recorded {end} of {n_steps(stretch.part.spec)} steps",
                remedy=f"allowed in this part: a range within {begin}..{begin + end - 1}"
                if end
                else "train it first",
            )


def _fits(checkpoint: Checkpoint, run: TrainingRun) -> bool:
    """Return whether the state has the names and shapes of what this run trains."""
    state = {name: parameter.shape for parameter, name in run.names.items()}
    return {n: t.shape for n, t in checkpoint.model.items()} == state and all(
        key.rpartition(".")[0] in state for key in checkpoint.optimizer
    )


def _find_checkpoint(out: Path, stretch: Stretch, run: TrainingRun, findings: Findings) -> Checkpoint | None:
    """Return the newest usable checkpoint of the part before the stretch."""
    directory, before = out / stretch.directory, stretch.first - 1
    for step in reversed([s for s in checkpoint_steps(directory) if 0 < s <= before]):
        path = checkpoint_path(directory, step)
        try:
            checkpoint = read_checkpoint(path)
        except DamagedCheckpointError as error:
            findings.warn(f"{stretch.directory}/{path.name} is passed over, {error.what}")
            continue
        if checkpoint.step != step or not _fits(checkpoint, run):
            findings.warn(f"{stretch.directory}/{path.name} is not of this run: passed over")
            continue
        if checkpoint.key != run.key:
            findings.warn(
                f"{stretch.directory}/{path.name} was written under another key: another version or an older recipe"
            )
        return checkpoint
    return None


def _check_checkpoint(
    checkpoint: Checkpoint, run: TrainingRun, where: str, traces: list[RecordSource]
) -> list[Difference]:
    """Return the checkpoint against the trace: its chain, and its weights when it stands at a trace point."""
    step = checkpoint.step
    for source in traces:
        # Of all parts: its chain is another.
        if source.before is not None:
            continue
        before = max((s for s in source.rows if s <= step), default=0)
        row = source.rows.get(before, {"chain": CHAIN_START})
        actual = {"chain": checkpoint.chain}
        if before == step:
            actual["weights"] = weights_digest({name: checkpoint.model[name] for name in run.names.values()})
        for name, value in actual.items():
            if row.get(name) != value:
                return [Difference(where=where, step=step, field=name, expected=row.get(name), actual=value)]
    return []


def _replay(run: TrainingRun, last: int, comparison: Comparison, n_before: int) -> Difference | None:
    """Return the first difference of the part's steps up to `last`, under the count of all parts."""
    run.recorder, run.last, run.is_recorded = (lambda _directory, _step: comparison), last, False
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
class Outcome:
    """What the stretches that were executed gave."""

    started_from: str | None = None
    # The last step executed, under the count of all parts.
    end: int | None = None
    begin: int | None = None
    steps: int = 0
    trace_points: int = 0


def _sources(
    job: Job, stretch: Stretch, artifact: Artifact | None, finished: bool
) -> tuple[list[RecordSource], list[RecordSource]]:
    """Return what a stretch is held against: of a part, the joined records first when there are
    some, then its own.
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


def _base(job: Job, part: TrainingPhase, findings: Findings) -> tuple[Mapping[str, Tensor], str] | None:
    """Return the trunk behind which an expert is trained again; None when its files are not what its
    manifest says.
    """
    if part.trains == EXPERTS:
        trunk = training_phases(job.recipe)[0]
        directory = part_directory(job, trunk)
        manifest = read_manifest(directory)
        wrong = manifest_differences(manifest, None, directory) if manifest else []
        if wrong:
            findings.differences += wrong
            return None
    return base_of(job, part)


def _audit_stretch(
    job: Job,
    stretch: Stretch,
    sources: tuple[list[RecordSource], list[RecordSource]],
    findings: Findings,
    outcome: Outcome,
) -> bool:
    """Do the steps of one part again; whether they were the same."""
    base = _base(job, stretch.part, findings)
    if base is None:
        return False
    metrics, traces = sources
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        scratch = Path(name)
        run = training_run(job, scratch, stretch.part, base=base[0], base_root=base[1])
        checkpoint = _find_checkpoint(job.out, stretch, run, findings)
        origin, begin = "seed", 1
        if checkpoint is not None:
            source = checkpoint_path(job.out / stretch.directory, checkpoint.step)
            origin, begin, run.key = f"{stretch.directory}/{source.name}", checkpoint.step + 1, checkpoint.key
            wrong = _check_checkpoint(checkpoint, run, origin, traces)
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
    path: Path, first: int, last: int, given: Recipe | None, progress: Progress
) -> dict[str, Json]:
    """Do steps `first` to `last` again and compare.

    Args:
        path: the run directory; never written to.
        first: first step, from 1.
        last: last step.
        given: the recipe, when the run is not sealed; it must be the run's own.
        progress: told of warnings and steps.

    Returns:
        The outcome: `same`, `differences` in the order found, `first_step`, `warnings`, what was executed.

    Raises:
        UsageError: the range is not within the run, or the recipe is not known.
        StorageError: a file of the run is missing.
        ArtifactError: the sealed file is refused.
        KeyboardInterrupt: stopped; the scratch directory is gone.
    """
    findings = Findings(progress)
    recipe, out, artifact, facts = _bases(path, given, findings)
    check_supported(recipe)
    job = Job(recipe=recipe, out=out, progress=progress)
    asked = (first, last)
    finished = read_manifest(job.directory("train")) is not None
    _check_range(job, first, last, finished)
    if not _check_files(job, given is not None, artifact, facts, findings):
        return _result(path, asked, findings)
    outcome = Outcome()
    for stretch in _stretches(recipe, first, last):
        sources = _sources(job, stretch, artifact, finished)
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
