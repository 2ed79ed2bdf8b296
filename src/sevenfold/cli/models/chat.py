"""The verb chat: a greedy conversation in the terminal, in the prompt format of the server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, app, guarded
from sevenfold.cli.models.tools import DomainsOption, LogOption, MemoryOption, ToolsOption, host_of

if TYPE_CHECKING:
    from sevenfold.agent.tools.hosting import ToolHost
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
    tools: ToolsOption = None,
    memory: MemoryOption = None,
    domains: DomainsOption = None,
    tool_log: LogOption = None,
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
    with host_of(tools, memory, domains, tool_log) as host:
        if host is not None:
            host.check(str(at(facts, "family") or ""), host.names)
            _chat_with_tools(model, prompts, host, max_tokens)
            return
    for said in _lines():
        messages.append({"role": "user", "content": said})
        pieces = []
        for piece in _answer(model, prompts, messages, max_tokens):
            pieces.append(piece)
            # A model may emit control characters, which a terminal must not execute.
            print(visible_text(piece), end="", flush=True)
        print()
        messages.append({"role": "assistant", "content": "".join(pieces)})


def _chat_with_tools(model: Model, prompts: Prompts, host: ToolHost, max_tokens: int) -> None:
    """Talk, and run the calls of each answer. Calls are told on standard error."""
    from sevenfold.agent.tools.loop import Turns, converse
    from sevenfold.tokenizer.chat.calls import CALL_START, neutral

    conversation = host.open(host.names, model.artifact.root)
    turns: Turns = []

    async def ask(turns: Turns, name: str) -> str:
        messages = [{"role": role, "content": text} for role, text in turns]
        begun = host.begun(name) if name else ""
        answer = begun + "".join(_answer(model, prompts, messages, max_tokens, begun=begun, n_kept=1))
        if answer.startswith(CALL_START):
            print(f"s7: calls {neutral(answer, 200)}", file=sys.stderr)
        return answer

    for said in _lines():
        turns.append(("user", said))
        whole = [("system", host.note(host.names)), *turns]
        ended = asyncio.run(converse(whole, ask, conversation, host.chooser))
        for one in ended.outcomes:
            ends = f"{one.name or 'call'}: {one.result.outcome} {one.result.reason}"
            print(f"s7: {ends.rstrip()}", file=sys.stderr)
        if ended.outcomes and not ended.text:
            print("s7: there is no answer: every round of it was a call", file=sys.stderr)
        print(neutral(ended.text), flush=True)
        turns[:] = [*ended.turns[1:], ("assistant", neutral(ended.text))]


def _lines() -> Iterator[str]:
    """Yield typed lines up to an empty one."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline().rstrip("\n")
        if not line:
            return
        yield line


def _answer(
    model: Model,
    prompts: Prompts,
    messages: list[dict[str, str]],
    max_tokens: int,
    *,
    begun: str = "",
    n_kept: int = 0,
) -> Iterator[str]:
    """Yield the answer. When the context is too short, the earliest messages are left out and a
    message says so.

    Args:
        begun: what the answer begins with; it is not yielded.
        n_kept: messages at the beginning that stay.

    Raises:
        GateError: a control character, or a message that alone exceeds the context.
    """
    begins = model.tokenizer.encode(begun)
    room = max(1, model.context - max_tokens - len(begins))
    _, ids = prompts.chat(messages)
    while len(ids) > room and len(messages) > n_kept + 1:
        del messages[n_kept]
        _, ids = prompts.chat(messages)
        print("s7: the earliest message was left out: the context is full", file=sys.stderr)
    with model.session() as session:
        session.prefill([*ids, *begins])
        yield from session.generate(min(max_tokens, session.room))
