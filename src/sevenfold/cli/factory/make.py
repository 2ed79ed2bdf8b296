"""The verbs recipes, plan and make, and one verb for each stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import (
    JsonOption,
    OutOption,
    RecipeArg,
    ReplaceOption,
    TrunkOption,
    WeightsOption,
    WorkersOption,
    app,
    guarded,
    make_job,
    print_json,
)
from sevenfold.core.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from sevenfold.plan.calculator import Cpu
    from sevenfold.recipe.schema import Recipe
    from sevenfold.runs.job import Job

ForceOption = Annotated[bool, typer.Option("--force", help="Run the stage even if it is up to date.")]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-quality", help="Accept integers that miss the recipe's gate; the seal records it."
    ),
]


def _show_quality(job: Job) -> None:
    """Print the table of the quantize stage, if it has measured."""
    from sevenfold.core.files import read_json
    from sevenfold.core.run_files import QUALITY
    from sevenfold.quantize.gate import gate_rows
    from sevenfold.report.console import print_table

    path = job.directory("quantize") / QUALITY
    if path.is_file():
        print_table(
            "quality", ("held-out text", "FP32", "INT8", "change", "gate", ""), gate_rows(read_json(path))
        )


@contextmanager
def _showing_a_refusal(job: Job) -> Iterator[None]:
    """Print the figures of a quality gate that refuses, before its error."""
    from sevenfold.core.errors import QualityError
    from sevenfold.report.console import close_progress

    try:
        yield
    except QualityError:
        close_progress(job.progress)
        _show_quality(job)
        raise


@app.command()
@guarded
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that ship."""
    from sevenfold.recipe import list_shipped
    from sevenfold.report.console import print_table

    shipped = list_shipped()
    if as_json:
        print_json([{"name": s.name, "path": str(s.path), "summary": s.summary} for s in shipped])
        return
    print_table("recipes", ("name", "summary"), [[s.name, s.summary] for s in shipped])


def this_cpu(recipe: Recipe) -> Cpu:
    """Return the speed of this machine. It is that of the recipe's training step where it can be
    timed, else that of a matrix product.
    """
    from sevenfold.core.errors import RecipeError
    from sevenfold.plan.calculator import measure_cpu

    cpu = measure_cpu()
    # It sets how the threads of PyTorch wait, which PyTorch reads when it is loaded.
    import_module("sevenfold.pipeline")
    try:
        from sevenfold.train.rehearsal import measure_training

        return measure_training(recipe, cpu)
    # PyTorch is missing, or this version only plans the recipe.
    except (ModuleNotFoundError, RecipeError):
        return cpu


@app.command()
@guarded
def plan(recipe: RecipeArg, as_json: JsonOption = False) -> None:
    """Size a recipe: parameters, memory, FLOPs, hours, cost, and the formats to which its model can
    be exported.
    """
    from sevenfold.export.names import outlook
    from sevenfold.plan.calculator import plan as plan_recipe
    from sevenfold.recipe import load_recipe, resolve_recipe_path

    loaded = load_recipe(resolve_recipe_path(recipe))
    value = plan_recipe(loaded, this_cpu(loaded))
    value["assumptions"].append(outlook(loaded))
    if as_json:
        print_json(value)
        return
    from sevenfold.report.console import print_on_stdout
    from sevenfold.report.plan import plan_tables

    print_on_stdout(plan_tables(value))


