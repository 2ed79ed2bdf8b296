"""`s7 audit --full`: run the recipe again stage by stage and compare the root (specs/audit.md).

It ends at the first stage whose files differ, because later stages would differ too. The same
command resumes an interrupted audit, as `s7 make` does. Cost: that of `s7 make`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sevenfold import __version__, pipeline
from sevenfold.artifact import Artifact, read_artifact
from sevenfold.audit.diff import diff
from sevenfold.audit.preconditions import recipe_difference, sealed_recipe, tool_warnings
from sevenfold.audit.records import Difference, RecordSource, read_rows, run_sources, sealed_sources
from sevenfold.audit.target import Findings
from sevenfold.core.errors import StorageError, UsageError, storage
from sevenfold.core.files import link_or_copy, read_bytes, write_json
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import (
    damaged_output,
    output_root,
    read_manifest,
    write_manifest,
)
from sevenfold.core.process.log import Progress
from sevenfold.core.run_files import ARTIFACT, AUDIT, METRICS, RECIPE, TRACE, sealed_name
from sevenfold.model.kernels.operators import LAW
from sevenfold.quantize.gate import ACCEPTED
from sevenfold.recipe.schema import Recipe
from sevenfold.release.lineage import at
from sevenfold.release.statements import recorded_tools
from sevenfold.release.target import find_target, identity_of, sealed_file
from sevenfold.runs.job import Job
from sevenfold.train.recording.environment import tools_of
from sevenfold.train.stage import check_supported

# Stages whose files another run may provide.
TAKEN = ("corpus", "tokenizer")


def default_work(root: str) -> Path:
    """Return the default work directory of the audit of the file with this root, below the cache
    directory of the user.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sevenfold" / f"audit-{root[:16]}"


@contextmanager
def _work_directory(
    work: Path, audit: Mapping[str, Json], progress: Progress, *, keep: bool
) -> Iterator[None]:
    """Hold the work directory of an audit, and say where it is: at the start, and when the user
    stops the audit.

    A directory that holds anything but the work of this audit is refused, because comparing files
    that were copied there would prove nothing. When the audit ends, the marker is removed (and,
    without `keep`, the directory). No audit can therefore begin with the work of another.

    Raises:
        UsageError: the directory is not empty, and not of this audit.
        StorageError: another process works in it.
    """
    marker = work / AUDIT
    found = {entry.name for entry in work.iterdir()} - {pipeline.LOCK} if work.is_dir() else set()
    if found and not _is_of(marker, audit):
        raise UsageError(
            f"{work} holds something that is not this audit's unfinished work",
            remedy="name an empty directory with --work",
        )
    with pipeline.exclusive(work):
        write_json(marker, audit)
        progress.note(f"audit: {'goes on' if found else 'works'} in {work}")
        try:
            yield
        except KeyboardInterrupt:
            progress.note(
                f"audit: stopped; what is done is kept in {work}, and the same command goes on there"
            )
            raise
        marker.unlink()
        if not keep:
            shutil.rmtree(work)


def _is_of(marker: Path, audit: Mapping[str, Json]) -> bool:
    """Return whether a marker names this audit. An unreadable marker names none."""
    try:
        return marker.is_file() and bool(json.loads(read_bytes(marker)) == audit)
    except (ValueError, RecursionError):
        return False


def _refuse_relative_sources(recipe: Recipe) -> None:
    for source in recipe.corpus.sources:
        named = getattr(source, "path", None)
        if named is not None and not Path(named).is_absolute():
            raise UsageError(
                f"the recipe reads {named!r}, which is relative to the recipe's file",
                remedy="give --recipe RECIPE, the file that the run was made from",
            )
    for file in (file for tune in recipe.tunings for file in tune.files):
        raise UsageError(
            f"the recipe tunes on {file.path!r}, which is relative to the recipe's file",
            remedy="give --recipe RECIPE, the file that the run was made from",
        )


def _sources(path: Path, artifact: Artifact) -> tuple[list[RecordSource], list[RecordSource]]:
    out = find_target(path).out
    if out is not None and (out / "train" / METRICS).is_file():
        return run_sources(out, artifact)
    return sealed_sources(artifact)


def _first_step(path: Path, artifact: Artifact, job: Job) -> list[Difference]:
    """Return the first step of the new run that differs from the recorded one."""
    metrics, traces = _sources(path, artifact)
    directory = job.directory("train")
    found = []
    for sources, name in ((metrics, METRICS), (traces, TRACE)):
        rows = read_rows(directory / name)
        for source in sources:
            rows_in_order = (source.check(rows[step]) for step in sorted(rows))
            found += [d for d in [next((d for d in rows_in_order if d), None)] if d]
    return sorted(found, key=lambda d: d.step or 0)[:1]


