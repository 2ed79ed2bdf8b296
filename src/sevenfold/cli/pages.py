"""Return the command tree as data, for the documentation, the manual page and their tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer.main

from sevenfold.cli import app


@dataclass(frozen=True)
class CommandPage:
    """One verb: `path` as it is typed, its help, its usage line, and (names, help) of its
    parameters.
    """

    path: str
    help: str
    usage: str
    parameters: tuple[tuple[str, str], ...]


def root_command() -> Any:
    """Return the command tree of `s7`."""
    return typer.main.get_command(app)


def command_pages() -> Iterator[CommandPage]:
    """Yield a page for every verb, groups before their verbs, in the order of `s7 --help`."""
    command = root_command()
    root = command.context_class(command, info_name="s7")
    yield from _pages(command, root)


def _pages(command: Any, context: Any) -> Iterator[CommandPage]:
    if context.parent is not None:
        yield _page(command, context)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        inner = command.get_command(context, name)
        yield from _pages(inner, inner.context_class(inner, info_name=name, parent=context))


def _page(command: Any, context: Any) -> CommandPage:
    pieces = " ".join(command.collect_usage_pieces(context))
    parameters = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            parameters.append((record[0], record[1]))
    text = (command.help or "").strip().replace("\n", " ")
    return CommandPage(
        path=context.command_path,
        help=text,
        usage=f"{context.command_path} {pieces}".strip(),
        parameters=tuple(parameters),
    )
