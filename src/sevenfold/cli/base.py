"""Shared parts of the verbs: the app, common arguments, exit codes of errors, JSON."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from sevenfold import __version__
from sevenfold.cli.lazy import LazyGroup
from sevenfold.cli.streams import ReaderGoneError, silence
from sevenfold.core.errors import EXIT_CODES, EXIT_INTERRUPTED, SevenfoldError, UsageError, storage_error
from sevenfold.core.process.log import escaped

if TYPE_CHECKING:
    from sevenfold.core.hashing import Json
    from sevenfold.runs.job import Job

P = ParamSpec("P")
MAX_WORKERS = 1024

# The extra that installs a missing module, where it is not [train].
_EXTRAS = dict.fromkeys(("model_signing", "cryptography", "OpenSSL", "sigstore"), "sign") | dict.fromkeys(
    ("gguf", "transformers"), "train,export"
)
_EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items())
app = typer.Typer(
    name="s7",
    cls=LazyGroup,
    help=(
        "Small language models that can be proved: recipe to sealed INT8 model, verified and run with"
        " integers only."
    ),
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeArg = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or a shipped name (s7/demo-1m).")
]


def named_model(path: Path | None) -> Path | None:
    """Return the path. When it is the name of a model that ships, return the path of its file."""
    from sevenfold.core.shipped_models import model_path

    try:
        return None if path is None else model_path(path)
    except SevenfoldError as error:
        raise fail(error) from error


def named_models(paths: list[Path]) -> list[Path]:
    """Return `named_model` of each path."""
    return [found for path in paths if (found := named_model(path)) is not None]


FileArg = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", readable=False, callback=named_model, help="A sealed model (.s7l), or its name."
    ),
]
RunArg = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        readable=False,
        callback=named_model,
        help="A run directory, or a sealed model (.s7l).",
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", readable=False, help="Directory of the run.")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace a model.s7l that has another root.")]
WeightsOption = Annotated[
    bool,
    typer.Option("--with-training-weights", help="Also seal the FP32 weights, in lanes that engines ignore."),
]
WorkersOption = Annotated[
    str,
    typer.Option(
        "--workers", metavar="N|ray", help="Processes that make the corpus, or `ray`; changes no byte."
    ),
]
TrunkOption = Annotated[
    Path | None,
    typer.Option(
        "--trunk",
        metavar="RUN",
        readable=False,
        help="The run or sealed file that `train.from` names; by default it is sought beside DIR.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of tables.")]


# The functions of the verbs whose work is kept when they are stopped.
RESUMED = frozenset(
    ("make", "train", "tune", "quantize", "seal", "tokenizer", "synth", "build", "fetch", "pin", "evaluate",
     "reproduce", "add")
)  # fmt: skip


def fail(error: SevenfoldError) -> typer.Exit:
    """Print an error in one line and return the exit to raise."""
    print(escaped(f"s7: {error}".replace("\n", " ")), file=sys.stderr)
    return typer.Exit(error.exit_code)


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Turn every expected failure into one line on stderr and its documented exit code."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except (ReaderGoneError, BrokenPipeError) as error:
            # The reader (head, less) is gone. Nothing is printed, and the interpreter must not
            # flush at exit.
            silence(sys.stdout)
            raise typer.Exit(0) from error
        except SevenfoldError as error:
            raise fail(error) from error
        except OSError as error:
            raise fail(storage_error(error)) from error
        except KeyboardInterrupt as error:
            goes_on = "; run the same command again to continue" if function.__name__ in RESUMED else ""
            print(f"s7: interrupted{goes_on}", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except ModuleNotFoundError as error:
            if (error.name or "sevenfold").startswith("sevenfold"):
                raise
            missing = UsageError(
                f"this command needs {error.name}, which is not installed",
                remedy=f"pip install 'sevenfold[{_EXTRAS.get(error.name or '', 'train')}]'",
            )
            raise fail(missing) from error

    return wrapper


def print_json(value: Json) -> None:
    """Print one JSON value on standard output, keys sorted."""
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True))


def private_key(path: Path) -> Any:
    """Return the private key that signs a statement. Raises StorageError or UsageError."""
    import os

    from sevenfold.release.dsse import load_private_key
    from sevenfold.release.signature import PASSWORD_VARIABLE

    return load_private_key(path, os.environ.get(PASSWORD_VARIABLE, "").encode() or None)


def make_job(
    recipe: str,
    out: Path,
    accept_quality: bool = False,
    *,
    replace: bool = False,
    with_training_weights: bool = False,
    workers: str = "1",
    trunk: Path | None = None,
) -> Job:
    """Return the job of a recipe (a file, or a shipped name) in a run directory, with progress on
    the terminal.
    """
    from sevenfold.recipe import load_recipe, resolve_recipe_path
    from sevenfold.report.console import make_progress
    from sevenfold.runs.job import Job

    if workers != "ray" and not (workers.isdecimal() and 1 <= int(workers) <= MAX_WORKERS):
        raise UsageError(f"--workers {workers!r}", remedy=f"a number from 1 to {MAX_WORKERS}, or ray")
    path = resolve_recipe_path(recipe)
    return Job(
        recipe=load_recipe(path),
        out=out,
        recipe_dir=path.parent,
        progress=make_progress(),
        accept_quality=accept_quality,
        replace=replace,
        trunks=(trunk,) if trunk is not None else (),
        with_training_weights=with_training_weights,
        workers="ray" if workers == "ray" else int(workers),
    )


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
    """Accept the options before the verb."""
