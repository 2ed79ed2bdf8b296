"""The verb tune, which trains a sealed model on conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import (
    JsonOption,
    OutOption,
    RecipeArg,
    TrunkOption,
    app,
    guarded,
    make_job,
    print_json,
)
from sevenfold.cli.factory.make import ForceOption
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.runs.job import Job
    from sevenfold.tune.show import ShownRow


@app.command()
@guarded
def tune(
    recipe: RecipeArg,
    out: OutOption,
    trunk: TrunkOption = None,
    force: ForceOption = False,
    step: Annotated[
        int | None,
        typer.Option(
            "--show-batch",
            metavar="STEP",
            help="Print the rows of this step, and which tokens count in the loss.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a sealed model on conversations, up to a float checkpoint; `s7 make` seals it."""
    job = make_job(recipe, out, trunk=trunk)
    if job.recipe.tune is None:
        raise UsageError(
            "the recipe has no section tune", where=job.recipe.name, remedy="train it: s7 train, s7 make"
        )
    if as_json and step is None:
        raise UsageError("--json goes with --show-batch", remedy="leave it out")
    rows = _work(job, step, force=force)
    if rows is not None and as_json:
        print_json([row.as_json() for row in rows])
    elif rows is not None:
        _print(rows)


def _work(job: Job, step: int | None, *, force: bool) -> list[ShownRow] | None:
    """Run the stages up to `train`. To show the rows of a step, run them only up to the samples."""
    from sevenfold import pipeline
    from sevenfold.report.console import close_progress

    try:
        if step is None:
            pipeline.make(job, until="train", force="train" if force else None)
            return None
        from sevenfold.tune.prepare import prepare
        from sevenfold.tune.show import show_batch

        pipeline.make(job, until="tokenizer")
        with pipeline.exclusive(job.out):
            prepare(job)
        return show_batch(job, step)
    finally:
        close_progress(job.progress)


def _print(rows: list[ShownRow]) -> None:
    """Print rows. What counts in the loss is green; without colours it is enclosed in `{+` and
    `+}`.
    """
    from sevenfold.artifact import visible_text
    from sevenfold.report.console import print_runs

    for number, row in enumerate(rows):
        title = f"row {number}, {row.objective}: {row.n_counted} of {row.n_tokens} tokens carry loss"
        print_runs(title, [(visible_text(text), counted) for text, counted in row.runs])