@app.command()
@guarded
def make(
    recipe: RecipeArg,
    out: OutOption,
    until: Annotated[str, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = "seal",
    force: Annotated[
        str | None, typer.Option("--force", metavar="STAGE", help="Run this stage again from its start.")
    ] = None,
    accept_quality: AcceptOption = False,
    replace: ReplaceOption = False,
    with_training_weights: WeightsOption = False,
    workers: WorkersOption = "1",
    trunk: TrunkOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no registry: what the locks pin has to be here.")
    ] = False,
    promise: Annotated[
        bool,
        typer.Option("--promise", help="Write the root beside the recipe, as the root that it promises."),
    ] = False,
) -> None:
    """Run the whole pipeline: corpus, tokenizer, train, quantize, seal, verify, report."""
    from sevenfold import pipeline
    from sevenfold.recipe import resolve_recipe_path
    from sevenfold.report.console import close_progress, print_summary, print_verification

    last = pipeline.find_stage(until)
    if promise and last is not pipeline.STAGES[-1]:
        raise UsageError("--promise needs the sealed root", remedy="leave --until out")
    job = make_job(
        recipe,
        out,
        accept_quality,
        replace=replace,
        with_training_weights=with_training_weights,
        workers=workers,
        trunk=trunk,
    )
    path = resolve_recipe_path(recipe)
    try:
        job, stands_in = _with_packages(job, path, offline=offline, is_needed=promise)
        with _showing_a_refusal(job):
            pipeline.make(job, until=last.name, force=force)
        if last.name == "quantize":
            _show_quality(job)
        if last is not pipeline.STAGES[-1]:
            return
        from sevenfold.pipeline.finish import finish

        summary = finish(job)
    finally:
        close_progress(job.progress)
    print_verification(summary["verification"])
    print_summary(summary)
    if promise:
        print(f"the root is promised: {pipeline.write_promise(path, job.recipe, summary['root'])}")
        return
    _compare_with_promise(path, job.recipe, summary["root"], stands_in=stands_in)


def _with_packages(job: Job, path: Path, *, offline: bool, is_needed: bool) -> tuple[Job, bool]:
    """Fetch what the locks of the recipe pin. Return the job, and whether it is that of the
    substitute recipe, which is used when no registry can be reached. `is_needed` says that the root
    of the recipe itself is required.
    """
    from dataclasses import replace

    from sevenfold import pipeline
    from sevenfold.corpus.missing_packages import UnreachableError, fetch_missing, require_offline
    from sevenfold.recipe import load_recipe

    try:
        if offline:
            require_offline(job.recipe.corpus, job.recipe_dir)
        else:
            fetch_missing(job.recipe.corpus, job.recipe_dir, job.progress)
    except UnreachableError as error:
        promised = pipeline.read_promise(path)
        if is_needed or promised is None or not promised.without_network:
            raise
        other = load_recipe(pipeline.stand_in(path, promised))
        job.progress.note(f"{error.what}: made from {other.name} instead, which has another root")
        return replace(job, recipe=other), True
    return job, False


def _compare_with_promise(path: Path, recipe: Recipe, root: str, *, stands_in: bool) -> None:
    """Print whether the root is the one that the recipe promises, if it promises one. If it is not,
    exit with the code of a refused artifact.
    """
    from sevenfold import pipeline

    promised = pipeline.read_promise(path)
    if promised is None or not (stands_in or promised.applies_to(recipe)):
        return
    if stands_in:
        print(
            f"the root that the recipe promises: not compared, because this is"
            f" {recipe.name}, which has another root"
        )
        return
    verdict = promised.verdict(root)
    print(f"the root that the recipe promises: {verdict}")
    if verdict != pipeline.KEPT:
        raise typer.Exit(ArtifactError.exit_code)


def run_one(name: str, job: Job, force: bool, taken_from: Path | None = None) -> None:
    """Run one stage of a job, or copy it from another run. Print its progress, the figures of a
    refusal, and the release documents.
    """
    from sevenfold import pipeline
    from sevenfold.report.console import close_progress

    try:
        with _showing_a_refusal(job), pipeline.exclusive(job.out):
            stage = pipeline.find_stage(name)
            if taken_from is not None:
                pipeline.take_over(job, stage, taken_from)
            else:
                pipeline.run_stage(job, stage, force=force)
            if name == pipeline.STAGE_NAMES[-1]:
                from sevenfold.release.documents import write_release_documents
                from sevenfold.release.target import sealed_file

                write_release_documents(sealed_file(job.out))
    finally:
        close_progress(job.progress)


