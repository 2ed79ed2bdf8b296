"""The command line: a table of verbs.

It parses arguments, prints results and exits. Other packages do the work. There is one module for
each kind of verb. `table` names them, `lazy` imports them when they are used, and `base` holds what
they share. Imports stand inside functions, so that `s7 --help` is fast and never loads PyTorch. A
snapshot fixes the flags (tests/cli). Exit codes are those of `core.errors.EXIT_CODES`, which `s7
--help` prints.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import typer

from sevenfold.cli import streams
from sevenfold.cli.base import app, fail
from sevenfold.core.errors import SevenfoldError, UsageError, storage_error

__all__ = ["app", "main"]

# The class of wrong arguments in the command-line library. typer exports only its subclasses.
_WrongArgument: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the `s7` command. A wrong argument is one line and exit code 2."""
    streams.prepare()
    try:
        code = _run()
        # A verb that failed has printed its error. A failure of the last flush adds nothing to it.
        with suppress(*((SevenfoldError,) if code else ())):
            sys.stdout.flush()
    except streams.ReaderGoneError:
        code = 0
    # The failure is of standard output and comes from help or version, which run before a verb.
    except SevenfoldError as error:
        code = fail(error).exit_code
    except SystemExit as error:
        # The command-line library ends like this when the reader of a help text is gone.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = 0
    except OSError as error:
        streams.silence(sys.stdout)
        code = fail(storage_error(error, "standard output")).exit_code
    streams.restore()
    # CPython remembers a Ctrl-C that passed through the evaluation of a string, although it was
    # handled (dataclasses evaluate strings while modules load). `python -m sevenfold` would then
    # end by SIGINT and not with our exit code. Evaluating a string anew makes it forget.
    eval("None")
    sys.exit(code)


def _run() -> int | None:
    try:
        code: int | None = app(prog_name="s7", standalone_mode=False)
    except _WrongArgument as error:
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else "s7"
        if not sys.argv[1:]:
            print(context.get_help() if context else "s7 --help")
            return 2
        text = getattr(error, "format_message", error.__str__)()
        return fail(UsageError(text.rstrip("."), remedy=f"see `{verb} --help`")).exit_code
    return code
