"""The verbs runs and compare, which show runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json

_RunDir = Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run directory.")]


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


@app.command()
@guarded
def runs(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", readable=False, help="Directory of the runs.")
    ] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """List runs: recipe, progress, loss, bits per byte, root."""
    from sevenfold.report.console import print_table
    from sevenfold.report.runs import describe, find_runs

    found = [describe(run) for run in find_runs(directory)]
    if as_json:
        print_json(found)
        return
    rows = [
        [
            run["run"],
            run["recipe"],
            run["stages"][-1] if run["stages"] else "",
            f"{run['steps']:,}",
            f"{run['tokens']:,}",
            _figure(run["loss"], ".4f"),
            _figure(run["heldout_bpb"], ".4f"),
            (run["root"] or "")[:16],
        ]
        for run in found
    ]
    columns = ("run", "recipe", "done", "steps", "tokens", "loss", "held-out bits/byte", "root")
    print_table(f"runs in {directory}", columns, rows)


@app.command()
@guarded
def compare(
    a: _RunDir,
    b: Annotated[Path, typer.Argument(metavar="OTHER", readable=False, help="Another one.")],
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", readable=False, help="Draw both curves into this file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: the recipe keys that differ, and the losses at the same numbers of tokens."""
    from sevenfold.core.ownership import is_picture, refuse_foreign
    from sevenfold.report.console import print_table
    from sevenfold.report.runs import compare as compare_runs
    from sevenfold.report.runs import write_overlay

    if png is not None:
        refuse_foreign(png, is_picture, "picture")
    value = compare_runs(a, b)
    if png is not None:
        write_overlay(png, a, b)
    if as_json:
        print_json(value)
        return
    print_table(
        "recipe", ("key", str(a), str(b)), [[r["key"], str(r["a"]), str(r["b"])] for r in value["recipe"]]
    )
    rows = [
        [f"{r['tokens']:,}", f"{r['a']:.4f}", f"{r['b']:.4f}", f"{r['difference']:+.4f}"]
        for r in value["losses"]
    ]
    print_table("loss, smoothed", ("tokens", str(a), str(b), "difference"), rows)
    print("the same metrics, row for row" if value["same"] else "the metrics differ")
