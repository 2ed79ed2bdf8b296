"""The verbs run and backends, which run a sealed model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, app, guarded, named_model, print_json
from sevenfold.core.errors import GateError

if TYPE_CHECKING:
    from sevenfold.engine.session import Model

DEFAULT_TOKENS = 64
MAX_PROMPT_BYTES = 16 << 20


def read_prompt(prompt: str) -> str:
    """Return the prompt of an argument: the argument itself, or for `-` all of standard input, byte
    for byte.

    Raises:
        GateError: standard input is empty or has more than 16 MiB, or the prompt is not UTF-8.
    """
    if prompt != "-":
        # Bytes of an argument that the locale cannot decode arrive as surrogates, which are turned
        # back into bytes.
        data, where = prompt.encode(errors="surrogateescape"), "prompt"
    else:
        data, where = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1), "standard input"
        if not data:
            raise GateError(
                "no prompt: it is empty",
                where=where,
                remedy="pipe text into the command, or give PROMPT as text",
            )
    if len(data) > MAX_PROMPT_BYTES:
        raise GateError(
            f"the prompt has more than {MAX_PROMPT_BYTES} bytes", where=where, remedy="shorten it"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise GateError(
            f"the prompt is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}",
            where=where,
            remedy="give text in UTF-8",
        ) from error


@app.command()
@guarded
def run(
    file: FileArg,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to complete; - reads it from standard input.")
    ],
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            metavar="N",
            min=1,
            help=f"Tokens to add, at most; {DEFAULT_TOKENS}, or what the context has room for, if not given.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Engine: native, torch or reference; by default the fastest that passes its self-test.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            max=64,
            help="Threads of the native engine; changes no bit.",
        ),
    ] = None,
    domain: Annotated[
        str,
        typer.Option("--domain", metavar="NAME", help="Domain of the expert stack that reads the prompt."),
    ] = "",
    allow_anonymous: Annotated[
        bool,
        typer.Option("--allow-anonymous", help="Run a model that does not record its origin."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Complete a prompt greedily, with integers only, behind the CM-1 gate."""
    from sevenfold.engine.backends import find_backend
    from sevenfold.engine.session import Model

    if backend is not None:
        find_backend(backend)
    text = read_prompt(prompt)
    model = Model.open(file, backend=backend, n_threads=threads, allow_anonymous=allow_anonymous)
    if model.note:
        print(f"s7: running on {model.backend}: {model.note}", file=sys.stderr)
    pieces, tokens = _complete(model, text, max_tokens, domain, is_shown=not as_json)
    if not as_json:
        print()
        return
    said = {"prompt": text, "text": "".join(pieces), "tokens": tokens}
    print_json(said | {"backend": model.backend, "root": model.artifact.root})


def _complete(
    model: Model, prompt: str, max_tokens: int | None, domain: str, *, is_shown: bool
) -> tuple[list[str], list[int]]:
    """Return the pieces and tokens of a completion. If `is_shown`, each piece is printed when it
    arrives. Raises GateError.
    """
    from sevenfold.artifact import visible_text

    pieces = []
    with model.session(prompt, max_tokens=max_tokens or 1, domain=domain) as session:
        for piece in session.generate(max_tokens or min(DEFAULT_TOKENS, session.room)):
            pieces.append(piece)
            if is_shown:
                # A model may emit control characters, which a terminal must not execute.
                print(visible_text(piece), end="", flush=True)
    return pieces, session.tokens


@app.command()
@guarded
def backends(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            readable=False,
            callback=named_model,
            help="Test them on this sealed model instead of the built-in one.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the engines, whether this machine can run them, and the self-test of each."""
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


@app.command()
@guarded
def models(as_json: JsonOption = False) -> None:
    """List the models that ship, each with the root of its file."""
    from dataclasses import asdict

    from sevenfold.artifact import open_artifact
    from sevenfold.core.errors import ArtifactError
    from sevenfold.core.shipped_models import shipped_models
    from sevenfold.report.console import print_table

    found = list(shipped_models().values())
    for model in found:
        root = open_artifact(model.path).root
        if root != model.root:
            raise ArtifactError(
                f"its root is {root}, the index says {model.root}",
                where=str(model.path),
                remedy="install the package of models again",
            )
    if as_json:
        print_json([asdict(model) | {"path": str(model.path)} for model in found])
        return
    rows = [[m.name, f"{m.n_bytes / 1e6:.1f} MB", m.licence, m.root, m.summary] for m in found]
    print_table("models", ("name", "size", "licence", "root", "summary"), rows)
    for model in found:
        print(f"{model.name}: {'; '.join(f'{name} {value}' for name, value in model.figures.items())}")
    if not found:
        print("no models are installed; name a sealed file (.s7l) by its path")
