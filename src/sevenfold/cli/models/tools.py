"""The verb tools: what a tools.json offers, one call, the record of calls, the red team."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.agent.tools.hosting import ToolHost
    from sevenfold.agent.tools.registry import ToolSet
    from sevenfold.core.hashing import Json

tools_app = typer.Typer(
    help="Tools of a model: what is offered, one call, the record of calls, the red team.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(tools_app, name="tools")

# Codes of core.errors: found different, not good enough.
EXIT_DIFFERENT, EXIT_NOT_GOOD = 3, 6


def _file(flag: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, metavar="FILE", readable=False, help=text)
    return option


ToolsArg = Annotated[Path, typer.Argument(metavar="TOOLS", readable=False, help="A tools.json.")]
ToolsOption = Annotated[Path | None, _file("--tools", "A tools.json: tools that answers may call.")]
MemoryOption = Annotated[
    Path | None,
    typer.Option("--memory", metavar="DIR", readable=False, help="The memory that retrieval searches."),
]
DomainsOption = Annotated[
    Path | None, _file("--domains", "Names of hosts by category, for web; default: a list that ships.")
]
LogOption = Annotated[Path | None, _file("--tool-log", "Record every call of a tool here.")]


def opened(tools: Path, memory: Path | None, domains: Path | None) -> ToolSet:
    """Return the tools of a file. Raises SevenfoldError."""
    from sevenfold.agent.tools.registry import open_tools
    from sevenfold.agent.tools.web.addresses import DOMAINS

    return open_tools(tools, memory=memory, domains=domains or DOMAINS)


@contextmanager
def host_of(
    tools: Path | None, memory: Path | None, domains: Path | None, log: Path | None
) -> Iterator[ToolHost | None]:
    """Yield the tools that a program offers, with the shipped router; None without `--tools`.

    Raises:
        UsageError: an option that means nothing without tools.
    """
    if tools is None:
        if memory or domains or log:
            raise UsageError("--memory, --domains and --tool-log go with --tools", remedy="name a tools.json")
        yield None
        return
    from sevenfold.agent.router.head import shipped_head
    from sevenfold.agent.tools.hosting import ToolHost
    from sevenfold.agent.tools.log import ToolLog

    found = opened(tools, memory, domains)
    with nullcontext() if log is None else closing(ToolLog(log)) as record:
        yield ToolHost(found, log=record, chooser=shipped_head())


@tools_app.command("list")
@guarded
def list_tools(
    tools: ToolsArg, memory: MemoryOption = None, domains: DomainsOption = None, as_json: JsonOption = False
) -> None:
    """Show the tools of a file, their arguments, and what one answer may use."""
    from sevenfold.agent.tools.arguments import arguments_schema
    from sevenfold.agent.tools.budget import CALLS
    from sevenfold.report.console import print_table

    found = opened(tools, memory, domains)
    if as_json:
        schemas = {name: arguments_schema(rules) for name, rules in found.rules.items()}
        print_json({"digest": found.digest, "arguments": schemas, "calls": dict(CALLS)})
        return
    rows = [[name, ", ".join(rules), str(CALLS[name])] for name, rules in found.rules.items()]
    print_table(str(tools), ("tool", "arguments", "calls of an answer"), rows)
    print(f"digest {found.digest}")


@tools_app.command()
@guarded
def call(
    tools: ToolsArg,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tool.")],
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="Its arguments: one object, or - for standard input.")
    ],
    memory: MemoryOption = None,
    domains: DomainsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one call behind the same guards as a model's, and print what the model would read."""
    import asyncio

    from sevenfold.tokenizer.chat.calls import ToolCall

    try:
        value: Json = json.loads(sys.stdin.read() if arguments == "-" else arguments)
    except (ValueError, RecursionError) as error:
        what = f"the arguments are no JSON: {error}"
        raise UsageError(what, remedy="one object of names and values") from error
    if not isinstance(value, dict):
        raise UsageError("the arguments are no object", remedy="one object of names and values")
    with host_of(tools, memory, domains, log) as host:
        if host is None:
            return
        conversation = host.open(host.names, "")
        (one,) = asyncio.run(conversation.run(ToolCall(name=name, arguments=value).text()))
    if as_json:
        print_json({"outcome": one.result.outcome, "reason": one.result.reason, "text": one.result.text})
    else:
        print(one.result.text)
    if one.result.outcome != "ok":
        raise typer.Exit(UsageError.exit_code)


