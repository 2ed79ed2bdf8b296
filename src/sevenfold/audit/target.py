"""Select what an audit computes again: a run directory, the steps of each of its phases, and their
first state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from sevenfold.audit.records import Difference, RecordSource
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import read_manifest
from sevenfold.core.process.log import Progress
from sevenfold.core.run_files import MANIFEST, PARENT, TUNE
from sevenfold.model.kernels.operators import LAW
from sevenfold.pipeline.parent import changed_parent
from sevenfold.recipe.schema import Recipe
from sevenfold.release.lineage import at
from sevenfold.release.target import find_target, identity_of
from sevenfold.runs.job import Job
from sevenfold.runs.tuning import changed_tuning
from sevenfold.train.checkpoints.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
)
from sevenfold.train.checkpoints.trunk import find_state
from sevenfold.train.experts import base_of, phase_directory
from sevenfold.train.loop import TrainingRun
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.recording.environment import tools_of
from sevenfold.train.recording.records import CHAIN_START, weights_digest
from sevenfold.train.schedule import n_steps


@dataclass
class Findings:
    """The findings so far. Warnings are printed at once."""

    progress: Progress
    warnings: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def warn(self, *lines: str) -> None:
        """Record and print a warning."""
        for line in lines:
            self.warnings.append(line)
            self.progress.note(f"warning: {line}")


def target_of(
    path: Path, given: Recipe | None, findings: Findings
) -> tuple[Recipe, Path, Artifact | None, Mapping[str, Json]]:
    """Return recipe, run directory, sealed file and sealed facts."""
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


def check_files(
    job: Job, given: bool, artifact: Artifact | None, facts: Mapping[str, Json], findings: Findings
) -> bool:
    """Compare recipe and files with the manifests and the seal, and those of a sealed parent with its
    file. Return whether a replay is meaningful.
    """
    tokenizer, train = job.manifest("tokenizer"), read_manifest(job.directory("train"))
    recorded = train or tokenizer
    if given:
        findings.differences += recipe_difference(job.recipe, recorded.recipe_digest, artifact)
    sealed = at(facts, "roots", "tokenizer")
    findings.differences += manifest_differences(tokenizer, sealed, job.directory("tokenizer"))
    if train is not None and train.inputs.get("tokenizer") != tokenizer.root:
        findings.differences.append(
            Difference(
                where=f"train/{MANIFEST}",
                field="inputs.tokenizer",
                expected=train.inputs.get("tokenizer"),
                actual=tokenizer.root,
            )
        )
    findings.differences += [
        Difference(where=f"{PARENT}/{name}", field="sha256", expected=expected, actual=actual)
        for name, expected, actual in changed_parent(job)
    ]
    findings.differences += [
        Difference(where=f"{TUNE}/{name}", field="sha256", expected=expected, actual=actual)
        for name, expected, actual in changed_tuning(job)
    ]
    if findings.differences:
        return False
    if train is not None:
        found = manifest_differences(train, at(facts, "roots", "train"), job.directory("train"))
        findings.differences += found
        here = {"sevenfold": __version__, **tools_of(job.recipe)}
        is_law = train.tools.get("arithmetic") == here["arithmetic"] == LAW
        findings.warn(*tool_warnings("train", dict(train.tools), here, is_law=is_law))
    return True


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps `first` to `last` of one phase, in its own numbering. `before` holds the steps and
    tokens of the phases before it.
    """

    part: TrainingPhase
    before: tuple[int, int]
    first: int
    last: int

    @property
    def directory(self) -> str:
        """Return the directory of the files of the phase in a run."""
        return f"train/{self.part.name}" if self.part.name else "train"


def stretches(recipe: Recipe, first: int, last: int) -> list[Stretch]:
    """Return the range split by phase. The steps of all phases are numbered in the order of the
    recipe.
    """
    found, steps, tokens = [], 0, 0
    for part in training_phases(recipe):
        count = n_steps(part.spec)
        begin, end = max(first - steps, 1 + part.spec.first_step), min(last - steps, count)
        if begin <= end:
            found.append(Stretch(part=part, before=(steps, tokens), first=begin, last=end))
        steps, tokens = steps + count, tokens + count * part.spec.batch_sequences * part.spec.sequence
    return found


def _fits(checkpoint: Checkpoint, run: TrainingRun) -> bool:
    """Return whether the state has the names and shapes of what this run trains."""
    state = {name: parameter.shape for parameter, name in run.names.items()}
    return {n: t.shape for n, t in checkpoint.model.items()} == state and all(
        key.rpartition(".")[0] in state for key in checkpoint.optimizer
    )


def find_checkpoint(out: Path, stretch: Stretch, run: TrainingRun, findings: Findings) -> Checkpoint | None:
    """Return the newest usable checkpoint of the phase before the stretch."""
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
                f"{stretch.directory}/{path.name} was written under another key: another version or an older"
                " recipe"
            )
        return checkpoint
    return None


def check_checkpoint(
    job: Job, checkpoint: Checkpoint, run: TrainingRun, where: str, traces: list[RecordSource]
) -> list[Difference]:
    """Compare a checkpoint with the trace: its chain, and its weights when it is at a trace point. The
    checkpoint of a trunk is compared with the root that the recipe names.
    """
    step, trunk = checkpoint.step, run.spec.trunk
    if trunk and step == trunk.step:
        found = find_state(job.out, step).root
        if found != trunk.root:
            return [Difference(where=where, step=step, field="root", expected=trunk.root, actual=found)]
    for source in traces:
        # The joined trace of all phases has another chain.
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


def base_for(job: Job, part: TrainingPhase, findings: Findings) -> tuple[Mapping[str, Tensor], str] | None:
    """Return the trunk over which an expert is trained again; None when its files do not match its
    manifest.
    """
    trunk = part.base
    if trunk is not None:
        directory = phase_directory(job, trunk)
        manifest = read_manifest(directory)
        wrong = manifest_differences(manifest, None, directory) if manifest else []
        if wrong:
            findings.differences += wrong
            return None
    return base_of(job, part)
