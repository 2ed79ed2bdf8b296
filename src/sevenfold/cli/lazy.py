"""A command group that imports the module of a verb when the verb is used."""

from __future__ import annotations

import importlib
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

from sevenfold.cli.table import ALIASES, GROUPS, VERBS, Verb

_BY_NAME = {verb.name: verb for verb in VERBS}


class LazyGroup(TyperGroup):
    """The verbs of the table. Nothing of a verb is imported until its name is typed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the names of all verbs, group by group."""
        return [verb.name for group in GROUPS for verb in VERBS if verb.group == group]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is click's
        """Return the command of a verb, or None when there is no such verb."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        verb = _BY_NAME.get(cmd_name)
        if verb is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = load(verb)
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature is click's
        """Write the verbs in groups, from the table alone."""
        for group in GROUPS:
            with formatter.section(group):
                formatter.write_dl([(verb.name, verb.help) for verb in VERBS if verb.group == group])


def load(verb: Verb) -> Any:
    """Import the module of a verb, which registers it, and return its command."""
    home = f"{GROUPS[verb.group]}.{verb.module}"
    module = importlib.import_module(home)
    app: typer.Typer = module.app
    for info in app.registered_groups:
        if info.name == verb.name and info.typer_instance is not None:
            group = typer.main.get_command(info.typer_instance)
            group.name = verb.name
            return group
    for command in app.registered_commands:
        name = command.name or typer.main.get_command_name(getattr(command.callback, "__name__", ""))
        if name == verb.name:
            return typer.main.get_command_from_info(
                command, pretty_exceptions_short=True, rich_markup_mode=None
            )
    raise LookupError(f"{home} does not define the verb {verb.name!r}")
