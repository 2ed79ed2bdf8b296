"""The verb synth, which makes synthetic samples."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json

if TYPE_CHECKING:
    from sevenfold.core.hashing import Json


def _print(facts: dict[str, Json]) -> None:
    from sevenfold.report.console import print_table

    columns = (
        "n_samples",
        "n_shapes",
        "most_samples_of_a_shape",
        "n_refused_by_check",
        "n_refused_by_cap",
        "n_shortfall",
    )
    rows = [
        [name, *(f"{one[column]:,}" for column in columns), f"{one['entropy_4grams_bits']:.2f}"]
        for name, one in facts["generators"].items()
    ]
    heads = (
        "generator",
        "samples",
        "shapes",
        "most of one",
        "failed check",
        "over cap",
        "shortfall",
        "4-gram bits",
    )
    print_table(f"{facts['n_samples']:,} samples, {facts['n_bytes'] / 1e6:,.1f} MB", heads, rows)


@app.command()
@guarded
def synth(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", readable=False, help="JSON lines to write.")],
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, max=10_000_000, help="Number of samples.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="The seed, which decides every sample.")
    ] = 0,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="NAME,NAME", help="Generators; by default all, by their shares."),
    ] = None,
    max_per_shape: Annotated[
        int,
        typer.Option(
            "--max-per-shape",
            metavar="N",
            min=1,
            help="How many samples may differ only in names and numbers.",
        ),
    ] = 24,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, max=64, help="Processes; changes no byte."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", readable=False, help="Draw the variety as a PNG.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make synthetic samples, and measure how different they are. Each is executed, evaluated or
    parsed before it is kept.
    """
    from sevenfold.core.ownership import is_picture, refuse_foreign
    from sevenfold.report.console import close_progress, make_progress
    from sevenfold.synthetic.files import is_samples, write_samples
    from sevenfold.synthetic.generate import GenerationRequest, spread

    refuse_foreign(out, is_samples, "file of samples")
    if plot is not None:
        refuse_foreign(plot, is_picture, "picture")
    counts = spread(count) if only is None else spread_over(count, only.split(","))
    order = GenerationRequest(counts, seed, max_per_shape)
    n_workers, progress = workers or min(8, len(os.sched_getaffinity(0))), make_progress()
    try:
        facts = write_samples(out, order, workers=n_workers, progress=progress).facts()
    finally:
        close_progress(progress)
    if plot is not None:
        from sevenfold.report.variety import write_plot

        write_plot(plot, facts)
    if as_json:
        print_json(facts | {"path": str(out), "seed": seed})
    else:
        _print(facts)


def spread_over(count: int, names: list[str]) -> dict[str, int]:
    """Distribute `count` samples evenly over generators. The first ones get the remainder."""
    return {name: count // len(names) + (i < count % len(names)) for i, name in enumerate(names)}
