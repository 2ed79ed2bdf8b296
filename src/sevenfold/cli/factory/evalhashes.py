"""The verb eval-hashes, which writes the hashes of evaluation sets for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json


@app.command("eval-hashes")
@guarded
def eval_hashes(
    sets: Annotated[
        Path, typer.Argument(metavar="DIR", readable=False, help="Directory of evaluation sets.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", readable=False, help="The file of hashes to write.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Hash evaluation sets, so that a corpus can leave out their contents
    (corpus.steps.decontaminate).
    """
    from sevenfold.corpus.text.contamination_index import build
    from sevenfold.report.console import print_table

    value = build(sets, out)
    if as_json:
        print_json(value)
        return
    names = ("name", "n_items", "n_items_too_short", "n_ngrams", "n_functions")
    head = ("set", "tasks", "of these too short", "13-grams", "functions")
    print_table("evaluation sets", head, [[str(row[name]) for name in names] for row in value["sets"]])
    print(f"sha256: {value['sha256']}")
