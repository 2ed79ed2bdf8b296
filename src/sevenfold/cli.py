"""The command line: a table of verbs over the stages. It parses, prints and exits; the work is in the rooms.

Imports are inside the functions, so that `s7 --help` answers at once and never loads PyTorch. Flags are frozen by a snapshot
(tests/cli). Exit codes: `core.errors.EXIT_CODES`, shown by `s7 --help`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from sevenfold import __version__
from sevenfold.core.errors import EXIT_CODES, EXIT_INTERRUPTED, SevenfoldError, UsageError, storage_error

if TYPE_CHECKING:
    from sevenfold.artifact import Artifact
    from sevenfold.core.hashing import Json
    from sevenfold.recipe.job import Job

P = ParamSpec("P")

_EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items())
app = typer.Typer(
    name="s7",
    help="Small language models that can be proved: recipe to sealed INT8 model, verified and run with integers only.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeArg = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or a shipped name (s7/demo-1m).")
]
FileArg = Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A sealed model (.s7l).")]
RunArg = Annotated[
    Path, typer.Argument(metavar="RUN", readable=False, help="A run directory, or a sealed model (.s7l).")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory of the run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of tables.")]


def _fail(error: SevenfoldError) -> typer.Exit:
    print(f"s7: {error}".replace("\n", " "), file=sys.stderr)
    return typer.Exit(error.exit_code)


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Turn every expected failure into one line on stderr and its documented exit code."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except SevenfoldError as error:
            raise _fail(error) from error
        except BrokenPipeError as error:
            # The reader (head, less) went away: say nothing more, and keep the interpreter from flushing at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error
        except OSError as error:
            raise _fail(storage_error(error)) from error
        except KeyboardInterrupt as error:
            print("s7: interrupted; run the same command again to go on", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except ModuleNotFoundError as error:
            if (error.name or "sevenfold").startswith("sevenfold"):
                raise
            missing = UsageError(
                f"this command needs {error.name}, which is not installed",
                remedy="pip install 'sevenfold[train]'",
            )
            raise _fail(missing) from error

    return wrapper


def _print_json(value: Json) -> None:
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True))


def _job(recipe: str, out: Path) -> Job:
    from sevenfold.recipe import load_recipe, resolve_recipe_path
    from sevenfold.recipe.job import Job
    from sevenfold.report.console import make_progress

    path = resolve_recipe_path(recipe)
    return Job(recipe=load_recipe(path), out=out, recipe_dir=path.parent, progress=make_progress())


def _show_version(value: bool) -> None:
    if value:
        print(f"s7 {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


@app.command()
@guarded
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that ship."""
    from sevenfold.recipe import list_shipped
    from sevenfold.report.console import print_table

    shipped = list_shipped()
    if as_json:
        _print_json([{"name": s.name, "path": str(s.path), "summary": s.summary} for s in shipped])
        return
    print_table("recipes", ("name", "summary"), [[s.name, s.summary] for s in shipped])


@app.command()
@guarded
def plan(recipe: RecipeArg, as_json: JsonOption = False) -> None:
    """Size a recipe: parameters, memory, FLOPs, hours and cost."""
    from sevenfold.recipe import load_recipe, resolve_recipe_path
    from sevenfold.recipe.plan import plan as plan_recipe

    value = plan_recipe(load_recipe(resolve_recipe_path(recipe)))
    if as_json:
        _print_json(value)
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
) -> None:
    """Run the whole spine: corpus, tokenizer, train, quantize, seal, verify, report."""
    from sevenfold import pipeline
    from sevenfold.report.console import close_progress, print_summary, print_verification

    last = pipeline.find_stage(until)
    job = _job(recipe, out)
    try:
        pipeline.make(job, until=last.name, force=force)
        if last is not pipeline.STAGES[-1]:
            return
        from sevenfold.closing import finish

        summary = finish(job)
    finally:
        close_progress(job.progress)
    print_verification(summary["verification"])
    print_summary(summary)


