"""The verbs audit and reproduce, which compute again what a run or a file claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import (
    JsonOption,
    TrunkOption,
    app,
    guarded,
    named_model,
    print_json,
    private_key,
)
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sevenfold.core.hashing import Json
    from sevenfold.core.process.log import Progress
    from sevenfold.recipe.schema import Recipe

MODES = "allowed: RUN --steps A..B, RUN --full, RUN --export-step N OUT, --check BUNDLE, --dispute A B"
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        readable=False,
        callback=named_model,
        help="A run directory, or a sealed model (.s7l).",
    ),
]
StepsOption = Annotated[str | None, typer.Option("--steps", metavar="A..B", help="Train these steps again.")]
FullOption = Annotated[bool, typer.Option("--full", help="Make the whole model again.")]
ExportOption = Annotated[
    tuple[int, Path] | None,
    typer.Option(
        "--export-step",
        metavar="N OUT",
        help="Write step N as a file that others can check without the corpus.",
    ),
]
CheckOption = Annotated[
    Path | None,
    typer.Option("--check", metavar="BUNDLE", readable=False, help="Compute the step of such a file again."),
]
OperatorsOption = Annotated[
    bool,
    typer.Option(
        "--operators", help="With --export-step: add digests of the inputs and outputs of each operator."
    ),
]
OperatorOption = Annotated[
    int | None,
    typer.Option(
        "--operator", metavar="K", min=0, help="The same, and the outputs of operator K themselves."
    ),
]
DisputeOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--dispute", metavar="A B", help="Find where two runs first differ, down to one operator."),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", metavar="RECIPE", help="The recipe of the run; default: the sealed one."),
]
WorkOption = Annotated[
    Path | None,
    typer.Option(
        "--work",
        metavar="DIR",
        readable=False,
        help="With --full: the working directory; it is kept, and a stopped audit resumes in it.",
    ),
]


@app.command()
@guarded
def audit(
    path: RunArgument = None,
    steps: StepsOption = None,
    full: FullOption = False,
    export: ExportOption = None,
    bundle: CheckOption = None,
    recipe: RecipeOption = None,
    work: WorkOption = None,
    trunk: TrunkOption = None,
    operators: OperatorsOption = False,
    operator: OperatorOption = None,
    dispute: DisputeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train again and compare with the records. The exit code is 3 when something differs."""
    modes = (steps is not None, full, export is not None, bundle is not None, dispute is not None)
    _check_modes(modes, path, recipe, work, trunk, is_detailed=operators or operator is not None)
    run = path or Path()

    def do(progress: Progress, given: Recipe | None, directory: Path | None) -> dict[str, Json]:
        if bundle is not None:
            from sevenfold.audit.steps.check import check_step

            return check_step(bundle, progress)
        if export is not None:
            from sevenfold.audit.steps.export import export_step

            return export_step(run, *export, given, progress, operators=operators, keep=operator)
        if dispute is not None:
            from sevenfold.audit.dispute import settle

            return settle(*dispute, given, progress)
        if steps is not None:
            from sevenfold.audit.replay import audit_steps, parse_steps

            return audit_steps(run, *parse_steps(steps), given, progress, trunk=trunk)
        from sevenfold.audit.full import audit_full

        return audit_full(run, given, directory, progress, work, trunk=trunk)

    _report(do, recipe, as_json)


def _check_modes(
    modes: tuple[bool, ...],
    path: Path | None,
    recipe: str | None,
    work: Path | None,
    trunk: Path | None,
    *,
    is_detailed: bool,
) -> None:
    """Refuse options that exclude each other. Raises UsageError."""
    steps, full, export, check, dispute = modes
    if sum(modes) != 1:
        raise UsageError("audit does one thing at a time", remedy=MODES)
    if (path is None) != (check or dispute):
        raise UsageError("--check and --dispute take no RUN; all other audits take one", remedy=MODES)
    if trunk is not None and not (full or steps):
        raise UsageError("--trunk goes with --full and --steps", remedy="leave it out")
    if work is not None and not full:
        raise UsageError("--work goes with --full", remedy="--steps works in a directory below TMPDIR")
    if check and recipe is not None:
        raise UsageError("--check takes no --recipe, because the bundle contains it", remedy=MODES)
    if is_detailed and not export:
        raise UsageError("--operators and --operator go with --export-step", remedy=MODES)


@app.command()
@guarded
def reproduce(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", readable=False, callback=named_model, help="A sealed model (.s7l), or its run."
        ),
    ],
    recipe: RecipeOption = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", readable=False, help="Use the corpus and the token files of this run."
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="DIR",
            readable=False,
            help="The working directory; it is kept, and a stopped run resumes in it.",
        ),
    ] = None,
    trunk: TrunkOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="KEY", readable=False, help="Sign the statement with this private key."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the recipe of a sealed model again. When the root is the same, write a statement beside
    the file.
    """
    if source is not None and recipe is not None:
        raise UsageError("--from and --recipe together", remedy="--from takes the sealed recipe")

    def do(progress: Progress, given: Recipe | None, directory: Path | None) -> dict[str, Json]:
        from sevenfold.audit.reproduce import reproduce as run_again

        signer = private_key(key) if key is not None else None
        return run_again(file, given, directory, progress, work, taken=source, trunk=trunk, key=signer)

    _report(do, recipe, as_json)


def _report(
    do: Callable[[Progress, Recipe | None, Path | None], dict[str, Json]], recipe: str | None, as_json: bool
) -> None:
    """Run an audit, print its outcome, and exit with 3 when something differs."""
    from sevenfold.recipe import load_recipe, resolve_recipe_path
    from sevenfold.report.audit import audit_lines
    from sevenfold.report.console import close_progress, make_progress

    file = resolve_recipe_path(recipe) if recipe is not None else None
    given = load_recipe(file) if file is not None else None
    progress = make_progress()
    try:
        value = do(progress, given, file.parent if file is not None else None)
    finally:
        close_progress(progress)
    if as_json:
        print_json(value)
    else:
        print("\n".join(audit_lines(value)))
    if not value["same"]:
        raise typer.Exit(3)