def _changed_files(path: Path, job: Job, stage: str) -> list[Difference]:
    out = find_target(path).out
    recorded = read_manifest(out / stage) if out is not None else None
    if recorded is None:
        return []
    before = {output.path: output.sha256 for output in recorded.outputs}
    return [
        Difference(
            where=f"{stage}/{output.path}",
            field="sha256",
            expected=before.get(output.path),
            actual=output.sha256,
        )
        for output in job.manifest(stage).outputs
        if before.get(output.path) != output.sha256
    ]


def _seal_differences(artifact: Artifact, other: Artifact) -> list[Difference]:
    if artifact.contents_id == other.contents_id:
        return []
    root = Difference(where="seal", field="root", expected=artifact.root, actual=other.root)
    lanes = [
        Difference(
            where=f"model.s7l {row['lane']}",
            field="sha256",
            expected=at(row["a"], "sha256"),
            actual=at(row["b"], "sha256"),
        )
        for row in diff(artifact, other)["lanes"]
    ]
    return [root, *lanes]


def _stage_differences(
    path: Path, job: Job, stage: str, artifact: Artifact, facts: Mapping[str, Json]
) -> list[Difference]:
    if stage == "seal":
        return _seal_differences(artifact, read_artifact(job.out / ARTIFACT))
    expected, actual = at(facts, "roots", stage), job.manifest(stage).root
    if expected == actual:
        return []
    steps = _first_step(path, artifact, job) if stage == "train" else []
    root = Difference(where=stage, field="root", expected=expected, actual=actual)
    return [root, *steps, *_changed_files(path, job, stage)]


def _result(
    path: Path, artifact: Artifact, findings: Findings, stages: list[str], root: str | None
) -> dict[str, Json]:
    steps = [d.step for d in findings.differences if d.step is not None]
    return {
        "audit": "full",
        "path": str(path),
        "same": not findings.differences,
        "expected_root": artifact.root,
        "actual_root": root,
        "stages": stages,
        "first_stage": stages[-1] if findings.differences and stages else None,
        "first_step": min(steps, default=None),
        "differences": [difference.as_json() for difference in findings.differences],
        "warnings": findings.warnings,
    }


