"""Find where two run directories differ first: by checkpoints, then by the steps after the last
equal one.

Both begin with one state, so the steps are computed again here once. A side is upheld when they
give what it recorded. Cost: hashes of some checkpoints, and the steps from the last equal one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from sevenfold.audit.preconditions import manifest_differences
from sevenfold.audit.records import METRIC_FIELDS, read_rows
from sevenfold.audit.steps.bundle import MOMENTS, BundleOrigin
from sevenfold.audit.steps.dispute import DisputeFinding, ask_oracle
from sevenfold.audit.steps.export import Rerun, standing
from sevenfold.audit.steps.transcript import Kept, Transcript, TranscriptRow, hash_of
from sevenfold.audit.target import Findings, base_for
from sevenfold.core.changes import changes
from sevenfold.core.errors import TrainingError, storage
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import METRICS, PARENT
from sevenfold.model.kernels.observe import observing
from sevenfold.pipeline.parent import changed_parent
from sevenfold.runs.job import Job
from sevenfold.train.checkpoints.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    checkpoint_path,
    checkpoint_steps,
    read_checkpoint,
    state_root,
)
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.recording.records import Unrecorded
from sevenfold.train.run_builder import training_run

# Names of the inputs of an optimiser, and of the parts of a state.
PARTS = {"weight": "", "mean": MOMENTS[0], "square": MOMENTS[1]}


@dataclass
class PartFiles:
    """The records of a side about one phase of its run."""

    directory: Path
    findings: Findings
    _roots: dict[int, str | None] = field(default_factory=dict)

    def checkpoint(self, step: int) -> Checkpoint | None:
        """Return the state after a step; None where its file is missing or damaged."""
        path = checkpoint_path(self.directory, step)
        if not path.exists():
            return None
        try:
            return read_checkpoint(path)
        except DamagedCheckpointError as error:
            self.findings.warn(f"{path} is passed over, {error.what}")
            return None

    def root(self, step: int) -> str | None:
        """Return the root of the state after a step. It is read once."""
        if step not in self._roots:
            found = self.checkpoint(step)
            self._roots[step] = state_root(step, found.model, found.optimizer) if found else None
        return self._roots[step]

    def rows(self) -> dict[int, Mapping[str, Json]]:
        """Return the metrics by step."""
        path = self.directory / METRICS
        return read_rows(path) if path.is_file() else {}


def _differs(a: PartFiles, b: PartFiles, step: int) -> bool:
    """Return whether both sides have the state after a step, and the states differ."""
    roots = (a.root(step), b.root(step))
    return None not in roots and roots[0] != roots[1]


def first_checkpoint(a: PartFiles, b: PartFiles) -> int | None:
    """Return the first checkpoint that both have and that differs; None without one.

    It uses bisection when the last ones differ. When the last ones are equal, all are compared,
    because a checkpoint that was changed later left no trace in those after it.
    """
    steps = _common(a, b)
    if not steps or not _differs(a, b, steps[-1]):
        return next((step for step in steps if _differs(a, b, step)), None)
    low, high = -1, len(steps) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _differs(a, b, steps[middle]) else (middle, high)
    return steps[high]


def _common(a: PartFiles, b: PartFiles) -> list[int]:
    return sorted(set(checkpoint_steps(a.directory)) & set(checkpoint_steps(b.directory)))


def last_equal(a: PartFiles, b: PartFiles, end: int) -> int:
    """Return the last step before `end` after which both have the same state; 0, the seed, without
    one.
    """
    equal = (
        s for s in reversed(_common(a, b)) if s < end and a.root(s) is not None and a.root(s) == b.root(s)
    )
    return next(equal, 0)


def _first_row(a: PartFiles, b: PartFiles) -> int | None:
    ours, theirs = a.rows(), b.rows()
    common = sorted(ours.keys() & theirs.keys())
    return next((step for step in common if _fields(ours[step]) != _fields(theirs[step])), None)


def _fields(row: Mapping[str, Json]) -> dict[str, str]:
    return {name: repr(row.get(name)) for name in METRIC_FIELDS}


def dispute_runs(jobs: tuple[Job, Job], findings: Findings) -> DisputeFinding:
    """Return where two runs differ first. Raises StorageError or UsageError."""
    a, b = jobs
    if a.recipe.digest != b.recipe.digest:
        keys = [row["key"] for row in changes(a.recipe.resolved(), b.recipe.resolved())]
        return DisputeFinding(place="recipe", reason=f"the recipes differ: {', '.join(keys)}")
    tokens = [job.manifest("tokenizer") for job in jobs]
    if tokens[0].root != tokens[1].root:
        reason = f"the token files differ: root {tokens[0].root} and {tokens[1].root}"
        return DisputeFinding(place="tokens", reason=reason)
    for job, manifest in zip(jobs, tokens, strict=True):
        for wrong in manifest_differences(manifest, None, job.directory("tokenizer")):
            reason = f"{job.out}: {wrong.where} is not what its manifest says"
            return DisputeFinding(place="tokens", reason=reason)
        for name, _, _ in changed_parent(job):
            reason = f"{job.out}: {PARENT}/{name} is not what the sealed model gives"
            return DisputeFinding(place="tokens", reason=reason)
    for part in training_phases(a.recipe):
        found = _dispute_part(jobs, part, findings)
        if found.place != "nothing":
            return found
    return DisputeFinding(place="nothing", reason="checkpoints and records of both are the same")


def _dispute_part(jobs: tuple[Job, Job], part: TrainingPhase, findings: Findings) -> DisputeFinding:
    sides = {
        name: PartFiles(job.directory("train") / part.name, findings)
        for name, job in zip("ab", jobs, strict=True)
    }
    both = sides["a"], sides["b"]
    ends = [step for step in (first_checkpoint(*both), _first_row(*both)) if step is not None]
    if not ends:
        return DisputeFinding(place="nothing", part=part.name, reason="nothing differs")
    end = min(ends)
    agreed = last_equal(*both, end)
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        base = base_for(jobs[0], part, findings)
        if base is None:
            reason = "the trunk of a is not what its manifest says"
            return DisputeFinding(place="state", part=part.name, reason=reason, upheld="b")
        run = training_run(jobs[0], Path(name), part, base=base[0], base_root=base[1])
        start = sides["a"].checkpoint(agreed) if agreed else None
        about = BundleOrigin(
            recipe_name=jobs[0].recipe.name,
            recipe_digest=jobs[0].recipe.digest,
            tokens_root=jobs[0].manifest("tokenizer").root,
            sealed_root=None,
        )
        rerun = standing(run, start, about, Unrecorded())
        return _compare(rerun, sides, agreed, end, part.name)


@dataclass(frozen=True)
class _Claim:
    """The first record of a side that the computation here does not confirm."""

    step: int
    field: str
    expected: Json
    actual: Json


def _compare(
    rerun: Rerun, sides: Mapping[str, PartFiles], agreed: int, end: int, part: str
) -> DisputeFinding:
    """Compute the steps up to `end` again and compare them with the records of each side."""
    rows = {name: side.rows() for name, side in sides.items()}
    wrong: dict[str, _Claim] = {}

    def watch(step: int, row: Json) -> None:
        for name, side in sides.items():
            claim = _wrong_claim(step, row, rerun.states[-1], rows[name].get(step), side)
            if claim is not None:
                wrong.setdefault(name, claim)

    transcript = Transcript(lambda _number, row: row.operator == "adam")
    try:
        rerun.go_to(end - 1, watch)
        with observing(transcript):
            rerun.go_to(end, watch)
    except TrainingError as error:
        reason = f"step {rerun.run.step + 1} stops here: {error.what}"
        return DisputeFinding(place="step", part=part, step=rerun.run.step + 1, agreed=agreed, reason=reason)
    found = _verdict(wrong, sides, agreed, part)
    side = next((name for name in wrong if wrong[name].field == "state" and wrong[name].step == end), None)
    if side is None or found.step != end:
        return found
    return _by_optimiser(found, rerun, list(transcript.kept.values()), sides[side], side, end)


def _wrong_claim(
    step: int, row: Mapping[str, Json], state: str, recorded: Mapping[str, Json] | None, side: PartFiles
) -> _Claim | None:
    for name in METRIC_FIELDS:
        if recorded is not None and repr(recorded.get(name)) != repr(row[name]):
            return _Claim(step, name, recorded.get(name), row[name])
    root = side.root(step) if step in checkpoint_steps(side.directory) else None
    return _Claim(step, "state", root, state) if root not in (None, state) else None


def _verdict(
    wrong: Mapping[str, _Claim], sides: Mapping[str, PartFiles], agreed: int, part: str
) -> DisputeFinding:
    upheld = [name for name in sides if name not in wrong]
    blamed = min(wrong.items(), key=lambda item: item[1].step, default=None)
    if blamed is None:
        reason = "both are what comes out here, as far as they recorded it"
        return DisputeFinding(place="step", part=part, agreed=agreed, upheld="open", reason=reason)
    side, claim = blamed
    kind = f"{claim.field} after step {claim.step}" if claim.field == "state" else claim.field
    return DisputeFinding(
        place="state" if claim.field == "state" else "step",
        part=part,
        step=claim.step,
        agreed=agreed,
        upheld=upheld[0] if upheld else "neither",
        reason=(
            f"from the state after step {agreed}, which both have, {kind} comes out as {claim.actual};"
            f" {side} recorded {claim.expected}"
        ),
        wanted=(f"{side}: --export-step {claim.step} OUT --operators",),
    )


def _by_optimiser(
    found: DisputeFinding, rerun: Rerun, calls: list[Kept], side: PartFiles, name: str, step: int
) -> DisputeFinding:
    """Name the update whose outputs differ in the recorded state, because a state is the result of
    the optimiser of its step.
    """
    recorded = side.checkpoint(step)
    names = sorted(rerun.run.names.values())
    if recorded is None or len(calls) != len(names):
        return found
    for parameter, kept in zip(names, calls, strict=True):
        told = _told(recorded, parameter)
        if any(hash_of(told[part]) != hash_of(kept.outputs[part]) for part in told):
            elements = ask_oracle(kept, kept.outputs, told)
            agrees = (elements or {}).get("agrees")
            upheld = name if agrees == "told" else found.upheld
            return replace(
                found,
                place="operator",
                upheld=upheld,
                reason=f"{found.reason}; it is not what adam gives for {parameter}",
                operator=_adam(parameter, kept, told, name),
                elements=None if elements is None else {**elements, "told_by": name},
            )
    return found


def _told(checkpoint: Checkpoint, parameter: str) -> dict[str, Tensor]:
    found = {"weight": checkpoint.model[parameter]}
    moments = {p: checkpoint.optimizer.get(f"{parameter}.{slot}") for p, slot in PARTS.items() if slot}
    return found | {part: tensor for part, tensor in moments.items() if tensor is not None}


def _adam(parameter: str, kept: Kept, told: Mapping[str, Tensor], side: str) -> dict[str, Json]:
    outputs = {n: hash_of(t) for n, t in kept.outputs.items()}
    claimed = {n: hash_of(t) for n, t in told.items()}
    row = TranscriptRow("adam", {}, {n: hash_of(t) for n, t in kept.inputs.items()}, outputs)
    return {
        "name": row.operator,
        "parameter": parameter,
        "number": {"a": None, "b": None},
        "settings": {},
        "inputs": dict(row.inputs),
        "outputs": {"a": None, "b": None, "here": outputs, side: claimed},
    }
