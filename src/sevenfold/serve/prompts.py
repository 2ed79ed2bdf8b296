"""Encode what a client sends (raw prompts, infill, chats), and decide which texts may name a
special token.

A raw prompt may name special tokens, because editors build fill-in-middle prompts themselves. The
texts of an infill request, a suffix and the messages of a chat may not. There the characters of a
special token are text, so a file that contains `<|endoftext|>` cannot end its own context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sevenfold.artifact.control import check_text
from sevenfold.serve.errors import NOT_IMPLEMENTED, RequestError
from sevenfold.tokenizer.chat.calls import CallError, ToolCall, parse_calls
from sevenfold.tokenizer.chat.template import ANSWERS, INSTRUCTION, ChatTemplate
from sevenfold.tokenizer.codec import Tokenizer

FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@dataclass(frozen=True)
class Prompts:
    """The encoder of texts for one vocabulary. `template` is the form of a chat of the model."""

    tokenizer: Tokenizer
    template: ChatTemplate = INSTRUCTION

    def plain(self, text: str, field: str) -> list[int]:
        """Return the ids of a text in which names of special tokens are text. Raises GateError."""
        check_text(text, field)
        return self.tokenizer.encode(text)

    def parsed(self, text: str, field: str) -> list[int]:
        """Return the ids of a text in which names of special tokens are special tokens. Raises
        GateError.
        """
        check_text(text, field)
        names = sorted(self.tokenizer.special_tokens, key=len, reverse=True)
        if not names:
            return self.tokenizer.encode(text)
        ids: list[int] = []
        for i, part in enumerate(re.split(f"({'|'.join(map(re.escape, names))})", text)):
            ids += [self.tokenizer.special_id(part)] if i % 2 else self.tokenizer.encode(part)
        return ids

    def raw(self, text: str, field: str = "prompt", *, specials: bool = True) -> list[int]:
        """Return the ids of a raw prompt, preceded once by the token that begins a text."""
        ids = self.parsed(text, field) if specials else self.plain(text, field)
        begins = self.tokenizer.roles.begin
        if ids and (ids[0] == begins or self._is_marked(ids[0])):
            return ids
        return self.tokenizer.begun(ids)

    def _is_marked(self, token: int) -> bool:
        return self.tokenizer.special_name(token) in FIM

    @property
    def has_infill(self) -> bool:
        """Return whether the vocabulary reserves the tokens of fill-in-middle."""
        return all(name in self.tokenizer.special_tokens for name in FIM)

    def infill(self, prefix: str, suffix: str, extra: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Return the ids of a fill-in-middle prompt: the prefix, the suffix, and the token after
        which the middle follows.

        Args:
            extra: the names and texts of other files, which come before the prefix.

        Raises:
            RequestError: the model was trained without fill-in-middle (501).  GateError: a control
                character.
        """
        if not self.has_infill:
            raise RequestError(
                "the vocabulary of this model has no tokens for fill-in-middle",
                remedy="serve a model whose recipe sets train.objectives.fim",
                status=NOT_IMPLEMENTED,
            )
        for name, _ in extra:
            check_text(name, "input_extra")
        before = "".join(f"# {name}\n{text}\n" for name, text in extra if text)
        marks = [self.tokenizer.special_id(name) for name in FIM]
        ahead = self.plain(before + prefix, "input_prefix")
        return [marks[0], *ahead, marks[1], *self.plain(suffix, "input_suffix"), marks[2]]

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[int]]:
        """Return the text and the ids of a chat, up to the beginning of the next answer."""
        turns, roles = [], self.template.headings
        for place, message in enumerate(messages):
            role = message.get("role") if isinstance(message, dict) else None
            if not isinstance(role, str) or role not in roles:
                raise RequestError(
                    f"the role {role!r:.40} is not known",
                    where=f"messages[{place}]",
                    remedy=f"use {', '.join(roles)}",
                )
            said = _calls_of(message, f"messages[{place}]") or content_of(
                message, f"messages[{place}].content"
            )
            turns.append((role, said))
        text = self.template.prompt(turns)
        check_text(text, "messages")
        return text, self.template.prompt_ids(self.tokenizer, turns)


def _calls_of(message: Mapping[str, Any], field: str) -> str:
    """Return the tool calls of an earlier answer as the model wrote them (specs/tools.md); "" without.

    Raises RequestError.
    """
    calls = message.get("tool_calls")
    if message.get("role") != ANSWERS or not calls:
        return ""
    try:
        functions = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
        texts = [ToolCall(name=name, arguments=json.loads(said or "{}")).text() for name, said in functions]
        for text in texts:
            parse_calls(text)
    except (TypeError, KeyError, ValueError, RecursionError, CallError) as error:
        where = f"{field}.tool_calls"
        raise RequestError("they are no calls of functions", where=where, remedy="send them back") from error
    return "\n".join(texts)


def content_of(message: Mapping[str, Any], field: str) -> str:
    """Return the text of a message: a string, or parts of type text. Raises RequestError."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = []
        for part in content:
            if not isinstance(part, dict) or part.get("type") not in ("text", "input_text"):
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise RequestError(f"a part of type {kind!r:.40}", where=field, remedy="send text parts")
            if not isinstance(part.get("text"), str):
                raise RequestError("a text part without text", where=field, remedy="send a string")
            parts.append(part["text"])
        return "".join(parts)
    raise RequestError(f"{type(content).__name__} as content", where=field, remedy="send a string")
