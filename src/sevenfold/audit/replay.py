"""`s7 audit --steps A..B`: steps of a training run done again and held against what was recorded (specs/audit.md).

The trainer's own loop runs, in a scratch directory, from the newest checkpoint before A or from the seed. Nothing is written
into the audited run. Cost: that of the steps, plus one read of the token files.
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError

from sevenfold import __version__
from sevenfold.artifact import Artifact
from sevenfold.audit.basis import manifest_differences, recipe_difference, sealed_recipe, tool_warnings
from sevenfold.audit.lineage import at
from sevenfold.audit.records import Comparison, Difference, Source, StepDiffersError, run_sources
from sevenfold.audit.subject import find_subject, identity_of
from sevenfold.core.errors import TrainingError, UsageError, storage
from sevenfold.core.hashing import Json
from sevenfold.core.log import Progress
from sevenfold.core.manifest import read_manifest
from sevenfold.recipe.job import Job
from sevenfold.recipe.schema import Recipe
from sevenfold.train.checkpoint import Checkpoint, checkpoint_path, checkpoint_steps, read_checkpoint
from sevenfold.train.loop import Run
from sevenfold.train.parts import parts_of
from sevenfold.train.records import CHAIN_START, weights_digest
from sevenfold.train.schedule import n_steps
from sevenfold.train.stage import check_supported, tools, training_run

ALLOWED = "allowed: --steps A..B, from 1, A not after B, like 101..200"
_RANGE = re.compile(r"([0-9]{1,15})\.\.([0-9]{1,15})")


def parse_steps(text: str) -> tuple[int, int]:
    """`A..B` as two numbers. Raises UsageError."""
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
    """Recipe, run directory, sealed file and sealed facts."""
    subject = find_subject(path)
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
        findings.warn(*tool_warnings("train", dict(train.tools), {"sevenfold": __version__, **tools()}))
    return True


def _check_range(first: int, last: int, total: int, metrics: Source, finished: bool) -> None:
    end = total if finished else max(metrics.rows, default=0)
    if last > end:
        what = f"the run has {total} steps" if finished else f"the run has recorded {end} of {total} steps"
        raise UsageError(
            f"--steps {first}..{last} goes beyond the end: {what}",
            remedy=f"allowed: a range within 1..{end}" if end else "train a step first",
        )


def _fits(checkpoint: Checkpoint, run: Run) -> bool:
    """Whether the state has the names and shapes of this model."""
    state = {name: tensor.shape for name, tensor in run.model.state_dict().items()}
    names = set(run.names.values())
    return {n: t.shape for n, t in checkpoint.model.items()} == state and all(
        key.rpartition(".")[0] in names for key in checkpoint.optimizer
    )


def _find_checkpoint(directory: Path, before: int, run: Run, findings: Findings) -> Checkpoint | None:
    """The newest usable checkpoint after at most `before` steps."""
    for step in reversed([s for s in checkpoint_steps(directory) if 0 < s <= before]):
        path = checkpoint_path(directory, step)
        try:
            checkpoint = read_checkpoint(path)
        except (SafetensorError, ValueError, KeyError, TypeError, struct.error):
            findings.warn(f"train/{path.name} is damaged: passed over")
            continue
        if checkpoint.step != step or not _fits(checkpoint, run):
            findings.warn(f"train/{path.name} is not of this run: passed over")
            continue
        if checkpoint.key != run.key:
            findings.warn(
                f"train/{path.name} was written under another key: another version or an older recipe"
            )
        return checkpoint
    return None


def _check_checkpoint(
    checkpoint: Checkpoint, run: Run, directory: Path, traces: list[Source]
) -> list[Difference]:
    """The checkpoint against the trace: its chain, and its weights when it stands at a trace point."""
    step = checkpoint.step
    where = f"train/{checkpoint_path(directory, step).name}"
    for source in traces:
        before = max((s for s in source.rows if s <= step), default=0)
        row = source.rows.get(before, {"chain": CHAIN_START})
        actual = {"chain": checkpoint.chain}
        if before == step:
            actual["weights"] = weights_digest({name: checkpoint.model[name] for name in run.names.values()})
        for name, value in actual.items():
            if row.get(name) != value:
                return [Difference(where=where, step=step, field=name, expected=row.get(name), actual=value)]
    return []


def _replay(run: Run, last: int, comparison: Comparison) -> Difference | None:
    run.recorder, run.last = (lambda _directory, _step: comparison), last
    try:
        run.train()
    except StepDiffersError as error:
        return error.difference
    except TrainingError as error:
        step = run.step + 1
        row = comparison.metrics[0].rows.get(step, {})
        return Difference(
            where=comparison.metrics[0].name,
            step=step,
            field="loss",
            expected=row.get("loss"),
            actual=error.what,
        )
    return None


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
    if len(parts_of(recipe)) > 1:
        raise UsageError(
            f"{recipe.name} is trained in parts, whose steps are counted one after another",
            where="--steps",
            remedy="use --full, which trains all of them again",
        )
    job = Job(recipe=recipe, out=out, progress=progress)
    asked = (first, last)
    metrics, traces = run_sources(out, artifact)
    finished = read_manifest(job.directory("train")) is not None
    _check_range(first, last, n_steps(recipe.train), metrics[0], finished)
    if not _check_files(job, given is not None, artifact, facts, findings):
        return _result(path, asked, findings)
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        scratch, trained = Path(name), job.directory("train")
        run = training_run(job, scratch)
        checkpoint = _find_checkpoint(trained, first - 1, run, findings)
        origin, begin = "seed", 1
        if checkpoint is not None:
            source = checkpoint_path(trained, checkpoint.step)
            origin, begin, run.key = f"train/{source.name}", checkpoint.step + 1, checkpoint.key
            wrong = _check_checkpoint(checkpoint, run, trained, traces)
            if wrong:
                findings.differences += wrong
                return _result(path, asked, findings, started_from=origin)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, scratch / source.name)
        comparison = Comparison(metrics, traces)
        difference = _replay(run, last, comparison)
        if difference:
            findings.differences.append(difference)
    compared = {"steps": comparison.n_metrics, "trace_points": comparison.n_trace}
    end = difference.step if difference else last
    return _result(path, asked, findings, started_from=origin, executed=[begin, end], compared=compared)
