"""Verbs that run a sealed model: run, backends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, app, guarded, print_json


@app.command()
@guarded
def run(
    file: FileArg,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Text to complete.")],
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="Tokens to add, at most.")
    ] = 64,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Engine: native, torch or reference; the fastest that passes, if not given.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            max=64,
            help="Threads of the native engine. The bits stay the same.",
        ),
    ] = None,
    domain: Annotated[
        str,
        typer.Option("--domain", metavar="NAME", help="Expert stack that reads the prompt, by its domain."),
    ] = "",
    allow_anonymous: Annotated[
        bool,
        typer.Option("--allow-anonymous", help="Run a model that does not say where it comes from."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Complete a prompt, greedily, with integers only, behind the CM-1 gate."""
    from sevenfold.artifact import visible_text
    from sevenfold.engine.backends import find_backend
    from sevenfold.engine.session import Model

    if backend is not None:
        find_backend(backend)
    model = Model.open(file, backend=backend, n_threads=threads, allow_anonymous=allow_anonymous)
    if model.note:
        print(f"s7: running on {model.backend}: {model.note}", file=sys.stderr)
    with model.session(prompt, max_tokens=max_tokens, domain=domain) as session:
        pieces = []
        for piece in session.generate(max_tokens):
            pieces.append(piece)
            if not as_json:
                # The model may say control characters; a terminal must not obey them.
                print(visible_text(piece), end="", flush=True)
    if not as_json:
        print()
        return
    said = {"prompt": prompt, "text": "".join(pieces), "tokens": session.tokens}
    print_json(said | {"backend": model.backend, "root": model.artifact.root})


@app.command()
@guarded
def backends(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", readable=False, help="Prove them on this sealed model, not on the built-in one."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the engines, what this machine can run, and the self-test of each."""
    from sevenfold.engine.session import backend_states
    from sevenfold.report.console import print_table

    states = backend_states(file)
    if as_json:
        print_json(states)
    else:
        rows = [[s["name"], s["status"], s["detail"]] for s in states]
        print_table("backends", ("name", "self-test", "detail"), rows)
    if any(s["status"] == "fail" for s in states):
        raise typer.Exit(3)