def take_inputs(job: Job, other: Path, facts: Mapping[str, Json]) -> list[str]:
    """Take the finished corpus and token files of another run, if they have the sealed roots.
    Return the names of these stages.

    Raises:
        StorageError: they are missing or damaged.
        UsageError: the sealed file was made from other files.
    """
    for name in TAKEN:
        manifest = read_manifest(other / name)
        damaged = damaged_output(other / name, manifest) if manifest else None
        if manifest is None or damaged is not None:
            what = f"{damaged} is damaged" if damaged else f"no finished stage {name} is there"
            raise StorageError(what, where=str(other), remedy="name a run directory that has it whole")
        sealed = at(facts, "roots", name)
        if manifest.root != sealed or output_root(manifest.outputs) != sealed:
            raise UsageError(
                f"its {name} has the root {manifest.root}, the sealed file was made from {sealed}",
                where=str(other),
                remedy="name the run directory that it was made from, or leave --from out",
            )
        here = read_manifest(job.directory(name))
        if here is not None and here == manifest and damaged_output(job.directory(name), here) is None:
            continue
        for output in manifest.outputs:
            target = job.directory(name) / output.path
            with storage(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
            link_or_copy(other / name / output.path, target)
        write_manifest(job.directory(name), manifest)
    write_json(job.out / RECIPE, job.recipe.resolved())
    job.progress.note(f"audit: {' and '.join(TAKEN)} taken from {other}")
    return list(TAKEN)


def _remake(
    path: Path, job: Job, artifact: Artifact, facts: Mapping[str, Json], findings: Findings, given: list[str]
) -> tuple[list[str], str | None]:
    """Run the stages, except those that are `given`, until one differs. Return those that ran, and
    the root of the file that they made.
    """
    done: list[str] = []
    is_law = at(facts, "arithmetic") == LAW
    for stage in pipeline.STAGES:
        if stage.name not in given:
            pipeline.run_stage(job, stage)
            done.append(stage.name)
        if stage.name != "train":
            recorded = recorded_tools(artifact.path, artifact.root).get(stage.name)
            tools = job.manifest(stage.name).tools
            findings.warn(*tool_warnings(stage.name, recorded, tools, is_law=is_law))
        findings.differences = _stage_differences(path, job, stage.name, artifact, facts)
        outcome = "differs from the sealed one" if findings.differences else "the same as sealed"
        number = pipeline.STAGES.index(stage) + 1
        job.progress.note(f"audit: stage {number} of {len(pipeline.STAGES)}, {stage.name}: {outcome}")
        if findings.differences:
            break
    sealed = job.out / ARTIFACT
    return done, read_artifact(sealed).root if sealed.is_file() else None


def _trunks(path: Path, recipe: Recipe, trunk: Path | None) -> tuple[Path, ...]:
    """Return where the state or the sealed model that a recipe goes on from may be. It is taken by
    its root, and not made again.
    """
    out, spec = find_target(path).out, recipe.train.origin
    if spec is None:
        return ()
    if recipe.train.parent:
        named = (path if out is None else out).parent
        beside: tuple[Path, ...] = (named / spec.name, named / sealed_name(spec.name))
    else:
        beside = (out, out.parent / spec.name) if out is not None else ()
    return (*((trunk,) if trunk else ()), *beside)


def _checked_recipe(
    artifact: Artifact, given: Recipe | None, findings: Findings, *, has_inputs: bool
) -> Recipe:
    """Return the recipe to run: the sealed one, or the given one if it equals the sealed one."""
    if given is None:
        recipe, warnings, findings.differences = sealed_recipe(artifact)
        findings.warn(*warnings)
        if not has_inputs:
            _refuse_relative_sources(recipe)
        return recipe
    digest = identity_of(artifact).get("recipe_digest")
    findings.differences = recipe_difference(given, digest, artifact)
    return given


def _warn_of_training(artifact: Artifact, recipe: Recipe, findings: Findings) -> None:
    """Warn of training tools that differ from the recorded ones, where they decide bits."""
    here = {"sevenfold": __version__, **tools_of(recipe)}
    law = {"arithmetic": at(identity_of(artifact)["facts"], "arithmetic")}
    made_by = recorded_tools(artifact.path, artifact.root).get("train", {})
    is_law = law["arithmetic"] == here["arithmetic"] == LAW
    findings.warn(*tool_warnings("train", law | made_by, here, is_law=is_law))


def audit_full(
    path: Path,
    given: Recipe | None,
    recipe_dir: Path | None,
    progress: Progress,
    work: Path | None = None,
    *,
    taken: Path | None = None,
    trunk: Path | None = None,
    finish: Callable[[Job, Artifact], None] | None = None,
) -> dict[str, Json]:
    """Make the model again and compare.

    Args:
        path: run directory or sealed file; never written to.
        given: the recipe, when its sources are relative to its file; it must be the sealed one.
        recipe_dir: directory of that file.
        progress: receives warnings and steps.
        work: work directory, which is kept; None is `default_work`, which a finished audit removes.
            An interrupted audit leaves it, and the next audit of the same file resumes there.
        taken: run directory whose corpus and token files are used, if they have the sealed roots.
        trunk: run or sealed file that `train.from` names, besides those of `_trunks`.
        finish: called with the new run, when it gave the same root.

    Returns:
        The outcome: `same`, `differences`, `first_stage`, `first_step`, `warnings`, the stages
            done.

    Raises:
        UsageError: a source is relative, and no recipe was given; `work` holds something else.
        SevenfoldError: what a stage raises.
    """
    findings, artifact = Findings(progress), sealed_file(path)
    facts = identity_of(artifact)["facts"]
    recipe = _checked_recipe(artifact, given, findings, has_inputs=taken is not None)
    if findings.differences:
        return _result(path, artifact, findings, [], None)
    check_supported(recipe)
    _warn_of_training(artifact, recipe, findings)
    directory, named = work or default_work(artifact.root), {"taken": str(taken.resolve())} if taken else {}
    audit: dict[str, Json] = {"audit": "full", "root": artifact.root, **named}
    with storage(), _work_directory(directory, audit, progress, keep=work is not None):
        job = Job(
            recipe=recipe,
            out=directory,
            recipe_dir=recipe_dir or Path(),
            progress=progress,
            trunks=_trunks(path, recipe, trunk),
            accept_quality=at(facts, "quantize", "outcome") == ACCEPTED,
            with_training_weights=any(record.training for record in artifact.records.values()),
        )
        stages = take_inputs(job, taken, facts) if taken else []
        done, root = _remake(path, job, artifact, facts, findings, stages)
        if finish is not None and not findings.differences:
            finish(job, artifact)
    return _result(path, artifact, findings, done, root)
