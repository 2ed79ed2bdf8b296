"""The verb doctor, which examines this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json

if TYPE_CHECKING:
    from sevenfold.runs.machine import MachineFinding


@app.command()
@guarded
def doctor(
    as_json: JsonOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 when anything is missing.")] = False,
) -> None:
    """Show what is installed here, which backends run, what is missing, and the command that
    installs it.
    """
    from sevenfold.core.errors import StorageError
    from sevenfold.engine.session import backend_states
    from sevenfold.runs.machine import examine, inventory

    findings = [*examine(), *map(_backend, backend_states())]
    missing = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"machine": inventory(), "findings": [finding.as_json() for finding in findings]})
    else:
        for label, value in inventory().items():
            print(f"{label:<18}{value}")
        group = ""
        for finding in findings:
            if finding.group != group:
                group = finding.group
                print(f"\n{group}")
            state = "yes" if finding.ok else "no "
            print(f"  {state}  {finding.name:<22}{finding.detail}")
            if not finding.ok and finding.remedy:
                print(f"       {'':<22}{finding.remedy}")
    if strict and missing:
        names = ", ".join(finding.name for finding in missing)
        raise StorageError(f"missing here: {names}", remedy="see `s7 doctor` for the commands")


def _backend(state: dict[str, str]) -> MachineFinding:
    from sevenfold.runs.machine import MachineFinding

    remedies = {
        "native": "install a C++20 compiler, then `make setup`, or install a wheel",
        "torch": "pip install 'sevenfold[train]'",
    }
    ok = state["status"] == "pass"
    return MachineFinding(
        "backends", state["name"], ok, state["detail"], "" if ok else remedies.get(state["name"], "")
    )
