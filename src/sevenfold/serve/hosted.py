"""Chats in which the server itself calls tools: calls of the model are run here, and the client gets
the answer.

A request names tools of the server by their type: `"tools": [{"type": "calculator"}]`. What they are
is told to `Server.hosted` by who starts the server; without it there are none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sevenfold.core.errors import SevenfoldError
from sevenfold.serve.answers import Running
from sevenfold.serve.errors import RequestError
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.prompts import content_of
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.protocols.openai_api import CHAT, Asked, Writer, messages_of, read_chat
from sevenfold.serve.registry import Served
from sevenfold.tokenizer.chat.calls import neutral

Turns = list[tuple[str, str]]
Ask = Callable[[Turns, str], Awaitable[str]]


class _Result(Protocol):
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...


class _Outcome(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def result(self) -> _Result: ...


class _Answer(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def outcomes(self) -> Sequence[_Outcome]: ...


class HostedTools(Protocol):
    """Tools that a server offers."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the types by which a client names them."""

    def schema(self, name: str) -> dict[str, Any]:
        """Return the JSON schema of the arguments of one."""

    def note(self, names: Sequence[str]) -> str:
        """Return what a model is told of some."""

    def check(self, family: str, names: Sequence[str]) -> None:
        """Refuse what a model's family forbids. Raises SevenfoldError."""

    async def converse(
        self, turns: Turns, ask: Ask, names: Sequence[str], *, model_root: str, first: str = ""
    ) -> _Answer:
        """Return the answer to a conversation. Raises SevenfoldError."""


@dataclass(frozen=True, kw_only=True)
class HostedChat:
    """A request that names tools of the server. `first`: the one that is called first, or ""."""

    names: tuple[str, ...]
    first: str


def hosted_chat(fields: Fields, hosted: HostedTools | None, off: Sequence[str]) -> HostedChat | None:
    """Return which tools of the server a request names; None when it names none.

    Raises:
        RequestError: it mixes them with functions, names unknown ones, or asks for what they have not.
    """
    tools, choice = fields.values.get("tools"), fields.values.get("tool_choice")
    if hosted is None or not isinstance(tools, list) or choice == "none":
        return None
    types = [str(tool.get("type")) if isinstance(tool, dict) else "" for tool in tools]
    if not any(kind in hosted.names for kind in types):
        return None
    for place, kind in enumerate(types):
        if kind not in hosted.names or tools[place].keys() != {"type"}:
            raise RequestError(
                "it is no tool of this server",
                where=f"tools[{place}]",
                remedy=f'use {{"type": NAME}} with one of {", ".join(hosted.names)}, and no functions beside',
            )
    if fields.integer("n", 1, 1, 1 << 31) != 1:
        raise RequestError("several answers with tools of the server", where="n", remedy="use 1")
    names = tuple(name for name in dict.fromkeys(types) if name not in off)
    named = choice.get("type") if isinstance(choice, dict) else None
    if choice == "required" and len(names) == 1:
        named = names[0]
    if choice not in (None, "auto") and named not in names:
        raise RequestError(
            "it names no tool of this request",
            where="tool_choice",
            remedy='use auto, none, or {"type": NAME}',
        )
    return HostedChat(names=names, first=named or "")


class HostedRun:
    """One such chat while it runs: each round is a generation of its own."""

    def __init__(
        self, fields: Fields, served: Served, limits: ServerLimits, salt: str, chat: HostedChat
    ) -> None:
        self._fields, self._served, self._limits, self._salt = fields, served, limits, salt
        self._chat = chat
        self._usage: dict[str, int] = {}
        self._last: tuple[Asked, Running] | None = None

    async def answer(
        self, hosted: HostedTools, whole: Callable[[Running], Awaitable[None]]
    ) -> tuple[dict[str, Any], Asked]:
        """Return the answer as a client reads it, and the last request of the model.

        Args:
            whole: waits for the end of a generation.

        Raises:
            RequestError: the request, a tool or the engine is refused.
        """

        async def ask(turns: Turns, name: str) -> str:
            asked = self._asked(hosted, turns, name)
            async with Running(asked.served, asked.generations) as running:
                await whole(running)
            self._last = asked, running
            self._count(running)
            return running.samples[0][0].text

        names, served = self._chat.names, self._served
        try:
            hosted.check(served.family, names)
            ended = await hosted.converse(
                self._turns(hosted), ask, names, model_root=served.root, first=self._chat.first
            )
        except RequestError:
            raise
        except SevenfoldError as error:
            raise RequestError.of(error) from error
        if self._last is None:
            raise RequestError("the model was not asked", status=500)
        asked, running = self._last
        value = Writer(asked, running).whole() | {"usage": {**self._usage}}
        (choice,) = value["choices"]
        choice["message"] = {"role": "assistant", "content": ended.text, "refusal": None}
        if choice["finish_reason"] == "tool_calls":
            # The rounds were used up, and the last answer was a call again.
            choice["finish_reason"] = "stop"
        value["tool_results"] = [
            {"type": one.name, "outcome": one.result.outcome, "reason": one.result.reason}
            for one in ended.outcomes
        ]
        return value, asked

    def _count(self, running: Running) -> None:
        for key, n in running.usage().items():
            if isinstance(n, int):
                self._usage[key] = self._usage.get(key, 0) + n

    def _turns(self, hosted: HostedTools) -> Turns:
        """Return the turns of the request, behind what tells of the tools. Raises RequestError."""
        turns: Turns = []
        for place, message in enumerate(messages_of(self._fields, self._limits)):
            role = message.get("role") if isinstance(message, dict) else None
            if role not in ("system", "developer", "user", "assistant"):
                raise RequestError(
                    "results of the server's tools come from the server alone",
                    where=f"messages[{place}]",
                    remedy="send turns of system, user and assistant",
                )
            text = content_of(message, f"messages[{place}].content")
            # A turn of the client forges no other turn, such as a result.
            turns.append((role, neutral(text)))
        note = hosted.note(self._chat.names)
        if turns[0][0] in ("system", "developer"):
            return [(turns[0][0], f"{note}\n{turns[0][1]}"), *turns[1:]]
        return [("system", note), *turns]

    def _asked(self, hosted: HostedTools, turns: Turns, name: str) -> Asked:
        values = {key: value for key, value in self._fields.values.items() if key not in _OURS}
        values["messages"] = [{"role": role, "content": text} for role, text in turns]
        if name:
            function = {"name": name, "parameters": hosted.schema(name)}
            values |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
        return read_chat(Fields(values), self._served, self._limits, self._salt)


# Fields of the request that its rounds do not have.
_OURS = frozenset(("messages", "tools", "tool_choice", "stream", "stream_options", "receipt", "n"))


async def hosted_chunks(value: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yield a whole answer as the chunks of a stream: its text comes at once."""
    head = {key: value[key] for key in ("id", "created", "model", "system_fingerprint")}
    head["object"] = f"{CHAT}.chunk"
    (choice,) = value["choices"]
    for delta, reason in (
        ({"role": "assistant", "content": ""}, None),
        ({"content": choice["message"]["content"]}, None),
        ({}, choice["finish_reason"]),
    ):
        yield head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
    yield head | {"choices": [], "usage": value["usage"], "tool_results": value["tool_results"]}
