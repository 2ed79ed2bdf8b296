"""`s7 audit --dispute A B`: find where two runs differ first, down to one operator
(specs/dispute.md).

Each side is a run directory, a sealed file with its checkpoints beside it, or a step bundle that a
side exported on its own machine. Runs are compared by checkpoints, then by the steps after the last
common one. The steps of a run are computed again here, because its files state its results and not
how it computed them. Only a side itself can show what it did inside a step, by a bundle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sevenfold.artifact import Artifact, read_artifact
from sevenfold.audit.records import Comparison, StepDiffersError
from sevenfold.audit.replay import sources_of
from sevenfold.audit.run_dispute import dispute_runs
from sevenfold.audit.steps.bundle import StepBundle, is_step_bundle, read_bundle
from sevenfold.audit.steps.dispute import DisputeFinding, dispute_step
from sevenfold.audit.steps.export import begin, require_law, take_step
from sevenfold.audit.steps.transcript import Transcript
from sevenfold.audit.target import Findings, Stretch, target_of
from sevenfold.core.errors import UsageError, storage
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import read_manifest
from sevenfold.core.process.log import Progress
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.train.phases import training_phases
from sevenfold.train.stage import check_supported


@dataclass(frozen=True, kw_only=True)
class RunSide:
    """A side that is a run directory."""

    job: Job
    artifact: Artifact | None
    findings: Findings


def _run_directory(path: Path) -> Path:
    """Return the run directory of a side: the side itself, or the directory of a sealed file.
    Raises UsageError.
    """
    if path.is_dir():
        return path
    read_artifact(path)
    if (path.parent / "train").is_dir():
        return path.parent
    raise UsageError(
        f"{path} lies beside no checkpoints",
        remedy="name a run directory, a sealed file in one, or a step bundle",
    )


def _side(path: Path, given: Recipe | None, progress: Progress) -> RunSide | StepBundle:
    if not path.is_dir() and is_step_bundle(path):
        return read_bundle(path)
    findings = Findings(progress)
    recipe, out, artifact, _ = target_of(_run_directory(path), given, findings)
    check_supported(recipe)
    require_law(recipe, "--dispute")
    return RunSide(job=Job(recipe=recipe, out=out, progress=progress), artifact=artifact, findings=findings)


def _states(bundle: StepBundle) -> dict[int, str]:
    """Return the roots that a bundle claims, by number of steps done."""
    facts = bundle.facts
    first = facts.step - len(facts.claims.states)
    found = {first + i: root for i, root in enumerate(facts.claims.states)}
    return found | {facts.step: facts.claims.state_after}


def dispute_bundles(a: StepBundle, b: StepBundle) -> DisputeFinding:
    """Return where two bundles differ first.

    Raises:
        UsageError: they belong to different phases of a run, or have no state in common.
        ArtifactError: see `dispute_step`.
    """
    if a.facts.part != b.facts.part:
        raise UsageError(f"one bundle is of part {a.facts.part!r}, the other of {b.facts.part!r}")
    ours, theirs = _states(a), _states(b)
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise UsageError(
            f"the bundles hold the states of steps {min(ours)}..{max(ours)} and {min(theirs)}..{max(theirs)}",
            remedy="export both at the same step",
        )
    part = a.facts.part
    first = next((step for step in common if ours[step] != theirs[step]), None)
    if first is None:
        steps = f"{common[0]}..{common[-1]}"
        return DisputeFinding(
            place="nothing", part=part, reason=f"the states after steps {steps} are the same"
        )
    agreed = max((step for step in common if step < first), default=None)
    if agreed is None or agreed < first - 1:
        return DisputeFinding(
            place="state",
            part=part,
            step=first,
            agreed=agreed,
            reason=f"after step {first} the states differ; not both bundles state the one before it",
            wanted=tuple(f"{side}: --export-step {first} OUT" for side in "ab"),
        )
    if a.facts.step == b.facts.step == first:
        return dispute_step(a, b)
    lacking = [side for side, bundle in (("a", a), ("b", b)) if bundle.facts.step != first]
    return DisputeFinding(
        place="step",
        part=part,
        step=first,
        agreed=agreed,
        reason=f"step {first} begins in one state and ends in different ones",
        wanted=tuple(f"{side}: --export-step {first} OUT --operators" for side in lacking),
    )


def _own_bundle(side: RunSide, other: StepBundle) -> StepBundle | DisputeFinding:
    """Return the step of a bundle as the run on the other side has it, computed again here."""
    job, facts = side.job, other.facts
    part = next((p for p in training_phases(job.recipe) if p.name == facts.part), None)
    if part is None:
        raise UsageError(f"the run has no part {facts.part!r}, which the bundle is of")
    if (facts.model, facts.train) != (job.recipe.model, part.spec):
        return DisputeFinding(
            place="recipe", part=facts.part, reason="the bundle's model or training section is another one"
        )
    stretch = Stretch(part=part, before=(0, 0), first=facts.step, last=facts.step)
    finished = read_manifest(job.directory("train")) is not None
    metrics, traces = sources_of(job, stretch, side.artifact, finished)
    records = Comparison([s for s in metrics if s.before is None], [s for s in traces if s.before is None])
    transcript = Transcript() if other.transcript is not None else None
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        rerun = begin(job, stretch, records, side.findings, Path(name))
        if rerun is None:
            return _unfaithful(facts.part, None, "what it begins from is not what it recorded")
        try:
            rerun.go_to(facts.step - 1)
            return take_step(rerun, transcript)
        except StepDiffersError as error:
            return _unfaithful(facts.part, error.difference.step, f"{error.difference.field} is another one")


def _unfaithful(part: str, step: int | None, what: str) -> DisputeFinding:
    reason = f"the run does not give here what it recorded: {what}"
    return DisputeFinding(place="step", part=part, step=step, reason=reason)


def _mixed(run: RunSide, bundle: StepBundle, name: str) -> DisputeFinding:
    """Return the finding for a run on side `name` against a bundle. The rows of the run are read
    from its token files here, so they are right.
    """
    own = _own_bundle(run, bundle)
    if isinstance(own, DisputeFinding):
        return replace(own, upheld="neither" if own.place == "step" else "open")
    found = dispute_bundles(own, bundle) if name == "a" else dispute_bundles(bundle, own)
    # The statement of the run about a step is computed here.
    wanted = tuple(text for text in found.wanted if not text.startswith(f"{name}:"))
    found = replace(found, wanted=wanted)
    if found.operator is not None and found.operator["name"] == "micro_batch":
        return replace(found, upheld=name)
    return found


def settle(a: Path, b: Path, given: Recipe | None, progress: Progress) -> dict[str, Json]:
    """Find where two sides differ first.

    Args:
        a, b: run directories, sealed files in them, or step bundles; never written to.
        given: the recipe of runs that are not sealed.

    Returns:
        The report (specs/dispute.md).

    Raises:
        UsageError: the sides have nothing to compare, or a run is not under the law.
        StorageError, ArtifactError: a file of a side is missing or refused.
    """
    left, right = (_side(path, given, progress) for path in (a, b))
    if isinstance(left, StepBundle) and isinstance(right, StepBundle):
        found = dispute_bundles(left, right)
    elif isinstance(left, StepBundle):
        found = _mixed(right, left, "b") if isinstance(right, RunSide) else dispute_bundles(left, right)
    elif isinstance(right, StepBundle):
        found = _mixed(left, right, "a")
    else:
        found = dispute_runs((left.job, right.job), left.findings)
    notes = [w for side in (left, right) if isinstance(side, RunSide) for w in side.findings.warnings]
    return report(a, b, found, notes)


def report(a: Path, b: Path, found: DisputeFinding, warnings: list[str]) -> dict[str, Json]:
    """Return the report of a finding as JSON values."""
    value: dict[str, Json] = {
        "audit": "dispute",
        "a": str(a),
        "b": str(b),
        "same": found.place == "nothing",
        "place": found.place,
        "part": found.part,
        "step": found.step,
        "agreed_step": found.agreed,
        "upheld": None if found.place == "nothing" else found.upheld,
        "reason": found.reason,
        "operator": _value(found.operator),
        "elements": _value(found.elements),
        "wanted": list(found.wanted),
        "warnings": list(warnings),
    }
    return value


def _value(found: Mapping[str, Json] | None) -> dict[str, Json] | None:
    return None if found is None else dict(found)
