"""The verb tokenizer-report, which measures tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.core.hashing import Json


@app.command("tokenizer-report")
@guarded
def tokenizer_report(
    file: Annotated[Path, typer.Argument(metavar="TOKENIZER", readable=False, help="A tokenizer.json.")],
    holdout: Annotated[
        Path, typer.Argument(metavar="HOLDOUT", readable=False, help="Documents (heldout.parquet of a run).")
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="TOKENIZER",
            readable=False,
            help="A second tokenizer, measured on the same documents.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", readable=False, help="Also write report.json and report.png here."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a tokenizer on held-out documents, alone or beside another: tokens, round trip,
    fragmentation, and the targets of C2.
    """
    from sevenfold.core.documents import read_documents
    from sevenfold.core.files import read_bytes, write_json
    from sevenfold.core.ownership import is_json_of, is_picture, refuse_foreign
    from sevenfold.tokenizer.codec import Tokenizer
    from sevenfold.tokenizer.report import compare, measure, targets

    if against == file:
        raise UsageError("the two tokenizers are the same file", where="--against", remedy="name another")
    if out is not None:
        refuse_foreign(out / "report.json", is_json_of("figures", "targets", "comparison"), "report")
        refuse_foreign(out / "report.png", is_picture, "picture")
    figures = {
        str(path): measure(Tokenizer.from_json(read_bytes(path)), read_documents(holdout))
        for path in (file, against)
        if path is not None
    }
    one = figures[str(file)]
    two = None if against is None else figures[str(against)]
    value = {
        "figures": figures,
        "targets": targets(one, two),
        "comparison": None if two is None else compare(one, two),
    }
    if out is not None:
        from sevenfold.report.tokenizers import write_plot

        write_json(out / "report.json", value)
        write_plot(out / "report.png", figures)
    if as_json:
        print_json(value)
    else:
        _print(value)


def _print(value: dict[str, Json]) -> None:
    from sevenfold.report.console import print_table

    columns = ("bytes_per_token", "tokens_per_line", "fertility", "round_trip", "oov")
    for path, one in value["figures"].items():
        groups = {
            "all": one["all"],
            **one["domains"],
            **{f".{name}": rates for name, rates in one["extensions"].items()},
        }
        rows = [[name, *(f"{rates[column]:.4f}" for column in columns)] for name, rates in groups.items()]
        identifiers = one["identifiers"]
        print_table(f"{path}, {one['vocab_size']:,} entries", ("documents", *columns), rows)
        print(
            f"an identifier is {identifiers['mean_tokens']:.3f} tokens; {identifiers['share_whole']:.1%}"
            " are one"
        )
    if value["comparison"] is not None:
        first, second = value["figures"]
        shown = [
            [
                row["group"],
                row["figure"],
                *("-" if row[key] is None else f"{row[key]:.4f}" for key in ("a", "b", "b_over_a")),
            ]
            for row in value["comparison"]
        ]
        print_table(f"A: {first}, B: {second}", ("group", "figure", "A", "B", "B / A"), shown)
    rows = [
        [row["target"], row["wanted"], "-" if row["found"] is None else f"{row['found']:.6g}", row["state"]]
        for row in value["targets"]
    ]
    print_table("targets of C2", ("target", "wanted", "found", "state"), rows)
