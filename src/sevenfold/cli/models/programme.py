"""The verbs release, risks, experiments and handover, which say what a programme has shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, app, guarded, print_json

if TYPE_CHECKING:
    from sevenfold.programme.risks import RiskState

RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", readable=False, help="Of `s7 eval`; else eval/ beside FILE."),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", metavar="RUN", readable=False, help="The run directory of the model."),
]
RisksOption = Annotated[
    str, typer.Option("--risks", metavar="NAME|FILE", help="A register that ships, or a file.")
]


@app.command()
@guarded
def release(
    file: FileArg,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 3 or 6 when a row fails; see the exit codes.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: open rows fail, too.")] = False,
    gates: Annotated[
        str, typer.Option("--gates", metavar="NAME|FILE", help="Gates that ship, or a file of them.")
    ] = "small-code",
    risks: RisksOption = "models",
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="PUB", readable=False, help="Check the signature by this public key."),
    ] = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model that ships has and lacks: one row for everything."""
    from sevenfold.artifact import read_artifact
    from sevenfold.core.errors import UsageError
    from sevenfold.programme.release import ReleaseSubject, release_table, require_release
    from sevenfold.report.console import print_table

    if strict and not check:
        raise UsageError("--strict without --check", remedy="add --check")
    artifact = read_artifact(file)
    subject = ReleaseSubject(artifact=artifact, gates=gates, risks=risks, key=key, run=run)
    rows = release_table(subject)
    if as_json:
        print_json({"model": artifact.root, "rows": [row.facts() for row in rows]})
    else:
        cells = [[row.name, row.requirement, row.state, row.detail] for row in rows]
        print_table(f"release of {artifact.root[:16]}", ("what", "for", "state", "detail"), cells)
    if check:
        require_release(rows, str(file), is_strict=strict)


@app.command()
@guarded
def risks(
    file: FileArg,
    name: RisksOption = "models",
    runs: RunsOption = None,
    run: RunOption = None,
    require: Annotated[bool, typer.Option("--require", help="Exit with 6 when a risk is triggered.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the register of risks: each trigger is a query over recorded figures."""
    from sevenfold.artifact import read_artifact
    from sevenfold.core.errors import QualityError
    from sevenfold.programme import risks as register
    from sevenfold.programme.figures import collect, runs_beside
    from sevenfold.report.console import print_table

    artifact = read_artifact(file)
    table = register.load_risks(name)
    states = register.risk_states(table, collect(artifact, runs or runs_beside(file), run))
    if as_json:
        facts = [state.facts() for state in states]
        print_json({"model": artifact.root, "rows": facts, "risks": table.name})
    else:
        head = ("risk", "state", "trigger", "figure", "record", "mitigation, or what measures it")
        print_table(f"{table.name} of {artifact.root[:16]}", head, [_risk_row(state) for state in states])
    if require and (hit := register.triggered(states)):
        names = ", ".join(row.id for row in hit)
        raise QualityError(f"risks are triggered: {names}", where=str(file), remedy=hit[0].then)


def _risk_row(state: RiskState) -> list[str]:
    figure = "-" if state.figure is None else f"{state.figure:g}"
    return [state.id, state.state, state.trigger, figure, state.record or "-", state.then or "-"]


@app.command()
@guarded
def handover(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", readable=False, help="A sealed model (.s7l), or its name."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="ZIP", readable=False, help="Where the pack goes.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="ZIP", readable=False, help="Check a pack; needs the base install."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", readable=False, help="Evaluation sets, for items of them."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", metavar="RUN", readable=False, help="The run of the model: held-out items."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything that a model is handed over with into one ZIP
    file, whose bytes follow from its contents; or check one.
    """
    from sevenfold.cli.base import named_model
    from sevenfold.core.errors import UsageError

    if (check is None) == (file is None) or (file is None) != (out is None):
        raise UsageError("handover takes FILE and --out ZIP, or --check ZIP", remedy="give one of the two")
    if check is not None:
        _check_pack(check, as_json=as_json)
        return
    from sevenfold.artifact import read_artifact
    from sevenfold.programme.handover import write_handover

    named = named_model(file)
    if named is None or out is None:
        return
    written = write_handover(read_artifact(named), out, data, corpus)
    manifest = written["manifest"]
    if as_json:
        print_json(written)
    else:
        n, m = len(manifest["items"]), len(manifest["items_left_out"])
        print(f"{out}: {len(manifest['files'])} files, root {written['root']}")
        print(f"{n} evaluation items with their results; {m} cards have none, README.md says why")


def _check_pack(path: Path, *, as_json: bool) -> None:
    from sevenfold.programme.handover import check_handover

    found = check_handover(path)
    if as_json:
        print_json(found)
        return
    print(f"{path}: {found['n_files']} files, {found['n_bytes']:,} bytes, every hash holds")
    print(f"model {found['name']}, root {found['model']}: {found['self_test']}")
    print(f"{len(found['items'])} evaluation items give the same results here, bit for bit")
    print(f"root of the pack {found['root']}")


@app.command()
@guarded
def experiments(
    table: Annotated[
        str, typer.Option("--table", metavar="NAME|FILE", help="Experiments that ship, or a file of them.")
    ] = "slm",
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="DIR", readable=False, help="With ID.a.eval.json, ID.b.eval.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show experiments whose criteria were locked before their runs, and
    what sealed runs say. A table that changed is refused.
    """
    from sevenfold.programme.experiments import experiment_states, load_experiments
    from sevenfold.report.console import print_table

    named = load_experiments(table)
    states = experiment_states(named, results)
    if as_json:
        facts = [state.facts() for state in states]
        print_json({"experiments": named.name, "locked": named.locked.model_dump(), "rows": facts})
        return
    rows = []
    for state in states:
        gain = "-" if state.gain is None else f"{state.gain:+.4f} ({state.low:+.4f} to {state.high:+.4f})"
        rows.append([state.id, state.state, state.criterion, gain, state.question, state.detail])
    head = ("experiment", "state", "B better than A", "gain, 95 %", "question", "runs, or what is needed")
    print_table(f"{named.name}, locked on {named.locked.date}", head, rows)
