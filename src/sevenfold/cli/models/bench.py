"""The verb bench, which measures speed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, app, guarded, print_json
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.core.hashing import Json

MAX_THREADS = 64


def thread_counts(text: str | None) -> list[int]:
    """Parse `1,2,4` as numbers. Without a list, return every power of two up to the number of
    processors, and that number.

    Raises:
        UsageError: something else than distinct numbers from 1 to 64, with commas between.
    """
    if text is None:
        here = min(len(os.sched_getaffinity(0)), MAX_THREADS)
        return sorted({here, *(2**i for i in range(here.bit_length()) if 2**i <= here)})
    parts = text.split(",")
    good = all(part.isascii() and part.isdigit() and 1 <= int(part) <= MAX_THREADS for part in parts)
    if not good or len(set(map(int, parts))) < len(parts):
        raise UsageError(
            f"{text!r} is not a list of thread counts",
            where="--threads",
            remedy=f"use 1 to {MAX_THREADS}, as in 1,2",
        )
    return [int(part) for part in parts]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _print(value: dict[str, Json]) -> None:
    """Print the table and explain the peaks."""
    from sevenfold.report.console import print_table

    work = value["work"]
    names = {
        "prompt": f"prompt of {work['prompt']}",
        "generate": f"{work['steps']} tokens after it (generate)",
        "decode": f"{work['steps']} tokens after it (engine)",
    }
    rows = [
        [
            str(row["threads"]),
            names[row["phase"]],
            f"{row['tokens_per_second']:,.0f}",
            f"{row['quartiles'][0]:,.0f} to {row['quartiles'][1]:,.0f}",
            _share(row["share_of_roof"]),
        ]
        for row in value["rows"]
    ]
    print_table(
        f"{value['path']} on {value['backend']}, {value['rounds']} rounds",
        ("threads", "what", "tokens/s", "quartiles", "of the peak"),
        rows,
    )
    for peak in value["roofs"]:
        on = f"{peak['threads']} thread{'s' if peak['threads'] > 1 else ''}"
        macs = peak["macs_per_second"]
        arithmetic = (
            f"{macs / 1e9:,.0f} G 8-bit multiply-adds/s ({peak['isa']}, registers only)" if macs else "none"
        )
        print(f"peak of the prompt, {on}: {arithmetic}; it needs {work['macs'] / 1e9:,.1f} G")
        print(
            f"peak of a step,     {on}: {peak['bytes_per_second'] / 1e9:,.0f} GB/s read from"
            f" {work['bytes'] / 1e6:,.1f} MB again and again; it needs each of them once"
        )


@app.command()
@guarded
def bench(
    file: FileArg,
    threads: Annotated[
        str | None,
        typer.Option(
            "--threads",
            metavar="N,N",
            help="Thread counts to compare; by default powers of two up to all processors.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=1, max=1000, help="How often each is measured.")
    ] = 5,
    speculate: Annotated[
        bool, typer.Option("--speculate", help="Measure guesses instead: their cost, and how many are right.")
    ] = False,
    draft: Annotated[
        Path | None,
        typer.Option("--draft", metavar="FILE", readable=False, help="A smaller sealed model that guesses."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the tokens/s of a sealed model here, and the share of the peak of this machine."""
    from sevenfold.engine.bench import measure
    from sevenfold.engine.session import Model
    from sevenfold.report.console import close_progress, make_progress

    counts = thread_counts(threads)
    if speculate:
        _guesses(file, draft, counts[-1], as_json=as_json)
        return
    if draft is not None:
        raise UsageError("--draft goes with --speculate", where="--draft", remedy="add --speculate")
    model = Model.open(file)
    progress = make_progress()
    try:
        value = measure(model.weights, model.backend, counts, rounds, progress, model)
    finally:
        close_progress(progress)
    value |= {"path": str(file), "root": model.artifact.root, "backend": model.backend, "rounds": rounds}
    if as_json:
        print_json(value)
    else:
        _print(value)


def _guesses(file: Path, draft: Path | None, n_threads: int, *, as_json: bool) -> None:
    """Measure guesses, and print the result."""
    from sevenfold.engine.bench_guesses import measure_guesses
    from sevenfold.engine.session import Model
    from sevenfold.report.console import print_table

    model = Model.open(file, n_threads=n_threads)
    value = measure_guesses(model, Model.open(draft, n_threads=n_threads) if draft else None)
    value |= {"path": str(file), "root": model.artifact.root, "threads": n_threads}
    if as_json:
        print_json(value)
        return
    columns = zip(value["cost_by_guesses"], value["guessed_by_place"], value["held_by_place"], strict=True)
    rows = [
        [str(place + 1), f"{cost:.2f}", f"{guessed:,}", f"{held / guessed:.0%}" if guessed else "-"]
        for place, (cost, guessed, held) in enumerate(columns)
    ]
    print_table(
        f"{file}, {n_threads} thread{'s' if n_threads > 1 else ''}",
        ("guesses", "cost of a pass in steps", "guessed at this place", "held"),
        rows,
    )
    speed = value["tokens_per_second"]
    print(f"one sequence: {speed['plain']:,.0f} tokens/s; with guesses everywhere: {speed['guessed']:,.0f}")
    pays = ", ".join(f"{n} at {float(share):.0%}" for share, n in value["guesses_that_pay"].items())
    print(f"guesses that pay by the share that holds: {pays}")
