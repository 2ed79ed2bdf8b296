"""The verb trace-output, which finds what a model repeated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, print_json

# Characters of a span that the table shows.
_SHOWN = 60


@app.command(name="trace-output")
@guarded
def trace_output(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What a model wrote; - reads standard input.")],
    corpus: Annotated[
        Path, typer.Option("--corpus", metavar="RUN", readable=False, help="The run with the corpus.")
    ],
    least: Annotated[
        int, typer.Option("--least", metavar="BYTES", min=1, help="Length of the shortest span shown.")
    ] = 50,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", readable=False, help="The index; else spans/ in RUN."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the parts of a text that stand word for word in a corpus, with
    source, path and licence. The index is built once.
    """
    from sevenfold.corpus.spans import open_spans
    from sevenfold.report.console import close_progress, make_progress, print_table

    data = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    progress = make_progress()
    try:
        spans = open_spans(corpus, index, progress)
    finally:
        close_progress(progress)
    found = spans.find(data, least)
    if as_json:
        shown = [span.facts() | {"text": _part(data, span.start, span.end)} for span in found]
        print_json({"corpus": spans.root, "n_bytes": len(data), "least": least, "spans": shown})
        return
    rows = [
        [
            f"{span.start}..{span.end}",
            ascii(_part(data, span.start, span.end))[1:-1][:_SHOWN],
            f"{span.source}/{span.path}:{span.line}",
            span.licence,
        ]
        for span in found
    ]
    if rows:
        print_table("spans that stand in the corpus", ("bytes", "text", "where", "licence"), rows)
    covered = sum(span.end - span.start for span in found)
    print(f"{len(found)} spans, {covered} of {len(data)} bytes, of at least {least} bytes each")


def _part(data: bytes, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")
