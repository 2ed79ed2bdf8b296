"""The verb chat: a greedy conversation in the terminal, in the prompt format of the server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, app, guarded

if TYPE_CHECKING:
    from sevenfold.engine.session import Model
    from sevenfold.serve.prompts import Prompts

ROOM_FOR_ANSWER = 256


@app.command()
@guarded
def chat(
    file: FileArg,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="Most tokens of an answer.")
    ] = ROOM_FOR_ANSWER,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, max=64, help="Threads of the engine.")
    ] = None,
) -> None:
    """Talk with a model in the terminal; an empty line or Ctrl-D ends it."""
    from sevenfold.artifact import visible_text
    from sevenfold.engine.session import Model
    from sevenfold.release.lineage import at
    from sevenfold.serve.prompts import Prompts
    from sevenfold.tokenizer.chat.template import sealed_template

    model = Model.open(file, n_threads=threads)
    facts = at(model.artifact.provenance, "identity", "facts")
    prompts, messages = Prompts(model.tokenizer, sealed_template(facts)), list[dict[str, str]]()
    for said in _lines():
        messages.append({"role": "user", "content": said})
        pieces = []
        for piece in _answer(model, prompts, messages, max_tokens):
            pieces.append(piece)
            # A model may emit control characters, which a terminal must not execute.
            print(visible_text(piece), end="", flush=True)
        print()
        messages.append({"role": "assistant", "content": "".join(pieces)})


def _lines() -> Iterator[str]:
    """Yield typed lines up to an empty one."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline().rstrip("\n")
        if not line:
            return
        yield line


def _answer(model: Model, prompts: Prompts, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
    """Yield the answer. When the context is too short, the earliest messages are left out and a
    message says so.

    Raises:
        GateError: a control character, or a message that alone exceeds the context.
    """
    room = max(1, model.context - max_tokens)
    _, ids = prompts.chat(messages)
    while len(ids) > room and len(messages) > 1:
        del messages[0]
        _, ids = prompts.chat(messages)
        print("s7: the earliest message was left out: the context is full", file=sys.stderr)
    with model.session() as session:
        session.prefill(ids)
        yield from session.generate(min(max_tokens, session.room))