@tools_app.command()
@guarded
def replay(
    file: Annotated[Path, typer.Argument(metavar="LOG", readable=False, help="A record of calls.")],
    tools: Annotated[Path, _file("--tools", "The tools.json that the calls were made with.")],
    memory: MemoryOption = None,
    domains: DomainsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a record of calls, and run again what gives the same at any time."""
    from sevenfold.agent.tools.log import read_tool_log
    from sevenfold.agent.tools.replay import replay as replayed

    found = replayed(read_tool_log(file), opened(tools, memory, domains))
    if as_json:
        print_json({"same": found.n_same, "recorded": found.n_recorded, "differs": found.differs})
    else:
        for line, why in found.differs:
            print(f"{file}:{line}: {why}")
        print(
            f"{found.n_same} calls gave the same again, {found.n_recorded} are checked by their record alone,"
            f" {len(found.differs)} differ"
        )
    if found.differs:
        raise typer.Exit(EXIT_DIFFERENT)


@tools_app.command("red-team")
@guarded
def red_team(
    family: Annotated[
        list[str] | None, typer.Option("--family", metavar="NAME", help="Only these kinds of attacks.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Attack the tools with every case that ships; an attack that succeeds is an error."""
    from sevenfold.agent.redteam.run import read_cases, red_team_table, run_cases
    from sevenfold.report.console import print_table

    cases = read_cases()
    known = {case.family for case in cases}
    for name in family or ():
        if name not in known:
            raise UsageError(f"no attacks {name!r:.80}", remedy=f"use {', '.join(sorted(known))}")
    verdicts = run_cases([case for case in cases if not family or case.family in family])
    table = red_team_table(verdicts)
    unsafe = [one for one in verdicts if not one.is_safe]
    if as_json:
        rows = {one.case.id: {"found": one.found, "breaches": one.breaches} for one in unsafe}
        print_json({"families": table, "unsafe": rows, "cases": len(verdicts)})
    else:
        cells = [[name, str(n), str(n_unsafe)] for name, (n, n_unsafe) in table.items()]
        print_table("attacks", ("family", "cases", "unsafe"), cells)
        for one in unsafe:
            why = ", ".join(one.breaches) or "it ended another way"
            print(f"{one.case.id}: {why}: {', '.join(one.found)}")
        print(f"{len(verdicts)} attacks, {len(unsafe)} unsafe")
    if unsafe:
        raise typer.Exit(EXIT_NOT_GOOD)


@tools_app.command()
@guarded
def router(as_json: JsonOption = False) -> None:
    """Measure the router that ships on questions of skeletons that it did not see."""
    from sevenfold.agent.router.head import shipped_head
    from sevenfold.agent.router.measure import GATE, measured
    from sevenfold.report.console import print_table

    rows = measured(shipped_head())
    is_met = all(min(row.precision, row.recall) >= GATE for row in rows)
    if as_json:
        print_json({"rows": [row.value() for row in rows], "gate": GATE, "met": is_met})
    else:
        cells = [
            [row.name, str(row.n), f"{row.precision / 10:.1f}", f"{row.recall / 10:.1f}"] for row in rows
        ]
        print_table("router, new skeletons", ("decision", "examples", "precision %", "recall %"), cells)
        print(f"the gate of {GATE // 10} % is {'met' if is_met else 'not met'}")
    if not is_met:
        raise typer.Exit(EXIT_NOT_GOOD)