def _stage_command(name: str, text: str) -> None:
    @guarded
    def command(
        recipe: RecipeArg,
        out: OutOption,
        force: Annotated[bool, typer.Option("--force", help="Run it even if it is up to date.")] = False,
    ) -> None:
        from sevenfold import pipeline
        from sevenfold.report.console import close_progress

        job = _job(recipe, out)
        try:
            with pipeline.exclusive(job.out):
                pipeline.run_stage(job, pipeline.find_stage(name), force=force)
        finally:
            close_progress(job.progress)

    app.command(name, help=text)(command)


for _name, _text in (
    ("corpus", "Stage 1: documents, licences, held-out split."),
    ("tokenizer", "Stage 2: vocabulary and token files."),
    ("train", "Stage 3: a float checkpoint; resumes where it stopped."),
    ("quantize", "Stage 4: integers, and the quality gate."),
    ("seal", "Stage 5: model.s7l."),
):
    _stage_command(_name, _text)


@app.command()
@guarded
def verify(
    file: FileArg,
    replay: Annotated[
        bool, typer.Option("--replay", help="Run the golden prompts on every backend here.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, root and rules V0 to V7 of a sealed model."""
    from sevenfold.artifact import read_artifact
    from sevenfold.artifact import verify as verify_artifact
    from sevenfold.report.console import print_verification

    artifact = read_artifact(file)
    if replay:
        from sevenfold.engine.session import replay as run_golden_prompts

        result = verify_artifact(artifact, run_golden_prompts)
    else:
        result = verify_artifact(artifact)
    value = result.as_json()
    if as_json:
        _print_json(value)
    else:
        print_verification(value)
    if not result.ok:
        raise typer.Exit(3)


def _inspection(artifact: Artifact) -> dict[str, Json]:
    return {
        "path": str(artifact.path),
        "root": artifact.root,
        "version": artifact.version,
        "class": artifact.class_,
        "flags": artifact.flags,
        "n_bytes": artifact.n_bytes,
        "lanes": [
            {"name": x.name, "kind": x.kind, "offset": x.offset, "n_bytes": x.n_bytes, "sha256": x.sha256}
            for x in artifact.lanes
        ],
        "identity": artifact.provenance.get("identity", {}),
        "model": artifact.graph.get("model", {}),
        "tensors": [
            {"name": t.name, "dims": list(t.dims), "n_bytes": t.numel} for t in artifact.tensors.values()
        ],
    }


@app.command()
@guarded
def inspect(file: FileArg, as_json: JsonOption = False) -> None:
    """Show what a sealed model holds and where it comes from."""
    from sevenfold.artifact import read_artifact

    value = _inspection(read_artifact(file))
    if as_json:
        _print_json(value)
        return
    from sevenfold.report.console import print_inspection

    print_inspection(value)


@app.command()
@guarded
def run(
    file: FileArg,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Text to complete.")],
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="Tokens to add, at most.")
    ] = 64,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Engine: native or reference; the fastest that passes, if not given.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Complete a prompt, greedily, with integers only, behind the CM-1 gate."""
    from sevenfold.artifact import visible_text
    from sevenfold.engine.backends import find_backend
    from sevenfold.engine.session import Model

    if backend is not None:
        find_backend(backend)
    model = Model.open(file, backend=backend)
    if model.note:
        print(f"s7: running on {model.backend}: {model.note}", file=sys.stderr)
    with model.session(prompt, max_tokens=max_tokens) as session:
        pieces = []
        for piece in session.generate(max_tokens):
            pieces.append(piece)
            if not as_json:
                # The model may say control characters; a terminal must not obey them.
                print(visible_text(piece), end="", flush=True)
    if as_json:
        _print_json(
            {
                "prompt": prompt,
                "text": "".join(pieces),
                "tokens": session.tokens,
                "backend": model.backend,
                "root": model.artifact.root,
            }
        )
    else:
        print()


@app.command()
@guarded
def backends(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", readable=False, help="Prove them on this sealed model, not on the built-in one."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the engines, what this machine can run, and the self-test of each."""
    from sevenfold.engine.session import backend_states
    from sevenfold.report.console import print_table

    states = backend_states(file)
    if as_json:
        _print_json(states)
    else:
        rows = [[s["name"], s["status"], s["detail"]] for s in states]
        print_table("backends", ("name", "self-test", "detail"), rows)
    if any(s["status"] == "fail" for s in states):
        raise typer.Exit(3)


@app.command()
@guarded
def audit(
    path: RunArg,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="A..B", help="Do these training steps again.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Make the whole model again.")] = False,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="RECIPE", help="The run's recipe; default: the sealed one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a training run and compare it with what was recorded; exit code 3 when it differs."""
    if full == (steps is not None):
        raise UsageError("audit takes one of --steps and --full", remedy="allowed: --steps A..B, or --full")
    from sevenfold.audit.full import audit_full
    from sevenfold.audit.replay import audit_steps, parse_steps
    from sevenfold.recipe import load_recipe, resolve_recipe_path
    from sevenfold.report.audit import audit_lines
    from sevenfold.report.console import close_progress, make_progress

    first, last = parse_steps(steps) if steps is not None else (0, 0)
    file = resolve_recipe_path(recipe) if recipe is not None else None
    given = load_recipe(file) if file is not None else None
    progress = make_progress()
    try:
        if full:
            value = audit_full(path, given, file.parent if file is not None else None, progress)
        else:
            value = audit_steps(path, first, last, given, progress)
    finally:
        close_progress(progress)
    if as_json:
        _print_json(value)
    else:
        print("\n".join(audit_lines(value)))
    if not value["same"]:
        raise typer.Exit(3)


@app.command()
@guarded
def lineage(
    path: RunArg,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="SVG", help="Write the chain as a picture, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the chain from sources and licences to the Merkle root, from the sealed file alone."""
    from sevenfold.audit.lineage import lineage as chain
    from sevenfold.audit.subject import sealed_file
    from sevenfold.report.console import print_table
    from sevenfold.report.lineage import lineage_rows, quantisation_rows, write_picture

    value = chain(sealed_file(path))
    if picture is not None:
        write_picture(picture, value)
    if as_json:
        _print_json(value)
        return
    print_table("quantisation", ("tensor", "shape", "scale", "exponent"), quantisation_rows(value))
    print_table("lineage", ("link", "what"), lineage_rows(value))


@app.command()
@guarded
def diff(
    a: Annotated[
        Path, typer.Argument(metavar="A", readable=False, help="A sealed model, or a run directory.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", readable=False, help="Another one.")],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 when the roots differ.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two sealed models. The last line is the verdict."""
    from sevenfold.audit.diff import diff as compare
    from sevenfold.audit.subject import sealed_file
    from sevenfold.report.console import print_table
    from sevenfold.report.lineage import diff_tables, diff_verdict

    value = compare(sealed_file(a), sealed_file(b))
    if as_json:
        _print_json(value)
    else:
        for title, columns, rows in diff_tables(value):
            print_table(title, columns, rows)
        print(diff_verdict(value))
    if exit_code and not value["equal"]:
        raise typer.Exit(3)


# The command-line library's class of wrong arguments; typer names only its children.
_WrongArgument: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point of the `s7` command: a wrong argument, too, is one line and exit code 2."""
    try:
        code = app(prog_name="s7", standalone_mode=False)
    except _WrongArgument as error:
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else "s7"
        if not sys.argv[1:]:
            print(context.get_help() if context else "s7 --help")
            sys.exit(2)
        text = getattr(error, "format_message", error.__str__)()
        wrong = UsageError(text.rstrip("."), remedy=f"see `{verb} --help`")
        sys.exit(_fail(wrong).exit_code)
    sys.exit(code)


if __name__ == "__main__":
    main()
