"""The verbs export and import, which exchange models with other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.base import JsonOption, RunArg, app, guarded, print_json


@app.command()
@guarded
def export(
    path: RunArg,
    to: Annotated[
        str, typer.Option("--to", metavar="TARGET", help="gguf, hf, vllm-config, safetensors or bundle.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", readable=False, help="File to write; a directory for hf, vllm-config."
        ),
    ],
    quant: Annotated[
        str | None,
        typer.Option(
            "--quant",
            metavar="TYPE",
            help="f32 (if left out), f16, bf16; gguf: q8_0, q4_k, iq4_xs, tq2_0, i2_s, ...",
        ),
    ] = None,
    ids_only: Annotated[
        bool,
        typer.Option(
            "--ids-only", help="gguf: accept that llama.cpp splits text differently; the ids are the same."
        ),
    ] = False,
    no_parity: Annotated[
        bool, typer.Option("--no-parity", help="Read the file back, but run no other runtime.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model for other runtimes, and prove on those installed that it answers the same."""
    from sevenfold.export.run import SEALED, Request
    from sevenfold.export.run import export as run_export
    from sevenfold.report.console import close_progress, make_progress, print_table

    progress = make_progress()
    try:
        kind = quant or (SEALED if to == "bundle" else "f32")
        request = Request(target=to, quant=kind, ids_only=ids_only, proven=not no_parity)
        report = run_export(path, out, request, progress)
    finally:
        close_progress(progress)
    if as_json:
        print_json(report)
        return
    if not report["checks"]:
        print(f"{out}: `s7 verify {out}` proves it")
        return
    rows = [[c["runtime"], c["name"], c["status"], c["detail"]] for c in report["checks"]]
    print_table(f"{out}", ("runtime", "check", "result", "detail"), rows)


@app.command("import")
@guarded
def import_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="hf or gguf.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", readable=False, help="A directory, or a .gguf file.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", readable=False, help="The directory to write.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Recipe with the family, corpus and gates; the shape is that of the file.",
        ),
    ] = None,
    cut_padding: Annotated[
        bool,
        typer.Option("--cut-padding", help="Leave out rows of the embedding that belong to no token."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a dense Llama from elsewhere: weights, vocabulary, and a recipe that `s7 make`
    quantises and seals.
    """
    from sevenfold.core.run_files import IMPORTED_RECIPE
    from sevenfold.export.importer import import_model
    from sevenfold.recipe import load_recipe, resolve_recipe_path

    base = load_recipe(resolve_recipe_path(recipe)) if recipe is not None else None
    report = import_model(kind, path, out, base, cut_padding=cut_padding)
    if as_json:
        print_json(report)
    else:
        for note in report["notes"]:
            print(f"note: {note}", file=sys.stderr)
        print(
            f"{out / IMPORTED_RECIPE}: {report['name']}, {report['n_parameters']:,} parameters, marked"
            f" {report['pretrained']}"
        )