def _forecast(recipe: str, as_json: bool) -> None:
    from sevenfold.plan.forecast import forecast
    from sevenfold.recipe import load_recipe, resolve_recipe_path
    from sevenfold.report.console import print_table

    loaded = load_recipe(resolve_recipe_path(recipe))
    value = forecast(loaded, cpu=this_cpu(loaded))
    if as_json:
        print_json(value)
        return
    rows = [
        [
            row["name"],
            f"{row['steps']:,}",
            f"{row['tokens']:,}",
            f"{row['memory'] / 2**30:.2f} GiB",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['hours']:,.2f}",
        ]
        for row in value["phases"]
    ]
    title = f"{value['recipe']}: an estimate for this machine ({value['available'] / 2**30:.1f} GiB)"
    print_table(title, ("phase", "steps", "tokens", "memory", "tokens/s", "hours"), rows)


PhaseOption = Annotated[
    str | None,
    typer.Option("--phase", metavar="NAME", help="Train only this phase of a recipe that has phases."),
]
ExpertOption = Annotated[
    str | None,
    typer.Option("--expert", metavar="NAME", help="With --phase: train only this expert; the order is free."),
]


@app.command()
@guarded
def train(
    recipe: RecipeArg,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", readable=False, help="Directory of the run.")
    ] = None,
    force: ForceOption = False,
    phase: PhaseOption = None,
    expert: ExpertOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print memory and time, refuse what cannot fit, and train nothing."),
    ] = False,
    trunk: TrunkOption = None,
    to_step: Annotated[
        int | None,
        typer.Option(
            "--to-step",
            metavar="N",
            min=1,
            help="Stop after this step, and print how a recipe continues from it.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stage 3: train a float checkpoint. A stopped run is resumed."""
    from dataclasses import replace

    from sevenfold.core.process.log import Silent

    if expert is not None and phase is None:
        raise UsageError("--expert needs --phase", remedy="name the phase that trains the experts")
    if dry_run:
        if phase is not None or to_step is not None:
            raise UsageError("--dry-run takes the whole recipe", remedy="leave --phase and --to-step out")
        _forecast(recipe, as_json)
        return
    if out is None:
        raise UsageError("--out is missing", remedy="name the directory of the run: --out DIR")
    from sevenfold.train.distributed.ranks import process_group

    with process_group() as ranks:
        if to_step is not None:
            if phase is not None or force or not ranks.is_alone:
                raise UsageError(
                    "--to-step needs a run of one process and one phase",
                    remedy="leave --force, --phase and torchrun out",
                )
            _train_to(make_job(recipe, out, trunk=trunk), to_step)
        elif ranks.is_first:
            _train(make_job(recipe, out, trunk=trunk), force, phase, expert)
        else:
            from sevenfold.train.experts import follow

            follow(replace(make_job(recipe, out, trunk=trunk), progress=Silent()))


def _train_to(job: Job, step: int) -> None:
    from sevenfold import pipeline
    from sevenfold.report.console import close_progress

    try:
        line = pipeline.train_to(job, step)
    finally:
        close_progress(job.progress)
    print(f"a recipe continues from here with\n  train:\n    {line}")


def _train(job: Job, force: bool, phase: str | None, expert: str | None) -> None:
    if phase is None:
        run_one("train", job, force)
        return
    from sevenfold import pipeline
    from sevenfold.report.console import close_progress

    try:
        pipeline.run_phase(job, phase, expert)
    finally:
        close_progress(job.progress)


@app.command()
@guarded
def quantize(
    recipe: RecipeArg, out: OutOption, force: ForceOption = False, accept_quality: AcceptOption = False
) -> None:
    """Stage 4: convert the checkpoint to integers, measure what they cost, and apply the quality
    gate.
    """
    job = make_job(recipe, out, accept_quality)
    run_one("quantize", job, force)
    _show_quality(job)


@app.command()
@guarded
def tokenizer(recipe: RecipeArg, out: OutOption, force: ForceOption = False) -> None:
    """Stage 2: make the vocabulary and the token files."""
    run_one("tokenizer", make_job(recipe, out), force)


@app.command()
@guarded
def seal(
    recipe: RecipeArg,
    out: OutOption,
    force: ForceOption = False,
    replace: ReplaceOption = False,
    with_training_weights: WeightsOption = False,
) -> None:
    """Stage 5: write model.s7l."""
    job = make_job(recipe, out, replace=replace, with_training_weights=with_training_weights)
    run_one("seal", job, force)
